//! Two connections of one router (RFC 4271 §6.8, RFC 4724 §4.2): the octets on both decide.

use std::net::Ipv4Addr;

use fairlead_lab::peers::Host;
use serde_json::json;

use crate::scripted::{ASN, Connection, KEEPALIVE, NOTIFICATION, OPEN};
use crate::setup::{LAB, expect_established, peer, session};

/// Identifiers below and above that of the speaker, 192.0.2.11.
const LOWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const HIGHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

#[test]
fn identifiers_and_graceful_restart_decide_between_two_connections() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "scripted", 9).unwrap();
    let mut object = peer("scripted");
    object["spec"] = json!({ "myASN": 64513, "peerASN": ASN, "peerAddress": "192.0.2.9", "passive": true,
                             "connectTime": "1s",
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    lab.api().unwrap().apply_object(object).unwrap();

    // The speaker has the higher identifier: its older connection remains.
    let mut first = Connection::confirmed(&host, None, LOWER, false);
    let mut second = Connection::open(&host, None);
    second.expect(OPEN);
    second.send_open(LOWER, false);
    second.expect_collision();
    first.send(KEEPALIVE, &[]);
    expect_established(&lab, "n1", "scripted");
    // An established session without graceful restart remains, whatever the identifiers are.
    let mut third = Connection::open(&host, None);
    third.expect(OPEN);
    third.send_open(HIGHER, false);
    third.expect_collision();
    first.send(KEEPALIVE, &[]);
    assert_eq!(session(&lab, "n1", "scripted").unwrap()["state"], "Established");
    first.send(NOTIFICATION, &[6, 4]);
    drop(first);

    // The router has the higher identifier: its newer connection remains.
    let mut first = Connection::confirmed(&host, None, HIGHER, true);
    let mut second = Connection::open(&host, None);
    second.expect(OPEN);
    second.send_open(HIGHER, true);
    first.expect_collision();
    second.expect(KEEPALIVE);
    second.send(KEEPALIVE, &[]);
    expect_established(&lab, "n1", "scripted");

    // A router that has restarted replaces its session, without a NOTIFICATION.
    let mut third = Connection::confirmed(&host, None, HIGHER, true);
    third.send(KEEPALIVE, &[]);
    while let Some((kind, body)) = second.next() {
        assert_ne!(kind, NOTIFICATION, "{body:?}");
    }
    expect_established(&lab, "n1", "scripted");
    let session = session(&lab, "n1", "scripted").unwrap();
    assert_eq!(session["lastNotificationSent"]["message"].as_str(), None, "{session}");
    lab.api().unwrap().delete(&peer("scripted").to_string()).unwrap();
}
