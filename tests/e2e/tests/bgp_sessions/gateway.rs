//! `peerAddress: default-gateway`: each node has a session with its own gateway.

use std::process::Command;

use anyhow::ensure;
use fairlead_e2e::{SOON, expect_sessions};
use fairlead_lab::{Lab, wait_for};
use serde_json::json;

use crate::setup::{LAB, bird, peer, session};

/// Replaces the IPv4 default route of n1.
fn set_gateway(lab: &Lab, gateway: &str) {
    let route = ["-4", "route", "replace", "default", "via", gateway];
    lab.network().nodes[0].netns.output(Command::new("ip").args(route)).unwrap();
}

/// Waits until `node` has an established session with the router at `address`.
fn expect_session_with(lab: &Lab, node: &str, address: &str) {
    wait_for(format!("the session of {node} with {address}"), 2 * SOON, || {
        let session = session(lab, node, "router-v4")?;
        ensure!(session["state"] == "Established" && session["address"] == address, "{session}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn session_follows_the_default_route_of_each_node() {
    let lab = LAB.turn();
    let bird = bird(&lab, "gateway", 7, "hold time 9;");
    let set = |spec| lab.api().unwrap().merge(peer("router-v4"), json!({ "spec": spec })).unwrap();
    set(json!({ "peerAddress": "default-gateway", "peerASN": null, "dynamicASN": "external" }));
    for node in ["n1", "n2"] {
        expect_session_with(&lab, node, "192.0.2.1");
    }
    set_gateway(&lab, "192.0.2.7");
    expect_session_with(&lab, "n1", "192.0.2.7");
    assert_eq!(bird.session("n1").unwrap().state, "Established");
    let other = session(&lab, "n2", "router-v4").unwrap();
    assert_eq!((&other["address"], &other["flaps"]), (&json!("192.0.2.1"), &json!(0)), "{other}");
    // The session does not move back at once, see the unit tests.
    set_gateway(&lab, "192.0.2.1");
    set(json!({ "peerAddress": "192.0.2.1", "peerASN": 64512, "dynamicASN": null }));
    expect_sessions(&lab, 2 * SOON).unwrap();
}
