//! Without changes there are no writes.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use fairlead_e2e::{
    LbService, SECOND, SOON, Shared, all_nodes, configure, expect_next_hops, reach, versions, wait_for_rest,
};
use fairlead_lab::{Lab, ensure, wait_for};

static LAB: Shared = Shared::new(Lab::builder, configure);

#[test]
fn cluster_at_rest_has_no_writes_and_no_events() {
    let lab = LAB.turn();
    let services = [LbService::new("rest-l2", "l2"), LbService::new("rest-bgp", "bgp")];
    let ips: Vec<IpAddr> = services.iter().flat_map(|service| service.up(&lab).unwrap()).collect();
    for ip in &ips {
        reach(&lab, *ip, 1).unwrap();
    }
    expect_next_hops(&lab, ips[2], &all_nodes(&lab), SOON).unwrap();
    let before = wait_for_rest(&lab).unwrap();
    std::thread::sleep(10 * SECOND);
    assert_eq!(versions(&lab).unwrap(), before, "ten seconds at rest");
    assert!(before.keys().any(|key| key.starts_with("Speaker ")), "{before:?}");
}

#[test]
fn speaker_objects_report_announcements() {
    let lab = LAB.turn();
    let services = [LbService::new("said-l2", "l2"), LbService::new("said-bgp", "bgp")];
    services.iter().for_each(|service| drop(service.up(&lab).unwrap()));
    wait_for("the status of the speakers", SOON, || {
        let speakers = lab.api()?.list("fairlead.dev/v1beta1", "Speaker")?;
        let sum =
            |pointer: &str| -> i64 { speakers.iter().filter_map(|s| s.pointer(pointer)?.as_i64()).sum() };
        let held = lab.api()?.list("v1", "Service")?;
        let count = |prefix: &str| -> i64 {
            let ips = held.iter().flat_map(|s| s["status"]["loadBalancer"]["ingress"].as_array());
            ips.flatten().filter(|i| i["ip"].as_str().is_some_and(|ip| ip.starts_with(prefix))).count() as i64
        };
        let (l2, bgp) =
            (count("192.0.2.") + count("2001:db8:1:"), count("198.51.100.") + count("2001:db8:100:"));
        let established = speakers
            .iter()
            .flat_map(|s| s["status"]["sessions"].as_array())
            .flatten()
            .filter(|session| session["state"] == "Established")
            .count();
        // Each L2 address has one owner; all three nodes announce each BGP address to the router in two
        // sessions.
        let seen = (speakers.len(), sum("/status/l2/announced"), sum("/status/bgp/announced"), established);
        ensure(seen == (3, l2, 3 * bgp, 6), format!("{seen:?} with {l2} and {bgp} addresses"))
            .map_err(anyhow::Error::msg)?;
        for (service, protocol) in [("said-l2", "by L2"), ("said-bgp", "by BGP")] {
            let advertised = lab.api()?.condition(service, "fairlead.dev/Advertised")?;
            let is_announced = advertised.as_ref().is_some_and(|(status, reason, message)| {
                (status.as_str(), reason.as_str()) == ("True", "Announced") && message.contains(protocol)
            });
            ensure(is_announced, format!("{advertised:?}")).map_err(anyhow::Error::msg)?;
        }
        let peers = lab.api()?.list("fairlead.dev/v1beta1", "BGPPeer")?;
        let sessions: Vec<_> = peers.iter().map(|peer| &peer["status"]["establishedSessions"]).collect();
        ensure(sessions.iter().all(|sessions| **sessions == "3/3"), format!("{sessions:?}"))
            .map_err(anyhow::Error::msg)
    })
    .unwrap();
    services.iter().for_each(|service| service.delete(&lab).unwrap());
}
