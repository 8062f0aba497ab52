//! `shutdown` of a BGPPeer: the router learns why the session ends.

use anyhow::ensure;
use fairlead_e2e::{LbService, SOON, all_nodes, expect_next_hops, expect_sessions, nodes};
use fairlead_lab::wait_for;
use serde_json::json;

use crate::setup::{LAB, expect_message, peer, session};

#[test]
fn shutdown_peer_has_no_session_until_the_field_is_false() {
    let lab = LAB.turn();
    let service = LbService::new("shutdown", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    // Other tests of this lab may have ended sessions.
    let flaps = |node| session(&lab, node, "router-v4").unwrap()["flaps"].clone();
    let before = [flaps("n1"), flaps("n2")];
    let set = |spec| lab.api().unwrap().merge(peer("router-v4"), json!({ "spec": spec })).unwrap();
    set(json!({ "shutdown": true, "shutdownMessage": "new line card", "description": "rack 7" }));
    expect_next_hops(&lab, ip, &nodes([]), SOON).unwrap();
    for (node, flaps) in ["n1", "n2"].into_iter().zip(&before) {
        expect_message(&lab, node, "router-v4", "Shutdown by configuration");
        wait_for(format!("the end of {node}'s session"), SOON, || {
            let shown = session(&lab, node, "router-v4")?;
            ensure!(shown["phase"] == "Shutdown" && shown["description"] == "rack 7", "{shown}");
            ensure!(shown["lastError"].is_null() && shown["flaps"] == *flaps, "{shown}");
            Ok(())
        })
        .unwrap();
    }
    let neighbors = lab.router().json("show bgp neighbors 192.0.2.11 json").unwrap().to_string();
    assert!(
        neighbors.contains("Administrative Shutdown") && neighbors.contains("new line card"),
        "{neighbors}"
    );
    set(json!({ "shutdown": null, "shutdownMessage": null, "description": null }));
    expect_sessions(&lab, SOON).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    wait_for("the end of the phase Shutdown", SOON, || {
        let shown = session(&lab, "n1", "router-v4")?;
        ensure!(shown["phase"] == "Established" && shown["flaps"] == before[0], "{shown}");
        Ok(())
    })
    .unwrap();
    service.delete(&lab).unwrap();
}
