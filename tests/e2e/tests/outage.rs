//! The API server is unavailable: nothing changes on the wire, and node failures still fail over.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fairlead_e2e::{
    LbService, PACE, PORT, SOON, Shared, all_nodes, configure, expect_next_hops, expect_owner, next_hops,
    reach,
};
use fairlead_lab::{Carrier, Lab, Message, Outage, addresses};

static LAB: Shared = Shared::new(Lab::builder, configure);

/// Long enough for every watch, keepalive and hold timer to expire, short enough for a test.
const AWAY: Duration = Duration::from_secs(20);

/// A client that could not connect for a while retries within half a minute.
const BACK: Duration = Duration::from_secs(60);

fn nothing_changes(outage: Outage) {
    let lab = LAB.turn();
    let name = format!("{outage:?}").to_lowercase();
    let (l2, bgp) =
        (LbService::new(&format!("{name}-l2"), "l2"), LbService::new(&format!("{name}-bgp"), "bgp"));
    let (l2_ips, bgp_ips) = (l2.up(&lab).unwrap(), bgp.up(&lab).unwrap());
    let owners = |lab: &Lab, ips: &[IpAddr]| -> Vec<String> {
        ips.iter().map(|ip| lab.wait_for_owner(*ip, SOON).unwrap().to_owned()).collect()
    };
    for ip in &bgp_ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    for ip in l2_ips.iter().chain(&bgp_ips) {
        reach(&lab, *ip, 1).unwrap();
    }
    let before = owners(&lab, &l2_ips);
    let capture = lab.capture_router().unwrap();
    let streams: Vec<_> =
        [l2_ips[0], bgp_ips[0]].map(|ip| (ip, lab.remote().stream(SocketAddr::new(ip, PORT), PACE))).into();

    lab.api_server().unwrap().outage(outage).unwrap();
    std::thread::sleep(AWAY);
    for ip in &bgp_ips {
        assert_eq!(next_hops(&lab, *ip).unwrap(), all_nodes(&lab), "{ip} during the outage");
    }
    assert_eq!(owners(&lab, &l2_ips), before, "during the outage");
    lab.api_server().unwrap().end_outage().unwrap();

    // The controller has reconciled existing Services before it serves a new one.
    let probe = LbService::new(&format!("{name}-probe"), "l2");
    probe.apply(&lab).unwrap();
    let ip = lab.api().unwrap().wait_for_addresses(probe.name(), 2, BACK).unwrap()[0];
    reach(&lab, ip, 1).unwrap();
    for (ip, stream) in streams {
        let report = stream.stop().unwrap();
        eprintln!("{outage:?}, {ip}: {report}");
        assert!(report.longest_gap < Duration::from_millis(500), "{ip}: {report}");
    }
    assert_eq!(owners(&lab, &l2_ips), before, "after the outage");
    for seen in capture.frames() {
        if let Message::Bgp { messages, from, .. } = &seen.frame.message
            && !addresses::router().both().contains(from)
        {
            // The probe is an L2 Service, so it causes no UPDATE.
            assert!(messages.iter().all(|message| message.kind == 4), "from {from}: {messages:?}");
        }
    }
    [l2, bgp, probe].iter().for_each(|service| service.delete(&lab).unwrap());
}

#[test]
fn refusing_api_server_changes_nothing_on_wire() {
    nothing_changes(Outage::Refuse);
}

#[test]
fn hanging_api_server_changes_nothing_on_wire() {
    nothing_changes(Outage::Hang);
}

#[test]
fn node_failure_without_api_server_fails_over() {
    // A session that the cut ends late would end in the next test, so this test has a lab of its own.
    let _alone = LAB.turn();
    let lab = Lab::builder().start().unwrap();
    configure(&lab).unwrap();
    let service = LbService::new("dark", "l2").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    let owner = lab.wait_for_owner(ip, SOON).unwrap().to_owned();
    lab.api_server().unwrap().outage(Outage::Refuse).unwrap();
    lab.cut(&owner, Carrier::Lost).unwrap();
    let others = lab.nodes().iter().map(|node| node.name()).filter(|name| *name != owner);
    let second = lab.wait_for_owner(ip, SOON).unwrap();
    assert!(others.into_iter().any(|name| name == second), "{second} after {owner}");
    lab.mend().unwrap();
    expect_owner(&lab, ip, &owner, 3 * SOON).unwrap();
    lab.api_server().unwrap().end_outage().unwrap();
    service.delete(&lab).unwrap();
}
