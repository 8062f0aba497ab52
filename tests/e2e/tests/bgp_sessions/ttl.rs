//! GTSM (RFC 5082): `ttlSecurity` and `ebgpMultiHop` with routers that check the TTL, and with one that does
//! not send the highest.

use std::process::Command;

use fairlead_e2e::{SECOND, SOON, expect_sessions};
use fairlead_lab::{Lab, observe_for};
use serde_json::json;

use crate::setup::{LAB, bird, expect_error, expect_established, expect_message, peer, session};

/// Changes the fields of a BGPPeer that concern the TTL; `None` removes them.
fn set(lab: &Lab, name: &str, field: Option<(&str, serde_json::Value)>) {
    let mut spec = json!({ "ttlSecurity": null, "ebgpMultiHop": null });
    if let Some((field, value)) = field {
        spec[field] = value;
    }
    lab.api().unwrap().merge(peer(name), json!({ "spec": spec })).unwrap();
}

#[test]
fn bird_with_ttl_security_accepts_only_highest_ttl() {
    let lab = LAB.turn();
    let bird = bird(&lab, "gtsm", 3, "ttl security; hold time 3; startup hold time 4;");
    let mut object = peer("gtsm");
    object["spec"] =
        json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.3", "connectTime": "1s" });
    lab.api().unwrap().apply_object(object).unwrap();
    // An eBGP session on the link sends TTL 1.
    // BIRD accepts the connection and drops what follows.
    expect_error(&lab, "n1", "gtsm", &["hold timer expired"], 2 * SOON);
    assert_ne!(bird.session("n1").unwrap().state, "Established");
    set(&lab, "gtsm", Some(("ttlSecurity", json!(1))));
    for node in ["n1", "n2"] {
        expect_established(&lab, node, "gtsm");
    }
    set(&lab, "gtsm", Some(("ebgpMultiHop", json!(true))));
    for node in ["n1", "n2"] {
        expect_established(&lab, node, "gtsm");
    }
    lab.api().unwrap().delete(&peer("gtsm").to_string()).unwrap();
}

#[test]
fn packet_with_smaller_ttl_is_dropped() {
    let lab = LAB.turn();
    // Two hops: TTL 254 or higher. BIRD sends 255.
    let bird = bird(&lab, "far", 4, "multihop 2; ttl security; hold time 3; startup hold time 4;");
    let mut object = peer("far");
    object["spec"] = json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.4", "connectTime": "1s",
                             "ttlSecurity": 2, "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    lab.api().unwrap().apply_object(object).unwrap();
    expect_established(&lab, "n1", "far");
    assert_eq!(bird.session("n1").unwrap().state, "Established");
    let since = session(&lab, "n1", "far").unwrap()["uptimeSince"].clone();
    let node = &lab.network().nodes[0].netns;
    // As if the router were farther away.
    let set_ttl = |ttl: u8| {
        let script = format!(
            "table ip far {{\n chain in {{\n type filter hook prerouting priority -300;\n \
             ip saddr 192.0.2.4 tcp sport 179 ip ttl set {ttl};\n }}\n}}"
        );
        node.feed(Command::new("nft").args(["-f", "-"]), &script).unwrap();
    };
    set_ttl(254);
    // Longer than the hold time.
    observe_for(4 * SECOND);
    assert_eq!(session(&lab, "n1", "far").unwrap()["uptimeSince"], since, "TTL 254 suffices");
    node.output(Command::new("nft").args(["flush", "table", "ip", "far"])).unwrap();
    set_ttl(253);
    expect_error(&lab, "n1", "far", &["hold timer expired"], SOON);
    node.output(Command::new("nft").args(["delete", "table", "ip", "far"])).unwrap();
    expect_established(&lab, "n1", "far");
    lab.api().unwrap().delete(&peer("far").to_string()).unwrap();
}

#[test]
fn router_that_sends_low_ttl_gets_no_session() {
    let lab = LAB.turn();
    // An eBGP session of BIRD on the link sends TTL 1.
    let _bird = bird(&lab, "low", 5, "hold time 3; startup hold time 4;");
    let mut object = peer("low");
    object["spec"] = json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.5", "connectTime": "1s",
                             "ttlSecurity": 1 });
    lab.api().unwrap().apply_object(object).unwrap();
    expect_message(&lab, "n1", "low", "sends no OPEN: check that it has this node as a neighbor and sends");
    set(&lab, "low", None);
    expect_established(&lab, "n1", "low");
    lab.api().unwrap().delete(&peer("low").to_string()).unwrap();
}

#[test]
fn frr_and_speaker_require_ttl_of_each_other() {
    let lab = LAB.turn();
    let router = |prefix: &str| {
        let [one, two] = [11, 12].map(|n| format!("{prefix}neighbor 192.0.2.{n} ttl-security hops 1"));
        lab.router().configure(&["router bgp 64512", &one, &two]).unwrap();
        lab.router().vtysh("clear bgp *").unwrap();
    };
    set(&lab, "router-v4", Some(("ttlSecurity", json!(1))));
    // FRR accepts the connection, and then sends TTL 1.
    expect_message(&lab, "n1", "router-v4", "sends no OPEN");
    router("");
    for node in ["n1", "n2"] {
        expect_established(&lab, node, "router-v4");
    }
    // Now the speaker sends TTL 1, and FRR requires 255.
    set(&lab, "router-v4", None);
    expect_error(&lab, "n1", "router-v4", &["hold timer expired"], 2 * SOON);
    router("no ");
    expect_sessions(&lab, 2 * SOON).unwrap();
}
