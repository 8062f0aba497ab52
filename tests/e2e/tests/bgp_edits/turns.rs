//! Edits that need a new session: nothing changes in the router where graceful restart is negotiated;
//! elsewhere the nodes take turns.

use std::net::IpAddr;

use fairlead_e2e::{LbService, SECOND, SOON, Scene, all_nodes, expect_next_hops, expect_sessions};
use fairlead_lab::{Lab, RouteEvent, ensure, wait_for};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::LAB;
use crate::witness::{Witness, edit, object};

/// Starts a Service whose route has every node as next hop.
pub(crate) fn announced(lab: &Lab, name: &str) -> (LbService, IpAddr) {
    let service = LbService::new(name, "bgp").single("IPv4");
    let ip = service.up(lab).unwrap()[0];
    expect_next_hops(lab, ip, &all_nodes(lab), SOON).unwrap();
    (service, ip)
}

/// Edits the IPv4 peer, and waits until each node has replaced its session. Returns the changes of the route
/// meanwhile.
pub(crate) fn replace_sessions(lab: &Lab, ip: IpAddr, spec: Value) -> Vec<RouteEvent> {
    let mut witness = Witness::new(lab);
    edit(lab, "BGPPeer", "router-v4", spec);
    witness.expect_new_sessions();
    expect_sessions(lab, SOON).unwrap();
    let events = witness.last_route_events();
    expect_next_hops(lab, ip, &all_nodes(lab), SOON).unwrap();
    events.into_iter().filter(|event| event.prefix == IpNet::from(ip)).collect()
}

fn restore(lab: &Lab, ip: IpAddr) {
    replace_sessions(lab, ip, json!({ "holdTime": "9s", "enableGracefulRestart": null }));
}

#[test]
fn hold_time_edit_with_graceful_restart_changes_no_route() {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, "edit-graceful");
    replace_sessions(&lab, ip, json!({ "enableGracefulRestart": true }));
    let events = replace_sessions(&lab, ip, json!({ "holdTime": "12s" }));
    assert_eq!(events, []);
    restore(&lab, ip);
    service.delete(&lab).unwrap();
}

#[test]
fn hold_time_edit_without_graceful_restart_takes_one_next_hop_at_a_time() {
    let lab = LAB.turn();
    let (service, ip) = announced(&lab, "edit-turns");
    let events = replace_sessions(&lab, ip, json!({ "holdTime": "12s" }));
    // The router may process the end of a session and the next one at once: then nothing changes.
    assert!(events.iter().all(|event| event.next_hops >= 2), "{events:?}");
    let starts: Vec<_> = events.iter().filter(|event| event.next_hops == 2).map(|event| event.at).collect();
    for pair in starts.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart > SECOND, "turns are {apart:?} apart");
    }
    restore(&lab, ip);
    service.delete(&lab).unwrap();
}

#[test]
fn renamed_peer_keeps_its_sessions() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let (service, ip) = announced(&lab, "edit-renamed");
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
    service.delete(&lab).unwrap();
}
