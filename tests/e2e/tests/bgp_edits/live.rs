//! Edits of each kind take effect as `fairlead-plan` classifies them: without a trace, by an UPDATE, or by a
//! new session.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_e2e::{
    LbService, SECOND, SOON, Scene, all_nodes, established_since, expect_established, expect_next_hops,
    expect_sessions,
};
use fairlead_lab::{Lab, Message, ensure, observe_for, wait_for};
use ipnet::IpNet;
use serde_json::json;

use crate::LAB;
use crate::steps::{announced, edit, expect_community, object};
use crate::witness::Witness;

/// Type of a KEEPALIVE message.
const KEEPALIVE: u8 = 4;

/// Waits until every node sends a KEEPALIVE each second over its session of the IPv4 transport.
fn expect_keepalives_each_second(lab: &Lab) {
    for node in lab.nodes() {
        let [v4, _] = node.addresses();
        wait_for(format!("a KEEPALIVE of {} each second", node.name()), SOON, || {
            let capture = lab.capture_node(node.name())?;
            observe_for(4 * SECOND);
            let sent = |from: IpAddr, kinds: Vec<u8>| from == v4 && kinds.contains(&KEEPALIVE);
            let count = capture.frames().into_iter().filter(|seen| match &seen.frame.message {
                Message::Bgp { from, messages, .. } => sent(*from, messages.iter().map(|m| m.kind).collect()),
                _ => false,
            });
            let count = count.count();
            ensure(count >= 3, count).map_err(|count| anyhow::anyhow!("{count} in four seconds"))
        })
        .unwrap();
    }
}

#[test]
fn edits_cost_no_more_than_they_must() {
    let lab = LAB.turn();
    let api = lab.api().unwrap();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "edits");
    let since = expect_established(&lab, "n1", 2).unwrap();
    let mut witness = Witness::new(&lab);

    // Nothing. The last edit has a visible effect, and the speakers handle edits of a kind in order.
    let profile = "{apiVersion: fairlead.dev/v1beta1, kind: BFDProfile, metadata: {name: edited}, spec: {}}";
    api.apply(profile).unwrap();
    for spec in [
        json!({ "connectTime": "7s" }),
        json!({ "nodeSelectors": [{ "matchExpressions": [{ "key": "absent", "operator": "DoesNotExist" }] }] }),
        json!({ "disableMP": true }),
    ] {
        edit(&lab, "BGPPeer", "router-v4", spec);
    }
    edit(&lab, "BGPPeer", "router-v4", json!({ "keepaliveTime": "1s" }));
    expect_keepalives_each_second(&lab);
    assert_eq!((witness.dropped(), witness.route_events()), (0, vec![]));
    assert_eq!(established_since(&lab, "n1").unwrap(), since);

    // UPDATE messages.
    let aliases = |value: &str| json!({ "communities": [{ "name": "edited", "value": value }] });
    let mut community = object("Community", "edited");
    community["spec"] = aliases("64513:1");
    api.apply_object(community.clone()).unwrap();
    edit(&lab, "BGPAdvertisement", "bgp", json!({ "communities": ["edited"] }));
    expect_community(&lab, ip, "64513:1");
    edit(&lab, "Community", "edited", aliases("64513:2"));
    expect_community(&lab, ip, "64513:2");
    assert_eq!((witness.dropped(), witness.route_events()), (0, vec![]));

    // A new session of each node, and another one.
    edit(&lab, "BGPPeer", "router-v4", json!({ "holdTime": "12s", "keepaliveTime": null }));
    witness.expect_new_sessions();
    edit(&lab, "BGPAdvertisement", "bgp", json!({ "communities": null }));
    let restored = json!({
        "holdTime": "9s", "keepaliveTime": "3s", "connectTime": "1s", "nodeSelectors": null, "disableMP": null,
    });
    edit(&lab, "BGPPeer", "router-v4", restored);
    witness.expect_new_sessions();
    expect_sessions(&lab, SOON).unwrap();
    api.delete(&community.to_string()).unwrap();
    api.delete(profile).unwrap();
}

/// Number of Services whose routes one edit replaces.
const MEMBERS: usize = 20;

#[test]
fn aggregate_and_members_replace_each_other_without_a_gap_in_the_router() {
    let lab = LAB.turn();
    let services: Vec<_> =
        (0..MEMBERS).map(|n| LbService::new(&format!("member-{n}"), "bgp").single("IPv4")).collect();
    let addresses: Vec<_> = services.iter().map(|service| service.up(&lab).unwrap()[0]).collect();
    for address in &addresses {
        expect_next_hops(&lab, *address, &all_nodes(&lab), SOON).unwrap();
    }
    let witness = Witness::new(&lab);
    let aggregate: IpNet = "198.51.100.0/24".parse().unwrap();
    // Next hops by prefix, in the kernel of the router.
    let mut routes: BTreeMap<IpNet, usize> =
        addresses.iter().map(|address| (IpNet::from(*address), all_nodes(&lab).len())).collect();
    let count = all_nodes(&lab).len();
    for (length, expected) in [(json!(24), vec![aggregate]), (json!(null), routes.keys().copied().collect())]
    {
        edit(&lab, "BGPAdvertisement", "bgp", json!({ "aggregationLength": length }));
        wait_for(format!("the routes with aggregationLength {length}"), SOON, || {
            for event in witness.last_route_events() {
                routes.insert(event.prefix, event.next_hops);
                let covered = |address: &&IpAddr| {
                    routes.iter().any(|(prefix, next_hops)| *next_hops > 0 && prefix.contains(*address))
                };
                assert_eq!(addresses.iter().find(|address| !covered(address)), None, "{event:?}");
            }
            let present: Vec<_> = routes
                .iter()
                .filter(|(_, next_hops)| **next_hops == count)
                .map(|(prefix, _)| *prefix)
                .collect();
            ensure(present == expected, format!("{present:?}"))
        })
        .unwrap();
    }
    services.iter().for_each(|service| service.delete(&lab).unwrap());
}
