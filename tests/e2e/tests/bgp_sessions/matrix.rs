//! GTSM, multihop and limits with GoBGP and ExaBGP.

use std::net::IpAddr;

use anyhow::ensure;
use fairlead_e2e::{LbService, SOON};
use fairlead_lab::peers::{ExaBgp, GoBgp, Host};
use fairlead_lab::{Family, Lab, wait_for};
use serde_json::{Value, json};

use crate::limits::expect_limit_reported;
use crate::setup::{LAB, expect_established, peer};

/// Requires TTL 255 of n1, and is several hops away from n2, with a limit of one prefix.
const GOBGP: &str = "
[global.config]
as = 64700
router-id = '192.0.2.101'
[[neighbors]]
config = { neighbor-address = '192.0.2.11', peer-as = 64513 }
transport.config = { passive-mode = true }
ttl-security.config = { enabled = true, ttl-min = 255 }
[[neighbors.afi-safis]]
config = { afi-safi-name = 'ipv4-unicast' }
[[neighbors]]
config = { neighbor-address = '192.0.2.12', peer-as = 64513 }
transport.config = { passive-mode = true }
ebgp-multihop.config = { enabled = true, multihop-ttl = 64 }
[[neighbors.afi-safis]]
config = { afi-safi-name = 'ipv4-unicast' }
prefix-limit.config = { max-prefixes = 1, shutdown-threshold-pct = 100 }
";

/// Sends TTL 255 to n1, and requires it of n1.
const EXABGP: &str = "
process journal {
 run /bin/sh -c \"cat >>/var/log/exabgp.json\";
 encoder json;
}
neighbor 192.0.2.11 {
 router-id 192.0.2.8;
 local-address 192.0.2.8;
 local-as 64701;
 peer-as 64513;
 passive true;
 listen 179;
 incoming-ttl 255;
 outgoing-ttl 255;
 family { ipv4 unicast; }
 api { processes [ journal ]; neighbor-changes; receive { parsed; open; update; notification; packets; } }
}
";

/// Creates a peer of one node.
fn add(lab: &Lab, name: &str, node: &str, spec: &Value) {
    let mut object = peer(name);
    object["spec"] = json!({ "myASN": 64513, "connectTime": "1s",
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": node } }] });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    lab.api().unwrap().apply_object(object).unwrap();
}

#[test]
fn gobgp_and_exabgp_accept_ttl_options_and_limits() {
    let lab = LAB.turn();
    let gobgp = GoBgp::start(&Host::plug(&lab, "gobgp", 101).unwrap(), GOBGP).unwrap();
    let exabgp = ExaBgp::start_file(&Host::plug(&lab, "exabgp", 8).unwrap(), EXABGP).unwrap();
    let recording = lab.record_bgp_of("n1").unwrap();
    let first = LbService::new("matrix-1", "bgp").single("IPv4");
    let ip = first.up(&lab).unwrap()[0];
    // A route of an earlier test would exceed the limit.
    wait_for("no other route", SOON, || {
        let routes = lab.router().bgp_routes(Family::V4)?;
        ensure!(routes.keys().all(|prefix| prefix.addr() == ip) && !routes.is_empty(), "{routes:?}");
        Ok(())
    })
    .unwrap();
    let gobgp_spec =
        |option: &str, value: Value| json!({ "peerASN": 64700, "peerAddress": "192.0.2.101", option: value });
    add(&lab, "gobgp-gtsm", "n1", &gobgp_spec("ttlSecurity", json!(1)));
    add(&lab, "gobgp-far", "n2", &gobgp_spec("ebgpMultiHop", json!(true)));
    add(
        &lab,
        "exabgp-far",
        "n1",
        &json!({ "peerASN": 64701, "peerAddress": "192.0.2.8", "ebgpMultiHop": true }),
    );
    for (node, name) in [("n1", "gobgp-gtsm"), ("n2", "gobgp-far"), ("n1", "exabgp-far")] {
        expect_established(&lab, node, name);
    }
    let hops = |paths: std::collections::BTreeSet<fairlead_lab::peers::Path>| -> Vec<IpAddr> {
        paths.into_iter().filter(|path| path.prefix.addr() == ip).map(|path| path.next_hop).collect()
    };
    let [n1, n2] = ["192.0.2.11", "192.0.2.12"].map(|hop| hop.parse::<IpAddr>().unwrap());
    wait_for("the routes in GoBGP and ExaBGP", SOON, || {
        let seen = (hops(gobgp.paths()?), hops(exabgp.paths()?));
        ensure!(seen == (vec![n1, n2], vec![n1]), "{seen:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());

    let second = LbService::new("matrix-2", "bgp").single("IPv4");
    second.up(&lab).unwrap();
    expect_limit_reported(&lab, "n2", "gobgp-far");
    expect_established(&lab, "n1", "gobgp-gtsm");
    for name in ["gobgp-gtsm", "gobgp-far", "exabgp-far"] {
        lab.api().unwrap().delete(&peer(name).to_string()).unwrap();
    }
    first.delete(&lab).unwrap();
    second.delete(&lab).unwrap();
}
