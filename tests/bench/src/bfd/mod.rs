//! BFD between the speakers and the router.

mod bird;
mod cpu_group;
mod detection;
mod many;
mod quiet;
mod responder;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fairlead_lab::{Builder, Lab, addresses, netns, wait_for};
use serde_json::{Value, json};

use crate::stage::{NODES, Stage};

pub(crate) use detection::measure as measure_detection;
pub(crate) use many::measure as measure_many;
pub(crate) use quiet::measure as measure_quiet;

/// The BFDProfile of the speakers, and the profile of the router.
const PROFILE: &str = "fast";
/// Multiplier of both ends: the default of FRR and of BFDProfile.
const MULTIPLIER: u64 = 3;

/// Returns a lab whose router has BFD sessions with the nodes. They are static neighbors, because FRR deletes
/// a dynamic neighbor, and its BFD session, with the BGP session.
fn builder() -> Builder {
    let neighbor = |node: usize| {
        let address = addresses::node(node).v4;
        format!(" neighbor {address} peer-group speakers\n neighbor {address} passive\n")
    };
    let neighbors: String = (1..=NODES).map(neighbor).collect();
    let bfd = format!(" neighbor speakers bfd\n neighbor speakers bfd profile {PROFILE}\n");
    Lab::builder().router_config(&(bfd + &neighbors))
}

/// Sets the intervals of both ends in milliseconds, and waits until the router uses them.
fn set_interval(stage: &Stage, interval: u64) -> Result<()> {
    let profile = format!("profile {PROFILE}");
    let (transmit, receive) =
        (format!("transmit-interval {interval}"), format!("receive-interval {interval}"));
    stage.lab.router().configure(&["bfd", &profile, &transmit, &receive])?;
    let api = stage.lab.api()?;
    api.apply_object(profile_object(PROFILE, interval))?;
    api.merge(
        json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": "router" } }),
        json!({ "spec": { "bfdProfile": PROFILE } }),
    )?;
    wait_until_up(stage, Some(interval))
}

const VERSION: &str = "fairlead.dev/v1beta1";

fn profile_object(name: &str, interval: u64) -> Value {
    json!({
        "apiVersion": VERSION, "kind": "BFDProfile", "metadata": { "name": name },
        "spec": {
            "transmitInterval": interval, "receiveInterval": interval, "detectMultiplier": MULTIPLIER,
        },
    })
}

/// Limit for the sessions to use their interval. A speaker that sent packets late returns to it after 60 s
/// without a late packet.
const IN_FORCE: Duration = Duration::from_secs(150);

/// Waits until the router has a session in Up with every node, and uses this interval.
fn wait_until_up(stage: &Stage, interval: Option<u64>) -> Result<()> {
    wait_for("BFD of the router with every node", IN_FORCE, || {
        let sessions = router_sessions(stage, "show bfd peers json")?;
        for node in stage.lab.nodes() {
            let [address, _] = node.addresses();
            let session = sessions.get(&address).with_context(|| format!("no session with {address}"))?;
            let seen = ["remote-transmit-interval", "remote-receive-interval"].map(|f| session[f].as_u64());
            if session["status"] != "up" || interval.is_some() && seen != [interval; 2] {
                bail!("{session}");
            }
        }
        Ok(())
    })
}

/// Returns what a command of the router prints about its BFD sessions, by address of the node.
fn router_sessions(stage: &Stage, command: &str) -> Result<BTreeMap<IpAddr, Value>> {
    let sessions = stage.lab.router().json(command)?;
    let sessions = sessions.as_array().context("bfdd lists no sessions")?;
    let entry = |session: &Value| {
        let peer = session["peer"].as_str().with_context(|| session.to_string())?;
        Ok((peer.parse()?, session.clone()))
    };
    sessions.iter().map(entry).collect()
}

/// Returns how often the sessions of the router went down.
fn router_downs(stage: &Stage) -> Result<u64> {
    let counters = router_sessions(stage, "show bfd peers counters json")?;
    Ok(counters.values().map(|counters| counters["session-down"].as_u64().unwrap_or_default()).sum())
}

/// Gives a thread a SCHED_FIFO priority: the other end of a session is another machine in a real network.
fn prioritize(thread: u32) -> Result<()> {
    netns::output(Command::new("chrt").args(["-f", "-p", "30", &thread.to_string()])).map(drop)
}
