//! `peerAddress: default-gateway` and `default-gateway-ipv6`: each node has sessions with its own gateways.

use std::process::Command;

use anyhow::ensure;
use fairlead_e2e::{SOON, expect_sessions};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Lab, wait_for};
use serde_json::{Value, json};

use crate::setup::{LAB, bird_config, peer, session};

/// The gateways of both families: FRR, and BIRD.
const FRR: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
const BIRD: [&str; 2] = ["192.0.2.7", "2001:db8:1::7"];
/// The BGPPeers of both families.
const PEERS: [&str; 2] = ["router-v4", "router-v6"];

/// The session of n1 with BIRD over IPv6.
const BIRD_V6: &str = "
protocol bgp n1v6 {
    local 2001:db8:1::7 as 64700;
    neighbor 2001:db8:1::11 as 64513;
    passive;
    error wait time 1, 2;
    hold time 9;
    ipv6 { import all; export none; };
}
";

/// Replaces the default routes of n1.
fn set_gateways(lab: &Lab, gateways: [&str; 2]) {
    for (family, gateway) in ["-4", "-6"].into_iter().zip(gateways) {
        let route = [family, "route", "replace", "default", "via", gateway];
        lab.network().nodes[0].netns.output(Command::new("ip").args(route)).unwrap();
    }
}

/// Waits until `node` has established sessions with the routers at these addresses.
fn expect_sessions_with(lab: &Lab, node: &str, addresses: [&str; 2]) {
    for (name, address) in PEERS.into_iter().zip(addresses) {
        wait_for(format!("the session of {node} with {address}"), 2 * SOON, || {
            let session = session(lab, node, name)?;
            ensure!(session["state"] == "Established" && session["address"] == address, "{session}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn session_follows_the_default_route_of_each_node() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "gateway", 7).unwrap();
    let bird = Bird::start(&host, &(bird_config(7, "hold time 9;") + BIRD_V6)).unwrap();
    let set = |addresses: [&str; 2], asn: Value, dynamic: Value| {
        for (name, address) in PEERS.into_iter().zip(addresses) {
            let spec = json!({ "peerAddress": address, "peerASN": asn, "dynamicASN": dynamic });
            lab.api().unwrap().merge(peer(name), json!({ "spec": spec })).unwrap();
        }
    };
    set(["default-gateway", "default-gateway-ipv6"], Value::Null, json!("external"));
    for node in ["n1", "n2"] {
        expect_sessions_with(&lab, node, FRR);
    }
    set_gateways(&lab, BIRD);
    expect_sessions_with(&lab, "n1", BIRD);
    for protocol in ["n1", "n1v6"] {
        assert_eq!(bird.session(protocol).unwrap().state, "Established", "{protocol}");
    }
    for (name, address) in PEERS.into_iter().zip(FRR) {
        let other = session(&lab, "n2", name).unwrap();
        assert_eq!((&other["address"], &other["flaps"]), (&json!(address), &json!(0)), "{other}");
    }
    // The sessions do not move back at once, see the unit tests.
    set_gateways(&lab, FRR);
    set(FRR, json!(64512), Value::Null);
    expect_sessions(&lab, 2 * SOON).unwrap();
}
