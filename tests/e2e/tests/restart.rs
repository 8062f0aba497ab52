//! Assignments and announcements survive a restart of every Fairlead process.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fairlead_e2e::{
    LbService, PACE, PORT, SECOND, SOON, Shared, all_nodes, configure, expect_next_hops, expect_sessions,
    reach,
};
use fairlead_lab::Lab;

static LAB: Shared = Shared::new(Lab::builder, configure);

/// Creates five Services in each pool and returns their addresses by name. The order of creation differs from
/// that of the names.
fn services(lab: &Lab) -> (Vec<LbService>, BTreeMap<String, Vec<IpAddr>>) {
    let mut services = Vec::new();
    for i in [3, 1, 5, 2, 4] {
        for pool in ["l2", "bgp"] {
            let service = LbService::new(&format!("keep-{pool}-{i}"), pool);
            service.up(lab).unwrap();
            services.push(service);
        }
    }
    // A free address in the middle, which a fresh allocation would use.
    services.remove(4).delete(lab).unwrap();
    let held = held(lab, &services);
    (services, held)
}

fn held(lab: &Lab, services: &[LbService]) -> BTreeMap<String, Vec<IpAddr>> {
    let api = lab.api().unwrap();
    services.iter().map(|s| (s.name().to_owned(), api.addresses(s.name()).unwrap())).collect()
}

#[test]
fn restarted_controller_keeps_addresses() {
    let lab = LAB.turn();
    let (services, before) = services(&lab);
    let controller = lab.controller().unwrap();
    controller.restart().unwrap();
    // The controller has reconciled existing Services before it serves a new one.
    let probe = LbService::new("probe-restart", "l2");
    probe.up(&lab).unwrap();
    assert_eq!(held(&lab, &services), before);
    controller.kill().unwrap();
    let late = LbService::new("probe-kill", "l2");
    late.apply(&lab).unwrap();
    std::thread::sleep(SECOND);
    assert_eq!(lab.api().unwrap().addresses("probe-kill").unwrap(), Vec::<IpAddr>::new());
    controller.spawn_again().unwrap();
    late.up(&lab).unwrap();
    assert_eq!(held(&lab, &services), before);
    services.iter().chain([&probe, &late]).for_each(|service| service.delete(&lab).unwrap());
}

#[test]
fn restarted_speakers_announce_same_addresses() {
    let lab = LAB.turn();
    let (services, before) = services(&lab);
    for node in lab.nodes() {
        node.speaker().unwrap().restart().unwrap();
    }
    expect_sessions(&lab, SOON).unwrap();
    for (name, ips) in &before {
        for ip in ips {
            if name.contains("bgp") {
                expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
            } else {
                lab.wait_for_owner(*ip, SOON).unwrap();
            }
        }
    }
    let (_, ips) = before.first_key_value().unwrap();
    reach(&lab, ips[0], 3).unwrap();
    assert_eq!(held(&lab, &services), before);
    services.iter().for_each(|service| service.delete(&lab).unwrap());
}

#[test]
fn rolling_speaker_restart_causes_short_gaps() {
    let lab = LAB.turn();
    let service = LbService::new("rolling", "l2").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    reach(&lab, ip, 1).unwrap();
    let stream = lab.remote().stream(SocketAddr::new(ip, PORT), PACE);
    for node in lab.nodes() {
        node.speaker().unwrap().restart().unwrap();
        expect_sessions(&lab, SOON).unwrap();
        // A rollout waits for readiness, and the mesh discovers the new speaker within that time.
        std::thread::sleep(3 * SECOND);
    }
    let report = stream.stop().unwrap();
    eprintln!("rolling restart: {report}");
    assert!(report.longest_gap < Duration::from_secs(1), "{report}");
    service.delete(&lab).unwrap();
}

#[test]
fn simultaneous_restart_keeps_addresses() {
    let lab = LAB.turn();
    let (services, before) = services(&lab);
    let speakers = || lab.nodes().iter().map(|node| node.speaker().unwrap());
    lab.controller().unwrap().kill().unwrap();
    speakers().for_each(|speaker| speaker.kill().unwrap());
    speakers().for_each(|speaker| speaker.spawn_again().unwrap());
    lab.controller().unwrap().spawn_again().unwrap();
    let probe = LbService::new("probe-all", "bgp");
    let ip = probe.up(&lab).unwrap()[0];
    reach(&lab, ip, 1).unwrap();
    assert_eq!(held(&lab, &services), before);
    services.iter().chain([&probe]).for_each(|service| service.delete(&lab).unwrap());
}
