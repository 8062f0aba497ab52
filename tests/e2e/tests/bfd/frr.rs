//! Sessions with FRR's bfdd: parameters, edits, passive mode, AdminDown.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use fairlead_e2e::{SECOND, SOON, all_nodes, expect_next_hops, expect_sessions};
use fairlead_lab::{Lab, observe_for, wait_for};
use serde_json::{Value, json};

use crate::failures::announced;
use crate::observed::{expect_all_up, expect_bfd, router_downs, router_peers, session};
use crate::{LAB, PROFILE, peer_object, profile, set_router_profile};

/// Waits until the router reports these values of every node's session: transmit and receive interval in
/// milliseconds, and multiplier.
fn expect_router_sees(lab: &Lab, transmit: u64, receive: u64, multiplier: u64) {
    wait_for(format!("{transmit}/{receive} ms × {multiplier} in the router"), SOON, || {
        for (peer, session) in router_peers(lab)? {
            let seen = ["remote-transmit-interval", "remote-receive-interval", "remote-detect-multiplier"]
                .map(|field| session[field].as_u64());
            ensure!(seen == [transmit, receive, multiplier].map(Some), "{peer}: {session}");
        }
        anyhow::Ok(())
    })
    .unwrap();
}

/// Waits until the session of every node shows these values.
fn expect_speakers_show(lab: &Lab, values: &Value) {
    for node in lab.nodes() {
        for peer in ["router-v4", "router-v6"] {
            let so = |bfd: &Value| values.as_object().is_some_and(|v| v.iter().all(|(k, v)| bfd[k] == *v));
            expect_bfd(lab, (node.name(), peer), &values.to_string(), SOON, so).unwrap();
        }
    }
}

#[test]
fn profile_edits_keep_the_sessions_up() {
    let lab = LAB.turn();
    expect_sessions(&lab, SOON).unwrap();
    let downs = (router_downs(&lab).unwrap(), lab.router().dropped_sessions().unwrap());
    let edit = |spec: Value| lab.api().unwrap().merge(profile(json!({})), json!({ "spec": spec })).unwrap();
    // Longer, shorter, and different in both directions.
    for (transmit, receive, multiplier) in [(400, 600, 5), (30, 40, 4), (200, 60, 3), (50, 50, 3)] {
        edit(json!({
            "transmitInterval": transmit, "receiveInterval": receive, "detectMultiplier": multiplier,
        }));
        expect_router_sees(&lab, transmit, receive, multiplier);
        // The router sends every 50 ms and receives every 50 ms.
        expect_speakers_show(
            &lab,
            &json!({
                "state": "Up", "transmitInterval": transmit.max(50), "receiveInterval": receive,
                "detectionTime": receive.max(50) * 3,
            }),
        );
    }
    // Edits of the router.
    for (transmit, receive) in [(300, 500), (50, 50)] {
        set_router_profile(&lab, transmit, receive).unwrap();
        expect_speakers_show(
            &lab,
            &json!({ "state": "Up", "transmitInterval": receive, "detectionTime": transmit * 3 }),
        );
    }
    let downs_after = (router_downs(&lab).unwrap(), lab.router().dropped_sessions().unwrap());
    assert_eq!(downs_after, downs, "no session of BFD or BGP ended");
}

#[test]
fn passive_speaker_comes_up() {
    let lab = LAB.turn();
    let set_passive = |passive: Value| {
        let spec = json!({ "spec": { "passiveMode": passive } });
        lab.api().unwrap().merge(profile(json!({})), spec).unwrap();
    };
    set_passive(json!(true));
    // A new session begins with the silence of the speaker.
    for node in lab.nodes() {
        node.speaker().unwrap().restart().unwrap();
    }
    expect_sessions(&lab, SOON).unwrap();
    expect_all_up(&lab, SOON).unwrap();
    set_passive(Value::Null);
}

#[test]
fn router_that_disables_bfd_keeps_the_bgp_session() {
    let lab = LAB.turn();
    expect_sessions(&lab, SOON).unwrap();
    let dropped = lab.router().dropped_sessions().unwrap();
    let [node, _] = lab.node("n1").unwrap().addresses();
    let router = lab.router();
    let peer = bfd_peer(&lab, node);
    router.configure(&["bfd", &peer, "shutdown"]).unwrap();
    let disabled = |bfd: &Value| {
        let message = bfd["message"].as_str().unwrap_or_default();
        bfd["state"] == "Down" && message.contains("disabled BFD")
    };
    expect_bfd(&lab, ("n1", "router-v4"), "disabled by the router", SOON, disabled).unwrap();
    observe_for(2 * SECOND);
    assert_eq!(lab.router().dropped_sessions().unwrap(), dropped, "AdminDown says nothing about the path");
    router.configure(&["bfd", &peer, "no shutdown"]).unwrap();
    expect_all_up(&lab, SOON).unwrap();
    assert_eq!(lab.router().dropped_sessions().unwrap(), dropped);
}

/// Returns the line that names the router's session with a node in its configuration.
fn bfd_peer(lab: &Lab, node: IpAddr) -> String {
    let peers = router_peers(lab).unwrap();
    let session = &peers[&node];
    let text = |field: &str| session[field].as_str().with_context(|| session.to_string()).unwrap().to_owned();
    format!("peer {} local-address {} interface {}", text("peer"), text("local"), text("interface"))
}

/// Removes the profile of router-v4, and waits until no node runs BFD with it and all BGP sessions are
/// established. Then adds the profile again.
pub(crate) fn remove_profile(lab: &Lab) {
    let set = |profile: Value| {
        let spec = json!({ "spec": { "bfdProfile": profile } });
        lab.api().unwrap().merge(peer_object("router-v4"), spec).unwrap();
    };
    set(Value::Null);
    for node in lab.nodes() {
        let name = node.name();
        wait_for(format!("{name} without BFD"), SOON, || {
            let session = session(lab, name, "router-v4")?;
            ensure!(session["bfd"].is_null(), "{session}");
            anyhow::Ok(())
        })
        .unwrap();
    }
    expect_sessions(lab, SOON).unwrap();
    set(json!(PROFILE));
    expect_all_up(lab, SOON).unwrap();
}

/// The router takes AdminDown for a failure (FRR does, RFC 5882 §4.2 forbids it).
#[test]
fn removed_profile_costs_one_next_hop_at_a_time() {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, "bfd-removed");
    let routes = lab.router().monitor_routes().unwrap();
    remove_profile(&lab);
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    let events = routes.events().unwrap();
    assert!(events.iter().all(|event| event.next_hops >= lab.nodes().len() - 1), "{events:?}");
    service.delete(&lab).unwrap();
}
