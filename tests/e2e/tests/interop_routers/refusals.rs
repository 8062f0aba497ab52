//! Sessions that cannot be established, and the reason that an operator reads.

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
fn wrong_asn_or_password_is_reported_in_speaker_object() {
    let setup = turn();
    let since = |peer: &str| setup.session("n1", peer).unwrap()["uptimeSince"].clone();
    let undisturbed = since("ibgp");
    // The speaker expects another AS than the router has; the router expects another AS than the speaker has;
    // the Secret does not exist.
    setup.change_peer("old", json!({ "peerASN": 64999 })).unwrap();
    setup.change_peer("gobgp-v4", json!({ "myASN": 64998 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "other" } })).unwrap();
    setup.expect_error("old", &["NOTIFICATION", "Bad Peer AS", "64900", "64999"]).unwrap();
    setup.expect_error("gobgp-v4", &["peer sent NOTIFICATION", "Bad Peer AS"]).unwrap();
    let in_use =
        "Secret fairlead-system/other does not exist: the key in Secret fairlead-system/bird stays in use";
    setup.expect_message("bird", in_use).unwrap();
    let notification = |peer: &str, field: &str| {
        let session = setup.session("n1", peer).unwrap();
        assert_eq!(session["phase"], "Negotiating", "{session}");
        session[field]["message"].as_str().unwrap_or_default().to_owned()
    };
    let sent = notification("old", "lastNotificationSent");
    assert!(sent.starts_with("2/2 (OPEN Message Error: Bad Peer AS)"), "{sent}");
    let received = notification("gobgp-v4", "lastNotificationReceived");
    assert!(received.starts_with("2/2 (OPEN Message Error: Bad Peer AS)"), "{received}");

    // With a wrong key the kernels do not establish a connection. The new Secret takes effect without a
    // change of the peer's object.
    wrong_password(&setup);
    setup.expect_error("bird", &["no answer from 192.0.2.5", "TCP-MD5 key differs"]).unwrap();
    assert_eq!(since("ibgp"), undisturbed, "the other sessions stay established");

    setup.change_peer("old", json!({ "peerASN": 64900 })).unwrap();
    setup.change_peer("gobgp-v4", json!({ "myASN": 64513 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "bird" } })).unwrap();
    setup.expect_sessions(&["old", "gobgp-v4", "bird"]).unwrap();
    assert_eq!(
        setup.session("n1", "old").unwrap()["lastError"],
        Value::Null,
        "an error that no longer applies"
    );
    expect_all(&setup, &["11", "12"]);
}
