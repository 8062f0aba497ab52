//! Sessions between loopback addresses: `ebgpMultiHop` with `sourceInterface`.

use std::process::Command;

use anyhow::ensure;
use fairlead_e2e::{LbService, SOON, VERSION};
use fairlead_lab::wait_for;
use serde_json::json;

use crate::setup::{LAB, expect_established, peer, session};

/// Loopback addresses of the router and of n1. Each has a route to the other over the LAN.
const ROUTER: &str = "10.99.0.1";
const NODE: &str = "10.99.0.11";

#[test]
fn loopbacks_of_frr_and_node_have_a_multihop_session() {
    let lab = LAB.turn();
    let (router, node) = (&lab.network().router, &lab.network().nodes[0].netns);
    let ip = |netns: &fairlead_lab::netns::Netns, line: &str| {
        netns.output(Command::new("ip").args(line.split(' '))).unwrap();
    };
    ip(router, &format!("addr add {ROUTER}/32 dev lo"));
    ip(router, &format!("route add {NODE} via 192.0.2.11"));
    ip(node, &format!("addr add {NODE}/32 dev lo"));
    let neighbor = format!("neighbor {NODE}");
    let configure = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| line.replace("NEIGHBOR", &neighbor)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lab.router().configure(&[&["router bgp 64512"], &lines[..]].concat()).unwrap();
    };
    configure(&[
        "NEIGHBOR remote-as 64513",
        "NEIGHBOR passive",
        "NEIGHBOR ebgp-multihop 2",
        &format!("NEIGHBOR update-source {ROUTER}"),
        "address-family ipv4 unicast",
        "NEIGHBOR activate",
    ]);
    let service = LbService::new("loopback", "bgp").single("IPv4");
    let address = service.up(&lab).unwrap()[0];
    lab.api()
        .unwrap()
        .apply_object(json!({
            "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": "loopback" },
            "spec": {
                "myASN": 64513, "peerASN": 64512, "peerAddress": ROUTER, "sourceInterface": "lo",
                "ebgpMultiHop": true, "connectTime": "1s",
                "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }],
            },
        }))
        .unwrap();
    expect_established(&lab, "n1", "loopback");
    // FRR knows the neighbor by its address, and the next hop is that address.
    wait_for("the route over the session between the loopbacks", SOON, || {
        let routes = lab.router().json(&format!("show bgp ipv4 unicast neighbors {NODE} routes json"))?;
        let path = &routes["routes"][format!("{address}/32")][0];
        ensure!(path["valid"] == true && path["nexthops"][0]["ip"] == NODE, "{routes}");
        Ok(())
    })
    .unwrap();
    let shown = lab.router().json(&format!("show bgp neighbors {NODE} json")).unwrap();
    assert_eq!(shown[NODE]["externalBgpNbrMaxHopsAway"], 2, "{shown}");
    assert_eq!(session(&lab, "n1", "loopback").unwrap()["address"], ROUTER);

    lab.api().unwrap().delete(&peer("loopback").to_string()).unwrap();
    configure(&["no NEIGHBOR"]);
    service.delete(&lab).unwrap();
    ip(node, &format!("addr del {NODE}/32 dev lo"));
    ip(router, &format!("route del {NODE}"));
    ip(router, &format!("addr del {ROUTER}/32 dev lo"));
}
