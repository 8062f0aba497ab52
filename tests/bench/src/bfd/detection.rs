//! The cable of a node is cut: how soon FRR and BIRD stop to use the node.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fairlead_lab::{Capture, Carrier, Family, Message, RouteMonitor, addresses, ensure, wait_for};
use ipnet::IpNet;

use super::{MULTIPLIER, bird, builder, set_interval, wait_until_up};
use crate::Options;
use crate::objects::{Plan, Pool};
use crate::stage::{DataPlane, NODES, SOON, Stage, on_stage_of};
use crate::statistics::Samples;
use crate::table::{self, Section};

/// Intervals in milliseconds, each with the longest time that is acceptable.
const INTERVALS: [(u64, Duration); 2] = [(100, Duration::from_millis(350)), (50, Duration::from_millis(200))];
/// State Down of a BFD Control packet (RFC 5880 §4.1).
const DOWN: u8 = 1;

/// Times of one cut, counted from before the command that cuts the cable.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// The router sends its first packet in Down.
    detected: Option<Duration>,
    /// The router's kernel has one next hop less.
    withdrawn: Duration,
}

/// Cuts the cable of one node, with and without carrier, with each interval.
///
/// # Errors
/// If the router keeps a next hop, or does not use it again.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    on_stage_of(builder(), DataPlane::Stopped, |stage| {
        let plan = Plan::new("detected", Pool::Bgp);
        let mut watch = stage.control.watch()?;
        stage.control.create_slice(&plan)?;
        stage.control.create_service(&plan)?;
        let (address, _) = watch.address(&plan.name, SOON)?;
        let route = IpNet::from(IpAddr::from(address));
        let mut section = Section::new(
            format!(
                "BFD: a cable is cut, until the router's kernel has one next hop less ({} rounds each)",
                options.rounds
            ),
            ["p50", "max", "target"],
        );
        let monitor = stage.lab.router().monitor_routes()?;
        for (interval, target) in INTERVALS {
            set_interval(stage, interval)?;
            for (what, carrier) in
                [("the link stays up", Carrier::Kept), ("the link goes down", Carrier::Lost)]
            {
                wait_for_route(stage, route)?;
                let cuts = (0..options.rounds).map(|_| cut(stage, &monitor, route, carrier, interval));
                let cuts = cuts.collect::<Result<Vec<_>>>()?;
                let row =
                    |section: &mut Section, what: String, samples: Samples<Duration>, target: String| {
                        let [p50, max] = [samples.median(), samples.max()].map(table::some_time);
                        section.row(what, [p50, max, target]);
                    };
                let withdrawn = cuts.iter().map(|cut| cut.withdrawn).collect();
                let detected = cuts.iter().filter_map(|cut| cut.detected).collect();
                let what = format!("FRR, {MULTIPLIER} × {interval} ms, {what}");
                row(&mut section, what, withdrawn, format!("< {}", table::time(target)));
                let what = "  until BFD of FRR is Down".to_owned();
                row(&mut section, what, detected, String::new());
            }
        }
        for (interval, target) in INTERVALS {
            let bird = bird::Router::start(stage, route, interval)?;
            let withdrawn = (0..options.rounds).map(|_| bird.cut(stage)).collect::<Result<Samples<_>>>()?;
            let [p50, max] = [withdrawn.median(), withdrawn.max()].map(table::some_time);
            let what = format!("BIRD, {MULTIPLIER} × {interval} ms, the link stays up");
            section.row(what, [p50, max, format!("< {}", table::time(target))]);
        }
        section.note("FRR collects changes for 50 ms before it computes best paths, and for 10 ms before it installs them");
        section
            .note("time starts before the command that cuts the cable; the command takes some milliseconds");
        section.note(
            "routes: as the router's kernel tells them (netlink); Down: the first packet of FRR in Down",
        );
        section.note("the link goes down: the node sees it; it stays up: the switch drops its frames");
        Ok(section)
    })
}

fn cut(stage: &Stage, monitor: &RouteMonitor, route: IpNet, carrier: Carrier, interval: u64) -> Result<Cut> {
    let capture = stage.lab.capture_router()?;
    monitor.events()?;
    let start = Instant::now();
    stage.lab.cut("n1", carrier)?;
    let withdrawn = loop {
        let event = monitor.next(SOON).context("the router keeps the next hop")?;
        if event.prefix == route && event.next_hops < NODES {
            break event.at - start;
        }
    };
    let detected = first_down(&capture, start);
    stage.lab.mend()?;
    wait_until_up(stage, Some(interval))?;
    wait_for_route(stage, route)?;
    Ok(Cut { detected, withdrawn })
}

/// Returns how long after `start` the router told n1 that its session is Down.
fn first_down(capture: &Capture, start: Instant) -> Option<Duration> {
    let [router, node] = [addresses::router(), addresses::node(1)].map(|address| IpAddr::from(address.v4));
    let told = |message: &Message| {
        let Message::Bfd { from, to, state, .. } = message else { return false };
        (*from, *to, *state) == (router, node, DOWN)
    };
    let frames = capture.frames();
    let down = frames.iter().find(|seen| seen.at >= start && told(&seen.frame.message))?;
    Some(down.at - start)
}

fn wait_for_route(stage: &Stage, route: IpNet) -> Result<()> {
    wait_for("the route with all next hops", SOON, || {
        let routes = stage.lab.router().kernel_routes(Family::V4)?;
        let hops = routes.get(&route).map_or(0, std::collections::BTreeSet::len);
        ensure(hops == NODES, hops).map_err(|hops| anyhow!("{hops} next hops"))
    })
}
