//! Sessions that cannot be, and where an operator reads why.

use fairlead_e2e::SOON;
use fairlead_lab::wait_for;
use serde_json::{Value, json};

use crate::setup::{PASSWORD, Setup, turn};
use crate::tables::expect_all;

fn secret(setup: &Setup, password: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": { "name": "other", "namespace": "fairlead-system" },
        "stringData": { "username": "", "password": password },
    });
    setup.lab.api().unwrap().apply_object(object).unwrap();
}

#[test]
fn wrong_numbers_and_passwords_are_named_in_the_speaker_object() {
    let setup = turn();
    let since = |peer: &str| setup.session("n1", peer).unwrap()["uptimeSince"].clone();
    let undisturbed = since("gobgp-v4");
    // We expect another AS than the router has; the router expects another AS than we have; no such Secret.
    setup.change_peer("exabgp", json!({ "peerASN": 64999 })).unwrap();
    setup.change_peer("old", json!({ "myASN": 64998 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "other" } })).unwrap();
    setup.expect_error("exabgp", &["NOTIFICATION", "Bad Peer AS", "64700", "64999"]).unwrap();
    setup.expect_error("old", &["peer sent NOTIFICATION", "Bad Peer AS"]).unwrap();
    setup.expect_error("bird", &["Secret fairlead-system/other", "does not exist"]).unwrap();
    wait_for("BIRD to say the same", SOON, || {
        let session = setup.old.session("n1")?;
        anyhow::ensure!(session.last_error.contains("Bad peer AS"), "{session:?}");
        Ok(())
    })
    .unwrap();

    // With a key that is not the router's the kernels do not even let a connection come up.
    secret(&setup, "another day");
    setup.expect_error("bird", &["no answer"]).unwrap();
    assert_eq!(since("gobgp-v4"), undisturbed, "the others go on");

    // A changed Secret is taken with the next attempt; the peer's object need not be touched.
    secret(&setup, PASSWORD);
    setup.expect_sessions(&["bird"]).unwrap();
    setup.change_peer("exabgp", json!({ "peerASN": 64700 })).unwrap();
    setup.change_peer("old", json!({ "myASN": 4200000001u32 })).unwrap();
    setup.change_peer("bird", json!({ "passwordSecret": { "name": "bird" } })).unwrap();
    setup.expect_sessions(&["exabgp", "old", "bird"]).unwrap();
    assert_eq!(setup.session("n1", "exabgp").unwrap()["lastError"], Value::Null, "an error that is over");
    expect_all(&setup, &["11", "12"]);
}
