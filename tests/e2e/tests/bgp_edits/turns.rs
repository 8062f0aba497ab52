//! Edits that need a new session: nothing changes in the router where graceful restart is negotiated;
//! elsewhere the nodes take turns.

use std::net::IpAddr;

use fairlead_e2e::{SECOND, SOON, Scene, all_nodes, expect_next_hops};
use fairlead_lab::{LAN_INTERFACE, Lab, ensure, wait_for};
use serde_json::json;

use crate::LAB;
use crate::steps::{announced, object, replace_sessions};
use crate::witness::Witness;

fn restore(lab: &Lab, ip: IpAddr) {
    replace_sessions(lab, ip, json!({ "holdTime": "9s", "enableGracefulRestart": null }));
}

#[test]
fn hold_time_edit_with_graceful_restart_changes_no_route() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "edit-graceful");
    replace_sessions(&lab, ip, json!({ "enableGracefulRestart": true }));
    let events = replace_sessions(&lab, ip, json!({ "holdTime": "12s" }));
    assert_eq!(events, []);
    restore(&lab, ip);
}

#[test]
fn hold_time_edit_without_graceful_restart_takes_one_next_hop_at_a_time() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "edit-turns");
    let events = replace_sessions(&lab, ip, json!({ "holdTime": "12s" }));
    // The router may process the end of a session and the next one at once: then nothing changes.
    assert!(events.iter().all(|event| event.next_hops >= 2), "{events:?}");
    let starts: Vec<_> = events.iter().filter(|event| event.next_hops == 2).map(|event| event.at).collect();
    for pair in starts.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart > SECOND, "turns are {apart:?} apart");
    }
    restore(&lab, ip);
}

/// Another address of the router, on the link of the nodes.
const OTHER_ADDRESS: &str = "192.0.2.3";

/// Adds or, with `no`, removes the other address of the router.
fn set_other_address(lab: &Lab, no: &str) {
    let interface = format!("interface {LAN_INTERFACE}");
    lab.router().configure(&[&interface, &format!("{no} ip address {OTHER_ADDRESS}/24")]).unwrap();
}

/// Returns the number of NOTIFICATION messages that the router has received from each node over IPv4.
fn notifications(lab: &Lab) -> Vec<u64> {
    let received = lab.nodes().iter().map(|node| {
        let [v4, _] = node.addresses();
        let neighbor = lab.router().json(&format!("show bgp neighbors {v4} json")).unwrap();
        neighbor[v4.to_string()]["messageStats"]["notificationsRecv"].as_u64().unwrap()
    });
    received.collect()
}

#[test]
fn address_edit_ends_the_old_session_of_one_node_at_a_time() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    set_other_address(&lab, "");
    let ip = announced(&scene, "edit-address");
    // Graceful restart does not apply: the router at the new address may be another one.
    replace_sessions(&lab, ip, json!({ "enableGracefulRestart": true }));
    for address in [OTHER_ADDRESS, "192.0.2.1"] {
        let before = notifications(&lab);
        let events = replace_sessions(&lab, ip, json!({ "peerAddress": address }));
        assert!(events.iter().all(|event| event.next_hops >= 2), "to {address}: {events:?}");
        // With a NOTIFICATION, the old router does not keep the routes. FRR counts it twice.
        let after = notifications(&lab);
        let is_notified = std::iter::zip(&after, &before).all(|(after, before)| after > before);
        assert!(is_notified, "to {address}: {before:?}, then {after:?}");
    }
    restore(&lab, ip);
    set_other_address(&lab, "no");
}

#[test]
fn renamed_peer_keeps_its_sessions() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "edit-renamed");
    let mut witness = Witness::new(&lab);
    let spec = scene.read(&object("BGPPeer", "router-v4"))["spec"].clone();
    let rename = |from: &str, to: &str| {
        let mut renamed = object("BGPPeer", to);
        renamed["spec"] = spec.clone();
        lab.api().unwrap().apply_object(renamed.clone()).unwrap();
        let refused = scene.expect_condition(&renamed, "Accepted", false);
        assert!(refused.starts_with("DuplicatePeer"), "{refused}");
        scene.delete(&object("BGPPeer", from));
        scene.expect_condition(&renamed, "Accepted", true);
        wait_for(format!("sessions of {to} in the Speaker object"), SOON, || {
            let since = fairlead_e2e::established_since(&lab, "n3")?;
            ensure(since.contains_key(to) && !since.contains_key(from), since)
                .map_err(|since| anyhow::anyhow!("{since:?}"))
        })
        .unwrap();
    };
    rename("router-v4", "renamed");
    rename("renamed", "router-v4");
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    assert_eq!((witness.dropped(), witness.route_events()), (0, vec![]));
}
