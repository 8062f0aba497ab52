//! The router's table has exactly the expected routes and next hops.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_e2e::{
    LbService, Policy, SECOND, SOON, Shared, all_nodes, configure, expect_next_hops, expect_sessions,
    next_hops, nodes,
};
use fairlead_lab::{Family, Lab, Message, addresses, ensure, wait_for};
use ipnet::IpNet;
use serde_json::json;

static LAB: Shared = Shared::new(Lab::builder, configure);

/// Returns every prefix in the router's table.
fn learned(lab: &Lab) -> BTreeSet<IpNet> {
    Family::BOTH.into_iter().flat_map(|family| lab.router().bgp_routes(family).unwrap().into_keys()).collect()
}

fn expect_learned(lab: &Lab, ips: &[IpAddr]) {
    let expected: BTreeSet<IpNet> = ips.iter().map(|ip| IpNet::from(*ip)).collect();
    wait_for("exactly the expected prefixes", SOON, || {
        let seen = learned(lab);
        ensure(seen == expected, format!("{seen:?}"))
    })
    .unwrap();
}

#[test]
fn cluster_policy_uses_every_node_as_next_hop() {
    let lab = LAB.turn();
    let service = LbService::new("table-cluster", "bgp");
    let ips = service.up(&lab).unwrap();
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    expect_learned(&lab, &ips);
    service.delete(&lab).unwrap();
    expect_learned(&lab, &[]);
}

#[test]
fn local_policy_uses_nodes_with_ready_pods() {
    let lab = LAB.turn();
    let service = LbService::new("table-local", "bgp").policy(Policy::Local);
    let ips = service.up(&lab).unwrap();
    let expect = |expected: &BTreeSet<String>| {
        for ip in &ips {
            expect_next_hops(&lab, *ip, expected, SOON).unwrap();
        }
    };
    expect(&all_nodes(&lab));
    let measured = || {
        let name = "fairlead_speaker_bgp_endpoint_change_duration_seconds_count{peer=\"router-v4\"}";
        lab.node("n2").unwrap().speaker().unwrap().metric(name).unwrap()
    };
    let before = measured();
    lab.set_ready("n2", 1, false).unwrap();
    expect(&nodes(["n1", "n3"]));
    // The router may read the UPDATE before the speaker counts it.
    wait_for("the withdrawal to be measured", SOON, || ensure(measured() > before, "no change")).unwrap();
    lab.set_ready("n1", 1, false).unwrap();
    expect(&nodes(["n3"]));
    lab.set_ready("n3", 1, false).unwrap();
    expect(&nodes([]));
    expect_learned(&lab, &[]);
    lab.set_ready("n2", 1, true).unwrap();
    expect(&nodes(["n2"]));
    service.delete(&lab).unwrap();
    expect_learned(&lab, &[]);
}

#[test]
fn service_without_ready_endpoint_is_not_announced() {
    let lab = LAB.turn();
    let service = LbService::new("table-empty", "bgp").on("nowhere");
    let other = LbService::new("table-other", "bgp");
    let ips = service.up(&lab).unwrap();
    let others = other.up(&lab).unwrap();
    expect_learned(&lab, &others);
    for ip in ips {
        assert_eq!(next_hops(&lab, ip).unwrap(), nodes([]));
    }
    service.delete(&lab).unwrap();
    other.delete(&lab).unwrap();
}

