//! What the router and the Speaker objects show of the BFD sessions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fairlead_e2e::VERSION;
use fairlead_lab::{Lab, wait_for};
use serde_json::Value;

/// Returns the BFD sessions of the router by address of the node (`show bfd peers json`).
pub(crate) fn router_peers(lab: &Lab) -> Result<BTreeMap<IpAddr, Value>> {
    by_peer(&lab.router().json("show bfd peers json")?)
}

/// Returns how often the sessions of the router went down, by address of the node.
pub(crate) fn router_downs(lab: &Lab) -> Result<BTreeMap<IpAddr, u64>> {
    let counters = by_peer(&lab.router().json("show bfd peers counters json")?)?;
    Ok(counters.into_iter().map(|(peer, c)| (peer, c["session-down"].as_u64().unwrap_or_default())).collect())
}

fn by_peer(sessions: &Value) -> Result<BTreeMap<IpAddr, Value>> {
    let sessions = sessions.as_array().context("bfdd lists no sessions")?;
    sessions
        .iter()
        .map(|session| {
            let peer = session["peer"].as_str().with_context(|| session.to_string())?;
            Ok((peer.parse()?, session.clone()))
        })
        .collect()
}

/// Returns the session with `peer` in the Speaker object of `node`: BGP with its BFD session.
pub(crate) fn session(lab: &Lab, node: &str, peer: &str) -> Result<Value> {
    let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
    let session = sessions.into_iter().flatten().find(|session| session["peer"] == peer);
    session.cloned().with_context(|| format!("no session with {peer} in {speaker}"))
}

/// Waits until the Speaker object of `node` shows a BFD session with `peer` that `condition` accepts.
pub(crate) fn expect_bfd(
    lab: &Lab,
    (node, peer): (&str, &str),
    what: &str,
    limit: Duration,
    condition: impl Fn(&Value) -> bool,
) -> Result<Value> {
    wait_for(format!("BFD of {node} with {peer}: {what}"), limit, || {
        let session = session(lab, node, peer)?;
        ensure!(condition(&session["bfd"]), "{session}");
        Ok(session)
    })
}

/// Waits until the sessions of all nodes with the router are Up on both sides.
pub(crate) fn expect_all_up(lab: &Lab, limit: Duration) -> Result<()> {
    for node in lab.nodes() {
        wait_for(format!("BFD of the router with {}", node.name()), limit, || {
            let peers = router_peers(lab)?;
            for address in node.addresses() {
                let session = peers.get(&address).with_context(|| format!("no session with {address}"))?;
                ensure!(session["status"] == "up", "{session}");
            }
            anyhow::Ok(())
        })?;
        for peer in ["router-v4", "router-v6"] {
            expect_bfd(lab, (node.name(), peer), "Up", limit, |bfd| bfd["state"] == "Up")?;
        }
    }
    Ok(())
}
