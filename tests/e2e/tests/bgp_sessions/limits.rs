//! Routers that end the session because a speaker announces more prefixes than they accept.

use anyhow::ensure;
use fairlead_e2e::{LbService, SOON};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Lab, wait_for};
use serde_json::{Value, json};

use crate::setup::{LAB, expect_established, peer, session};

const BIRD: &str = "
template bgp node {
    local 192.0.2.9 as 64700;
    passive;
    error wait time 1, 2;
    ipv4 { import all; import limit 1 action restart; export none; };
}
protocol bgp n1 from node { neighbor 192.0.2.11 as 64513; }
protocol bgp n2 from node { neighbor 192.0.2.12 as 64513; }
";

/// Waits until a node reports that the router ended the session for the number of prefixes.
pub(crate) fn expect_limit_reported(lab: &Lab, node: &str, peer: &str) {
    wait_for(format!("{node} to report the limit of {peer}"), 2 * SOON, || {
        let session = session(lab, node, peer)?;
        let received = session["lastNotificationReceived"]["message"].as_str().unwrap_or_default();
        ensure!(received.contains("Maximum Number of Prefixes Reached"), "{session}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn prefix_limit_of_router_is_reported_and_ends_its_session_only() {
    let lab = LAB.turn();
    let services = ["limit-1", "limit-2", "limit-3"].map(|name| LbService::new(name, "bgp").single("IPv4"));
    services[0].up(&lab).unwrap();
    let host = Host::plug(&lab, "limit", 9).unwrap();
    let _bird = Bird::start(&host, BIRD).unwrap();
    let mut object = peer("limit");
    object["spec"] =
        json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.9", "connectTime": "1s" });
    lab.api().unwrap().apply_object(object).unwrap();
    expect_established(&lab, "n1", "limit");
    let family = ["router bgp 64512", "address-family ipv4 unicast"];
    let frr = |line: &str| {
        lab.router().configure(&[&family[..], &[line]].concat()).unwrap();
    };
    frr("neighbor 192.0.2.11 maximum-prefix 1");
    let since = session(&lab, "n1", "router-v6").unwrap()["uptimeSince"].clone();
    for service in &services[1..] {
        service.up(&lab).unwrap();
    }
    expect_limit_reported(&lab, "n1", "limit");
    expect_limit_reported(&lab, "n1", "router-v4");
    assert_eq!(session(&lab, "n1", "router-v6").unwrap()["uptimeSince"], since);
    assert_ne!(since, Value::Null);

    lab.api().unwrap().delete(&peer("limit").to_string()).unwrap();
    frr("no neighbor 192.0.2.11 maximum-prefix 1");
    lab.router().vtysh("clear bgp 192.0.2.11").unwrap();
    expect_established(&lab, "n1", "router-v4");
    services.iter().for_each(|service| service.delete(&lab).unwrap());
}
