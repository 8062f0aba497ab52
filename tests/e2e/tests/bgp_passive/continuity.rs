//! Restarts and failures while the router connects: graceful restart and BFD.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairlead_e2e::{LbService, SECOND, SOON, VERSION, all_nodes, expect_next_hops, expect_sessions, nodes};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Carrier, Lab, observe_for, wait_for};
use serde_json::{Value, json};

use crate::setup::{
    LAB, configure_neighbors, expect_all_established, expect_connections_of_frr, expect_established, peer,
    session, set_frr,
};

/// Waits until the sessions of both nodes with FRR are as `condition` requires.
fn expect_of_all(lab: &Lab, what: &str, condition: impl Fn(&Value) -> bool) {
    for (node, peer) in [("n1", "router-v4"), ("n1", "router-v6"), ("n2", "router-v4"), ("n2", "router-v6")] {
        wait_for(format!("{what} of {node} with {peer}"), 2 * SOON, || {
            let session = session(lab, node, peer)?;
            ensure!(session["state"] == "Established" && condition(&session), "{session}");
            Ok(())
        })
        .unwrap();
    }
}

/// Stops the speaker of a node as an upgrade does, and starts it again.
fn restart(lab: &Lab, node: &str) {
    let speaker = lab.node(node).unwrap().speaker().unwrap();
    speaker.terminate(10 * SECOND).unwrap();
    observe_for(2 * SECOND);
    speaker.spawn_again().unwrap();
}

#[test]
fn restarted_speaker_keeps_the_routes_in_bird() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "graceful-bird", 6).unwrap();
    let bird = Bird::start(
        &host,
        "protocol bgp n1 { local 192.0.2.6 as 64700; neighbor 192.0.2.11 as 64513; graceful restart yes; \
         connect delay time 1; connect retry time 1; error wait time 1, 2; \
         ipv4 { import all; export none; }; }\n",
    )
    .unwrap();
    let mut object = peer("graceful-bird");
    object["spec"] = json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.6", "passive": true,
                             "enableGracefulRestart": true,
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    lab.api().unwrap().apply_object(object).unwrap();
    expect_established(&lab, "n1", "graceful-bird");
    let service = LbService::new("passive-restart", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    let expect_path = || {
        wait_for(format!("{ip} in BIRD"), SOON, || {
            let paths = bird.paths()?;
            ensure!(paths.iter().any(|path| path.prefix.addr() == ip), "{paths:?}");
            Ok(())
        })
        .unwrap();
    };
    expect_path();
    let before = bird.session("n1").unwrap().received;
    restart(&lab, "n1");
    wait_for("BIRD to learn the route again", 2 * SOON, || {
        let paths = bird.paths()?;
        assert!(paths.iter().any(|path| path.prefix.addr() == ip), "BIRD retains the route: {paths:?}");
        let session = bird.session("n1")?;
        ensure!(session.state == "Established" && session.received.0 > before.0, "{session:?}");
        Ok(())
    })
    .unwrap();
    // BIRD deletes what was not announced until the End-of-RIB.
    observe_for(2 * SECOND);
    expect_path();
    assert_eq!(bird.session("n1").unwrap().received.1, before.1, "withdrawals in BIRD");
    service.delete(&lab).unwrap();
    lab.api().unwrap().delete(&peer("graceful-bird").to_string()).unwrap();
}

#[test]
fn frr_connects_after_the_restart_time_of_the_speaker() {
    let lab = LAB.turn();
    set_frr(&lab, json!({ "passive": true, "enableGracefulRestart": true, "gracefulRestartTime": "10s" }));
    expect_of_all(&lab, "graceful restart", |session| {
        session["negotiated"]["capabilities"].to_string().contains("graceful restart, 10s")
    });
    expect_connections_of_frr(&lab);
    let start = Instant::now();
    restart(&lab, "n2");
    // The Speaker object is that of the process before until the new one writes it.
    expect_sessions(&lab, 2 * SOON).unwrap();
    // While FRR retains the routes of a neighbor that restarts, it only waits for a connection.
    assert!(start.elapsed() > 9 * SECOND, "after {:?}", start.elapsed());
    expect_connections_of_frr(&lab);
    set_frr(&lab, json!({ "passive": false, "enableGracefulRestart": false, "gracefulRestartTime": null }));
    expect_all_established(&lab);
}

/// Limit for the detection of a failure. The hold time is 9 s.
const DETECTED_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn bfd_ends_the_session_of_a_passive_peer_until_the_path_is_back() {
    let lab = LAB.turn();
    let profile = json!({ "apiVersion": VERSION, "kind": "BFDProfile", "metadata": { "name": "passive-peers" },
                          "spec": { "receiveInterval": 100, "transmitInterval": 100 } });
    lab.api().unwrap().apply_object(profile.clone()).unwrap();
    configure_neighbors(&lab, |neighbor| format!("neighbor {neighbor} bfd"));
    set_frr(&lab, json!({ "passive": true, "bfdProfile": "passive-peers" }));
    let is_up = |session: &Value| session["bfd"]["state"] == "Up";
    expect_of_all(&lab, "BFD", is_up);
    expect_connections_of_frr(&lab);
    let service = LbService::new("passive-bfd", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();

    lab.cut("n1", Carrier::Kept).unwrap();
    expect_next_hops(&lab, ip, &nodes(["n2"]), DETECTED_WITHIN).unwrap();
    lab.mend().unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    expect_of_all(&lab, "BFD", is_up);
    let log = std::fs::read_to_string(lab.node("n1").unwrap().speaker().unwrap().log()).unwrap();
    assert!(log.contains("Control Detection Time Expired"), "the speaker detected the failure too");

    service.delete(&lab).unwrap();
    configure_neighbors(&lab, |neighbor| format!("no neighbor {neighbor} bfd"));
    set_frr(&lab, json!({ "passive": false, "bfdProfile": null }));
    expect_all_established(&lab);
    lab.api().unwrap().delete(&profile.to_string()).unwrap();
}