#[test]
fn excluded_node_announces_nothing() {
    let lab = LAB.turn();
    let service = LbService::new("table-exclude", "bgp");
    let ips = service.up(&lab).unwrap();
    let label = |value: serde_json::Value| {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n3" } });
        let labels = json!({ "node.kubernetes.io/exclude-from-external-load-balancers": value });
        lab.api().unwrap().merge(node, json!({ "metadata": { "labels": labels } })).unwrap();
    };
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    label(json!(""));
    for ip in &ips {
        expect_next_hops(&lab, *ip, &nodes(["n1", "n2"]), SOON).unwrap();
    }
    label(json!(null));
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn advertisement_node_selector_limits_next_hops() {
    let lab = LAB.turn();
    let advertisement = |selectors: serde_json::Value| {
        let object = json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPAdvertisement",
                             "metadata": { "name": "bgp" } });
        lab.api().unwrap().merge(object, json!({ "spec": { "nodeSelectors": selectors } })).unwrap();
    };
    let service = LbService::new("table-selector", "bgp");
    let ips = service.up(&lab).unwrap();
    // The lab's odd nodes are in zone a.
    advertisement(json!([{ "matchLabels": { "topology.kubernetes.io/zone": "a" } }]));
    for ip in &ips {
        expect_next_hops(&lab, *ip, &nodes(["n1", "n3"]), SOON).unwrap();
    }
    advertisement(json!(null));
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn protocols_do_not_announce_each_others_addresses() {
    let lab = LAB.turn();
    let (l2, bgp) = (LbService::new("table-l2", "l2"), LbService::new("table-bgp", "bgp"));
    let (l2_ips, bgp_ips) = (l2.up(&lab).unwrap(), bgp.up(&lab).unwrap());
    for ip in l2_ips {
        lab.wait_for_owner(ip, SOON).unwrap();
    }
    expect_learned(&lab, &bgp_ips);
    let capture = lab.capture_node("n1").unwrap();
    std::thread::sleep(SECOND);
    for ip in bgp_ips {
        assert_eq!(capture.claimants(ip), []);
    }
    l2.delete(&lab).unwrap();
    bgp.delete(&lab).unwrap();
}

#[test]
fn steady_state_sends_keepalives_only() {
    let lab = LAB.turn();
    let service = LbService::new("table-steady", "bgp");
    for ip in service.up(&lab).unwrap() {
        expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    }
    let capture = lab.capture_router().unwrap();
    std::thread::sleep(8 * SECOND);
    let kinds: BTreeSet<u8> = capture
        .frames()
        .into_iter()
        .filter_map(|seen| match seen.frame.message {
            // The router passes routes to the other speakers at times of its own timers.
            Message::Bgp { from, messages, .. } if !addresses::router().both().contains(&from) => {
                Some(messages.into_iter().map(|message| message.kind))
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(kinds, BTreeSet::from([4]), "types of BGP messages of the speakers in eight seconds");
    service.delete(&lab).unwrap();
}

#[test]
fn restarted_router_learns_all_routes() {
    let lab = LAB.turn();
    let service = LbService::new("table-restart", "bgp");
    let ips = service.up(&lab).unwrap();
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    let bgpd = lab.router().daemon("bgpd").unwrap();
    bgpd.kill().unwrap();
    bgpd.spawn_again().unwrap();
    expect_sessions(&lab, SOON).unwrap();
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn dual_stack_session_carries_both_families() {
    let lab = LAB.turn();
    let api = lab.api().unwrap();
    let service = LbService::new("table-families", "bgp");
    service.up(&lab).unwrap();
    let peer = json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": "router-v4" } });
    let profile = "{apiVersion: fairlead.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {receiveInterval: 300}}";
    api.apply(profile).unwrap();
    api.merge(peer.clone(), json!({ "spec": { "bfdProfile": "fast", "dualStackAddressFamily": true } }))
        .unwrap();

    let says = |words: &[&str]| {
        for node in lab.nodes() {
            wait_for(format!("the sessions of {} to report {words:?}", node.name()), SOON, || {
                let speaker = api
                    .get("fairlead.dev/v1beta1", "Speaker", None, node.name())
                    .map_err(|error| error.to_string())?;
                let sessions = speaker.pointer("/status/sessions").map(ToString::to_string);
                let sessions = sessions.unwrap_or_default();
                ensure(words.iter().all(|word| sessions.contains(word)), sessions)
            })
            .unwrap();
        }
    };
    // One session over IPv4, one address of each family; FRR has both families enabled.
    says(&["the router sends no BFD packets", r#""peer":"router-v4","phase":"Established","prefixes":2"#]);

    api.merge(peer, json!({ "spec": { "bfdProfile": null, "dualStackAddressFamily": false } })).unwrap();
    api.delete(profile).unwrap();
    // Restores one family per session; the session restarts, which shows that the change took effect.
    says(&[r#""peer":"router-v4","phase":"Established","prefixes":1"#]);
    service.delete(&lab).unwrap();
    expect_sessions(&lab, SOON).unwrap();
}
