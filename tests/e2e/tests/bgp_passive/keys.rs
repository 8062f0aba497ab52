//! TCP-MD5 on the port of the speakers: routers connect with a key, a wrong key is refused, and keys are
//! replaced while a session lasts.

use std::io::ErrorKind;
use std::time::Instant;

use fairlead_e2e::SECOND;
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Lab, observe_for};
use serde_json::{Value, json};

use crate::scripted::{ASN, Connection, KEEPALIVE, OPEN};
use crate::setup::{
    LAB, configure_neighbors, expect_all_established, expect_connections_of_frr, expect_established,
    expect_not_connected, peer, session, set_frr,
};

/// Stores a key in the Secret of this name.
fn set_key(lab: &Lab, name: &str, key: &str) {
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
                         "metadata": { "name": name, "namespace": "fairlead-system" },
                         "stringData": { "username": "", "password": key } });
    lab.api().unwrap().apply_object(secret).unwrap();
}

/// Adds a passive BGPPeer for `n1` with a key.
fn add_peer(lab: &Lab, name: &str, fields: Value) {
    let mut object = peer(name);
    object["spec"] = json!({ "myASN": 64513, "passive": true, "passwordSecret": { "name": name },
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    for (field, value) in fields.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    lab.api().unwrap().apply_object(object).unwrap();
}

#[test]
fn frr_connects_with_a_key() {
    let lab = LAB.turn();
    set_key(&lab, "frr", "one-fine-day");
    // The key of FRR is a single word.
    configure_neighbors(&lab, |neighbor| format!("neighbor {neighbor} password one-fine-day"));
    set_frr(&lab, json!({ "passive": true, "passwordSecret": { "name": "frr" } }));
    expect_all_established(&lab);
    expect_connections_of_frr(&lab);
    configure_neighbors(&lab, |neighbor| format!("no neighbor {neighbor} password"));
    set_frr(&lab, json!({ "passive": false, "passwordSecret": null }));
    expect_all_established(&lab);
}

#[test]
fn wrong_key_of_bird_is_refused_until_the_secret_is_corrected() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "keyed-bird", 4).unwrap();
    set_key(&lab, "keyed-bird", "another day");
    let _bird = Bird::start(
        &host,
        "protocol bgp n1 { local 192.0.2.4 as 64700; neighbor 192.0.2.11 as 64513; password \"one fine day\"; \
         connect delay time 1; connect retry time 1; error wait time 1, 2; \
         ipv4 { import all; export none; }; }\n",
    )
    .unwrap();
    add_peer(&lab, "keyed-bird", json!({ "peerASN": 64700, "peerAddress": "192.0.2.4" }));
    let causes =
        ["has not connected to port 179", "TCP-MD5 key is that in Secret fairlead-system/keyed-bird"];
    expect_not_connected(&lab, "n1", "keyed-bird", &causes);
    set_key(&lab, "keyed-bird", "one fine day");
    expect_established(&lab, "n1", "keyed-bird");
    lab.api().unwrap().delete(&peer("keyed-bird").to_string()).unwrap();
}

#[test]
fn key_is_replaced_on_the_port_and_on_the_session() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "rotating", 5).unwrap();
    set_key(&lab, "rotating", "first");
    add_peer(&lab, "rotating", json!({ "peerASN": ASN, "peerAddress": "192.0.2.5", "holdTime": "6s" }));
    let identifier = host.address().v4;
    let mut router = Connection::confirmed(&host, Some("first"), identifier, false);
    router.send(KEEPALIVE, &[]);
    expect_established(&lab, "n1", "rotating");
    let since = session(&lab, "n1", "rotating").unwrap()["uptimeSince"].clone();

    set_key(&lab, "rotating", "second");
    // A further connection shows that the port has the new key.
    Connection::open(&host, Some("second")).expect(OPEN);
    router.set_key("second");
    let end = Instant::now() + 8 * SECOND;
    while Instant::now() < end {
        router.send(KEEPALIVE, &[]);
        observe_for(SECOND);
    }
    // After the End-of-RIB.
    while router.next().unwrap().0 != KEEPALIVE {}
    let after = session(&lab, "n1", "rotating").unwrap();
    assert_eq!((&after["state"], &after["uptimeSince"]), (&json!("Established"), &since), "{after}");
    let error = Connection::try_open(&host, Some("first")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    lab.api().unwrap().delete(&peer("rotating").to_string()).unwrap();
}
