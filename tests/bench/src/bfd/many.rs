//! Many sessions of one node: the processor time of the BFD thread.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fairlead_lab::peers::Host;
use fairlead_lab::{LAN_INTERFACE, wait_for};
use serde_json::json;

use super::responder::Responder;
use super::{VERSION, profile_object};
use crate::Options;
use crate::stage::{DataPlane, SOON, Stage, on_stage};
use crate::table::{Section, percent};
use crate::usage;

/// Number of sessions.
const SESSIONS: usize = 256;
/// Interval of both ends in milliseconds.
const INTERVAL: u32 = 50;
/// How long processor time is counted.
const COUNTED: Duration = Duration::from_secs(20);
/// Name of the thread.
const THREAD: &str = "bfd";
const UP: &str = "fairlead_speaker_bfd_session_up";
const DOWNS: &str = "fairlead_speaker_bfd_session_down_events_total";
const SENT: &str = "fairlead_speaker_bfd_control_packet_output_total";
const RECEIVED: &str = "fairlead_speaker_bfd_control_packet_input_total";

/// Measures one node with many sessions. The other end is scripted, because only the speaker is measured.
///
/// # Errors
/// If a session does not come up, or goes down.
pub(crate) fn measure(_: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let speaker = stage.lab.node("n1")?.speaker()?;
        let rest = share(speaker)?;
        let responder = sessions(stage)?;
        let priority = responder.prioritize();
        wait_for(format!("{SESSIONS} sessions in Up"), SOON, || {
            let up = speaker.metric_sum(UP)?;
            if up != SESSIONS as u64 {
                bail!("{up}");
            }
            Ok(())
        })?;
        // The sessions negotiate their interval after they are Up.
        std::thread::sleep(Duration::from_secs(5));
        let packets = || anyhow::Ok((speaker.metric_sum(SENT)?, speaker.metric_sum(RECEIVED)?));
        let (before, start) = (packets()?, Instant::now());
        let busy = share(speaker)?;
        let (after, seconds) = (packets()?, start.elapsed().as_secs_f64());
        let downs = speaker.metric_sum(DOWNS)?;
        let up = speaker.metric_sum(UP)?;
        let mut section = Section::new(
            format!("BFD: {SESSIONS} sessions of one node at {INTERVAL} ms, for {} s", COUNTED.as_secs()),
            ["share of a core", "sent/s", "received/s", "downs", "Up"],
        );
        let none = || "-".to_owned();
        section.row("thread of BFD, no session", [percent(rest), none(), none(), none(), none()]);
        let rate = |before: u64, after: u64| format!("{:.0}", (after - before) as f64 / seconds);
        section.row(
            "thread of BFD",
            [
                percent(busy),
                rate(before.0, after.0),
                rate(before.1, after.1),
                downs.to_string(),
                format!("{up}/{SESSIONS}"),
            ],
        );
        section.note("target: < 3 % of a core; from the scheduler's count of nanoseconds of the thread");
        section.note("the other end is scripted, and has priority as on a machine of its own");
        if let Err(error) = priority {
            section.note(format!("no priority: {error:#}"));
        }
        Ok(section)
    })
}

/// Creates the peers of n1 and the host that answers at all their addresses.
fn sessions(stage: &Stage) -> Result<Responder> {
    let addresses: Vec<Ipv4Addr> =
        (0..SESSIONS).filter_map(|i| Some(Ipv4Addr::from(0x0a63_0001 + u32::try_from(i).ok()?))).collect();
    let host = Host::plug(&stage.lab, "many", 9)?;
    let lines: String =
        addresses.iter().map(|address| format!("addr add {address}/32 dev {LAN_INTERFACE}\n")).collect();
    host.netns().feed(Command::new("ip").args(["-batch", "-"]), &lines)?;
    let node = stage.lab.network().nodes.first().context("no node")?;
    let mut route = Command::new("ip");
    route.args(["route", "add", "10.99.0.0/16", "dev", LAN_INTERFACE]);
    node.netns.output(&mut route)?;
    let responder = Responder::start(host.netns(), &addresses, INTERVAL)?;
    let api = stage.lab.api()?;
    api.apply_object(profile_object("many", INTERVAL.into()))?;
    for (address, i) in addresses.iter().zip(0..) {
        api.apply_object(json!({
            "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": format!("many-{i:03}") },
            "spec": {
                "myASN": 64513, "peerASN": 64999, "peerAddress": address, "bfdProfile": "many",
                "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }],
            },
        }))?;
    }
    Ok(responder)
}

/// Returns the share of a core that the thread uses.
fn share(speaker: &fairlead_lab::Process) -> Result<f64> {
    let (before, start) = (usage::thread_cpu(speaker, THREAD)?, Instant::now());
    std::thread::sleep(COUNTED);
    let used = usage::thread_cpu(speaker, THREAD)?.saturating_sub(before);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}
