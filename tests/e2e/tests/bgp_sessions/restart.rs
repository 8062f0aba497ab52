//! Graceful restart (RFC 4724, RFC 8538) with FRR and BIRD: which ends of a session cost routes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use fairlead_e2e::{LbService, SECOND, SOON, all_nodes, expect_next_hops, expect_sessions, next_hops, nodes};
use fairlead_lab::peers::Bird;
use fairlead_lab::{Lab, observe_for, wait_for};
use serde_json::{Value, json};

use crate::setup::{LAB, bird, expect_established, peer, session};

/// Hold time of the sessions with FRR.
const HOLD_TIME: Duration = Duration::from_secs(9);
const BIRD_PEER: &str = "graceful";

/// Enables graceful restart on the sessions with FRR and waits until it is negotiated.
fn enable(lab: &Lab, enable: bool) {
    for name in ["router-v4", "router-v6"] {
        let spec = json!({ "enableGracefulRestart": enable, "gracefulRestartTime": if enable { json!("60s") } else { Value::Null } });
        lab.api().unwrap().merge(peer(name), json!({ "spec": spec })).unwrap();
        for node in ["n1", "n2"] {
            wait_for(format!("graceful restart of {node} with {name}"), 2 * SOON, || {
                let session = session(lab, node, name)?;
                let offered =
                    session["negotiated"]["capabilities"].to_string().contains("graceful restart, 60s");
                ensure!(session["state"] == "Established" && offered == enable, "{session}");
                Ok(())
            })
            .unwrap();
        }
    }
}

/// Adds BIRD as a peer with graceful restart.
fn add_bird(lab: &Lab) -> Bird {
    let bird = bird(lab, BIRD_PEER, 6, "hold time 9; graceful restart yes;");
    let mut object = peer(BIRD_PEER);
    object["spec"] = json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "192.0.2.6", "connectTime": "1s",
                             "enableGracefulRestart": true });
    lab.api().unwrap().apply_object(object).unwrap();
    for node in ["n1", "n2"] {
        expect_established(lab, node, BIRD_PEER);
    }
    bird
}

/// Returns the next hops of BIRD's paths to an address.
fn bird_next_hops(bird: &Bird, ip: IpAddr) -> BTreeSet<IpAddr> {
    let paths = bird.paths().unwrap();
    paths.iter().filter(|path| path.prefix.addr() == ip).map(|path| path.next_hop).collect()
}

fn expect_bird_next_hops(bird: &Bird, ip: IpAddr, nodes: &[u8]) {
    let expected: BTreeSet<IpAddr> = nodes.iter().map(|n| IpAddr::from([192, 0, 2, *n])).collect();
    wait_for(format!("{ip} via {expected:?} in BIRD"), SOON, || {
        let seen = bird_next_hops(bird, ip);
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn restart_and_silence_keep_routes_and_leave_withdraws_them() {
    let lab = LAB.turn();
    enable(&lab, true);
    let bird = add_bird(&lab);
    let service = LbService::new("graceful", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    expect_bird_next_hops(&bird, ip, &[11, 12]);
    let speaker = lab.node("n2").unwrap().speaker().unwrap();

    // An upgrade.
    let monitor = lab.router().monitor_routes().unwrap();
    let withdrawn = bird.session("n2").unwrap().received.1;
    speaker.terminate(10 * SECOND).unwrap();
    observe_for(2 * SECOND);
    assert_eq!(bird_next_hops(&bird, ip).len(), 2, "BIRD retains the route");
    speaker.spawn_again().unwrap();
    expect_sessions(&lab, 2 * SOON).unwrap();
    expect_established(&lab, "n2", BIRD_PEER);
    // The routers delete what was not announced until the End-of-RIB.
    observe_for(2 * SECOND);
    assert_eq!(monitor.events().unwrap(), [], "route events in FRR's kernel");
    expect_bird_next_hops(&bird, ip, &[11, 12]);
    assert_eq!(bird.session("n2").unwrap().received.1, withdrawn, "withdrawals in BIRD");

    // A speaker that is silent for longer than the hold time, and notices only afterwards. FRR has
    // offered RFC 8538.
    let capabilities = session(&lab, "n2", "router-v4").unwrap()["negotiated"]["capabilities"].to_string();
    assert!(capabilities.contains("graceful restart after a NOTIFICATION"), "{capabilities}");
    speaker.stop().unwrap();
    wait_for("FRR to end the session", 2 * SOON, || {
        let sessions = lab.router().sessions()?;
        let state = sessions.get(&IpAddr::from([192, 0, 2, 12])).map(|session| session.state.clone());
        ensure!(state.as_deref() != Some("Established"), "{state:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(next_hops(&lab, ip).unwrap(), all_nodes(&lab), "after the hold time of {HOLD_TIME:?}");
    speaker.resume().unwrap();
    expect_sessions(&lab, 2 * SOON).unwrap();
    observe_for(2 * SECOND);
    let of_ipv4 = |events: Vec<fairlead_lab::RouteEvent>| -> Vec<_> {
        events.into_iter().filter(|event| event.prefix.addr() == ip).collect()
    };
    assert_eq!(of_ipv4(monitor.events().unwrap()), [], "route events in FRR's kernel");
    expect_established(&lab, "n2", BIRD_PEER);

    // A drain is no restart.
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n2" } });
    let label = |value: Value| {
        let labels = json!({ "metadata": { "labels": { "fairlead.dev/drain": value } } });
        lab.api().unwrap().merge(node.clone(), labels).unwrap();
    };
    let start = Instant::now();
    label(json!(""));
    expect_next_hops(&lab, ip, &nodes(["n1"]), SECOND).unwrap();
    eprintln!("drain: FRR prefers the other node after {:?}", start.elapsed());
    expect_bird_next_hops(&bird, ip, &[11]);
    speaker.terminate(10 * SECOND).unwrap();
    observe_for(SECOND);
    assert_eq!(next_hops(&lab, ip).unwrap(), nodes(["n1"]));
    label(Value::Null);
    speaker.spawn_again().unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), 2 * SOON).unwrap();

    service.delete(&lab).unwrap();
    lab.api().unwrap().delete(&peer(BIRD_PEER).to_string()).unwrap();
    enable(&lab, false);
}

#[test]
fn deleted_daemon_set_is_no_restart() {
    let lab = LAB.turn();
    let labels = json!({ "app": "speaker" });
    let daemon_set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "fairlead-speaker", "namespace": "fairlead-system" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "speaker", "image": "fairlead:dev" }] },
            },
        },
    });
    lab.api().unwrap().apply_object(daemon_set.clone()).unwrap();
    // The speakers see it long before new sessions are established.
    enable(&lab, true);
    let service = LbService::new("uninstalled", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    lab.api().unwrap().delete(&daemon_set.to_string()).unwrap();
    // In a cluster, the Pods end a moment after the DaemonSet. Its deletion alone withdraws nothing.
    observe_for(SECOND);
    assert_eq!(next_hops(&lab, ip).unwrap(), all_nodes(&lab));
    let speaker = lab.node("n2").unwrap().speaker().unwrap();
    speaker.terminate(10 * SECOND).unwrap();
    expect_next_hops(&lab, ip, &nodes(["n1"]), SOON).unwrap();
    speaker.spawn_again().unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), 2 * SOON).unwrap();
    service.delete(&lab).unwrap();
    enable(&lab, false);
}
