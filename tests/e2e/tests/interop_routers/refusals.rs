//! Sessions that cannot be, and where an operator reads why.

use serde_json::{Value, json};

use crate::setup::{Setup, turn};
use crate::tables::expect_all;

fn wrong_password(setup: &Setup) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": { "name": "other", "namespace": "fairlead-system" },
        "stringData": { "username": "", "password": "another day" },
    });
    setup.lab.api().unwrap().apply_object(object).unwrap();
}

#[test]
fn wrong_numbers_and_passwords_are_named_in_the_speaker_object() {
    let setup = turn();
    let since = |peer: &str| setup.session("n1", peer).unwrap()["uptimeSince"].clone();
    let undisturbed = since("ibgp");
    // We expect another AS than the router has; the router expects another AS than we have; no such Secret.
    setup.change_peer("old", json!({ "peerASN": 64999 })).unwrap();
    setup.change_peer("gobgp-v4", json!({ "myASN": 64998 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "other" } })).unwrap();
    setup.expect_error("old", &["NOTIFICATION", "Bad Peer AS", "64900", "64999"]).unwrap();
    setup.expect_error("gobgp-v4", &["peer sent NOTIFICATION", "Bad Peer AS"]).unwrap();
    setup.expect_error("bird", &["Secret fairlead-system/other", "does not exist"]).unwrap();

    // With a key that is not the router's the kernels do not even let a connection come up. The Secret is taken with the
    // next attempt, the peer's object need not be touched.
    wrong_password(&setup);
    setup.expect_error("bird", &["no answer"]).unwrap();
    assert_eq!(since("ibgp"), undisturbed, "the others go on");

    setup.change_peer("old", json!({ "peerASN": 64900 })).unwrap();
    setup.change_peer("gobgp-v4", json!({ "myASN": 64513 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "bird" } })).unwrap();
    setup.expect_sessions(&["old", "gobgp-v4", "bird"]).unwrap();
    assert_eq!(setup.session("n1", "old").unwrap()["lastError"], Value::Null, "an error that is over");
    expect_all(&setup, &["11", "12"]);
}
