//! Edits of a BGPPeer that need new sessions: how long each node is missing among the next hops.

use std::time::Duration;

use anyhow::{Result, anyhow};
use fairlead_lab::{RouteEvent, RouteMonitor, ensure, wait_for};
use ipnet::IpNet;
use serde_json::json;

use crate::Options;
use crate::objects::{Plan, Pool};
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage};
use crate::statistics::Samples;
use crate::table::{self, Section};

/// The speaker's counter of established sessions.
const ESTABLISHMENTS: &str = "fairlead_speaker_bgp_session_establishments_total";
/// Time without a change after which the kernel of the router has processed the last session.
const SETTLED: Duration = Duration::from_millis(500);

/// Runs the measure.
///
/// # Errors
/// If a session is not replaced, or a route has too few next hops.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage(DataPlane::Stopped, |stage| {
        let plan = Plan::new("edited", Pool::Bgp);
        let mut watch = stage.control.watch()?;
        stage.control.create_slice(&plan)?;
        stage.control.create_service(&plan)?;
        let (address, _) = watch.address(&plan.name, SOON)?;
        let route = IpNet::from(std::net::IpAddr::from(address));
        wait_for("the route with all next hops", SOON, || {
            let routes = stage.lab.router().kernel_routes(fairlead_lab::Family::V4)?;
            let hops = routes.get(&route).map_or(0, std::collections::BTreeSet::len);
            ensure(hops == NODES, hops).map_err(|hops| anyhow!("{hops}"))
        })?;
        let mut section = Section::new(
            format!(
                "A new session after an edit of holdTime: time of a node without route ({} edits, {NODES} nodes)",
                options.rounds
            ),
            ["p50", "max", "fewest next hops"],
        );
        for (what, graceful) in [("without graceful restart", false), ("with graceful restart", true)] {
            let monitor = stage.lab.router().monitor_routes()?;
            replace(stage, json!({ "enableGracefulRestart": graceful, "holdTime": "90s" }))?;
            settle(&monitor, route);
            let (mut gaps, mut fewest) = (Vec::new(), NODES);
            for round in 0..options.rounds {
                let hold_time = if round % 2 == 0 { "60s" } else { "90s" };
                replace(stage, json!({ "holdTime": hold_time }))?;
                let events = settle(&monitor, route);
                fewest = events.iter().map(|event| event.next_hops).min().unwrap_or(NODES).min(fewest);
                gaps.extend(gaps_of(&events));
            }
            let gaps: Samples<Duration> = gaps.into_iter().collect();
            section.row(
                what,
                [table::some_time(gaps.median()), table::some_time(gaps.max()), fewest.to_string()],
            );
        }
        section.note("as the router's kernel tells it (netlink); 0 where the router noticed no change");
        Ok(section)
    })
}

/// Edits the peer, and waits until each node has a new session.
fn replace(stage: &Stage, spec: serde_json::Value) -> Result<()> {
    let before = establishments(stage)?;
    let peer = json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": "router" },
    });
    stage.lab.api()?.merge(peer, json!({ "spec": spec }))?;
    wait_for("a new session of each node", SOON, || {
        let new = establishments(stage)? - before;
        ensure(new >= NODES as u64, new).map_err(|new| anyhow!("{new}"))
    })
}

fn establishments(stage: &Stage) -> Result<u64> {
    let name = format!("{ESTABLISHMENTS}{{peer=\"router\"}}");
    stage.speakers()?.iter().map(|speaker| speaker.metric(&name)).sum()
}

/// Returns the changes of a route until none follows any more.
fn settle(monitor: &RouteMonitor, route: IpNet) -> Vec<RouteEvent> {
    std::iter::from_fn(|| monitor.next(SETTLED)).filter(|event| event.prefix == route).collect()
}

/// Returns for each node how long its next hop was missing.
fn gaps_of(events: &[RouteEvent]) -> Vec<Duration> {
    let mut gaps = Vec::new();
    let mut missing = Vec::new();
    let mut before = NODES;
    for event in events {
        for _ in event.next_hops..before {
            missing.push(event.at);
        }
        for _ in before..event.next_hops {
            gaps.extend(missing.pop().map(|since| event.at - since));
        }
        before = event.next_hops;
    }
    gaps.resize(gaps.len().max(NODES), Duration::ZERO);
    gaps
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn each_node_has_one_gap() {
        let start = Instant::now();
        let event = |milliseconds: u64, next_hops| RouteEvent {
            at: start + Duration::from_millis(milliseconds),
            prefix: "198.18.0.1/32".parse().unwrap(),
            next_hops,
        };
        let gaps = |events: &[RouteEvent]| -> Vec<u128> {
            gaps_of(events).iter().map(Duration::as_millis).collect()
        };
        assert_eq!(gaps(&[]), [0, 0, 0]);
        assert_eq!(gaps(&[event(0, 2), event(70, 3), event(2_000, 2), event(2_060, 3)]), [70, 60, 0]);
        assert_eq!(gaps(&[event(0, 0), event(40, 1), event(50, 3)]), [40, 50, 50]);
    }
}
