//! Failures that BFD detects long before the hold time of BGP (9 s).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_e2e::{LbService, SECOND, SOON, all_nodes, expect_next_hops, expect_sessions, nodes};
use fairlead_lab::sys::Signal;
use fairlead_lab::{Carrier, Lab, Lost, RouteMonitor, observe_for};

use crate::LAB;
use crate::observed::{expect_all_up, router_downs};

/// Limit for the detection of a failure: 3 × 50 ms, on a machine that does much else.
const DETECTED_WITHIN: Duration = Duration::from_secs(1);

/// Creates a Service that all nodes announce, and returns it with its address.
pub(crate) fn announced(lab: &Lab, name: &str) -> (LbService, IpAddr) {
    let service = LbService::new(name, "bgp").single("IPv4");
    let ip = service.up(lab).unwrap()[0];
    expect_next_hops(lab, ip, &all_nodes(lab), SOON).unwrap();
    (service, ip)
}

/// Waits until the router's kernel uses one next hop less. Returns the time since `start`.
fn withdrawn_after(routes: &RouteMonitor, start: Instant) -> Duration {
    loop {
        let event = routes.next(SOON).expect("the router keeps the route");
        if event.next_hops == 2 {
            return event.at - start;
        }
    }
}

/// Cuts the cable of n1, and restores it.
fn cut(carrier: Carrier, diagnostic: &str) {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, &format!("bfd-{carrier:?}").to_lowercase());
    let routes = lab.router().monitor_routes().unwrap();
    let start = Instant::now();
    lab.cut("n1", carrier).unwrap();
    let after = withdrawn_after(&routes, start);
    eprintln!("cable cut, carrier {carrier:?}: withdrawn after {after:?}");
    assert!(after < DETECTED_WITHIN, "{after:?}");
    expect_next_hops(&lab, ip, &nodes(["n2", "n3"]), SOON).unwrap();
    // The node is cut off from the API server as well, and reports when its cable is back.
    lab.mend().unwrap();
    expect_all_up(&lab, SOON).unwrap();
    expect_sessions(&lab, SOON).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    let log = std::fs::read_to_string(lab.node("n1").unwrap().speaker().unwrap().log()).unwrap();
    assert!(log.contains(diagnostic), "the speaker logs its reason, {diagnostic}");
    service.delete(&lab).unwrap();
}

#[test]
fn cut_cable_with_carrier_withdraws_routes_at_once() {
    cut(Carrier::Kept, "Control Detection Time Expired");
}

#[test]
fn cut_cable_without_carrier_withdraws_routes_at_once() {
    cut(Carrier::Lost, "Path Down");
}

#[test]
fn failure_of_one_direction_withdraws_routes_at_once() {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, "bfd-one-way");
    for lost in [Lost::Incoming, Lost::Outgoing] {
        let routes = lab.router().monitor_routes().unwrap();
        let start = Instant::now();
        lab.cut_one_way("n1", lost).unwrap();
        let after = withdrawn_after(&routes, start);
        eprintln!("{lost:?} frames lost: withdrawn after {after:?}");
        assert!(after < DETECTED_WITHIN, "{lost:?}: {after:?}");
        lab.mend().unwrap();
        expect_all_up(&lab, SOON).unwrap();
        expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn stopped_speaker_loses_its_routes_at_once() {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, "bfd-stopped");
    let speaker = lab.node("n1").unwrap().speaker().unwrap();
    // A stopped process keeps its TCP connections: only BFD notices before the hold time.
    let routes = lab.router().monitor_routes().unwrap();
    let start = Instant::now();
    speaker.stop().unwrap();
    let after = withdrawn_after(&routes, start);
    eprintln!("speaker stopped: withdrawn after {after:?}");
    assert!(after < DETECTED_WITHIN, "{after:?}");
    speaker.resume().unwrap();
    expect_all_up(&lab, SOON).unwrap();
    expect_sessions(&lab, SOON).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    service.delete(&lab).unwrap();
}

#[test]
fn stalled_main_thread_keeps_bfd_up() {
    let lab = LAB.turn();
    expect_all_up(&lab, SOON).unwrap();
    let (service, ip) = announced(&lab, "bfd-stalled");
    let speaker = lab.node("n1").unwrap().speaker().unwrap();
    let downs = || (router_downs(&lab).unwrap(), lab.router().dropped_sessions().unwrap());
    let late = || speaker.metric_sum("fairlead_speaker_bfd_late_detections_total").unwrap();
    let before = (downs(), late());
    let routes = lab.router().monitor_routes().unwrap();
    // The threads of everything but BFD are blocked for five seconds.
    let start = Instant::now();
    speaker.signal(Signal::Stall).unwrap();
    // The main thread answers this only afterwards. The half second lets it block first.
    observe_for(SECOND / 2);
    let while_stalled = late();
    assert!(start.elapsed() > 4 * SECOND, "the main thread answered after {:?}", start.elapsed());
    assert_eq!((downs(), while_stalled), before, "no session of BFD or BGP ended, and no detection was late");
    assert_eq!(routes.events().unwrap(), [], "route events in the kernel of the router");
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    service.delete(&lab).unwrap();
}
