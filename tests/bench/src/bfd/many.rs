//! Many sessions of one node: the processor time of the BFD thread.

use std::net::{Ipv4Addr, UdpSocket};
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
/// Port of the discard protocol, to which the plain sender sends.
const DISCARD: u16 = 9;
/// Octets of a BFD Control packet (RFC 5880 §4.1).
const PACKET: usize = 24;
/// Longest time for which the plain sender is ahead: it sends several packets after each sleep.
const PACE: Duration = Duration::from_millis(1);
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
        let (host, responder) = sessions(stage)?;
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
        let per_second = (after.0 - before.0) as f64 / seconds;
        drop(responder);
        let floor = plain_sender(stage, &host, per_second)?;
        section.row(
            "floor: a thread that only sends as much",
            [percent(floor), format!("{per_second:.0}"), none(), none(), none()],
        );
        section.note("target: < 3 % of a core; from the scheduler's count of nanoseconds of the thread");
        section.note(
            "floor: one send per packet, nothing else; the kernel counts the way through the lab's switch to \
             the socket of the other end as time of the sender",
        );
        section.note("the other end is scripted, and has priority as on a machine of its own");
        if let Err(error) = priority {
            section.note(format!("no priority: {error:#}"));
        }
        Ok(section)
    })
}

/// Creates the peers of n1 and the host that answers at all their addresses.
fn sessions(stage: &Stage) -> Result<(Host, Responder)> {
    let addresses = addresses();
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
    Ok((host, responder))
}

/// The addresses of the other ends.
fn addresses() -> Vec<Ipv4Addr> {
    (0..SESSIONS).filter_map(|i| Some(Ipv4Addr::from(0x0a63_0001 + u32::try_from(i).ok()?))).collect()
}

/// Returns the share of a core that a thread of n1 uses which sends `per_second` packets of the size of BFD's
/// to the same addresses. A socket that nobody reads takes them.
fn plain_sender(stage: &Stage, host: &Host, per_second: f64) -> Result<f64> {
    let _sink = host.netns().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DISCARD)))??;
    let node = stage.lab.network().nodes.first().context("no node")?;
    node.netns.run(|| {
        let connect = |address| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((address, DISCARD))?;
            anyhow::Ok(socket)
        };
        let sockets = addresses().into_iter().map(connect).collect::<Result<Vec<_>>>()?;
        let (before, start) = (usage::this_thread_cpu()?, Instant::now());
        for (sent, socket) in (0_u32..).zip(sockets.iter().cycle()) {
            let elapsed = start.elapsed();
            if elapsed >= COUNTED {
                break;
            }
            let ahead = f64::from(sent) / per_second - elapsed.as_secs_f64();
            if ahead > PACE.as_secs_f64() {
                std::thread::sleep(PACE);
            }
            socket.send(&[0; PACKET])?;
        }
        let used = usage::this_thread_cpu()?.saturating_sub(before);
        Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
    })?
}

/// Returns the share of a core that the thread uses.
fn share(speaker: &fairlead_lab::Process) -> Result<f64> {
    let (before, start) = (usage::thread_cpu(speaker, THREAD)?, Instant::now());
    std::thread::sleep(COUNTED);
    let used = usage::thread_cpu(speaker, THREAD)?.saturating_sub(before);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}
