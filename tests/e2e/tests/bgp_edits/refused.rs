//! Objects that are refused after they were in force: the form that was accepted last remains in force, also
//! in a speaker and a controller that start meanwhile.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::anyhow;
use fairlead_e2e::{
    LbService, PACE, PORT, SECOND, SOON, Scene, all_nodes, expect_mesh, expect_next_hops, expect_owner,
    expect_sessions, reach_on_lan,
};
use fairlead_lab::{Lab, ensure, observe_for, wait_for};
use serde_json::{Value, json};

use crate::LAB;
use crate::steps::{announced, edit, expect_community, object, replace, replace_sessions};
use crate::witness::Witness;

/// Applies a BFDProfile and a Community, both named `kept`, and uses them. Sessions negotiate graceful
/// restart.
fn use_both(lab: &Lab, scene: &Scene<'_>, ip: IpAddr) {
    let mut community = object("Community", "kept");
    community["spec"] = aliases("kept");
    scene.apply(&community);
    let mut profile = object("BFDProfile", "kept");
    profile["spec"] = json!({});
    scene.apply(&profile);
    edit(lab, "BGPAdvertisement", "bgp", json!({ "communities": ["kept"] }));
    expect_community(lab, ip, "64513:7");
    replace_sessions(lab, ip, json!({ "bfdProfile": "kept", "enableGracefulRestart": true }));
    set_graceful_restart_v6(lab, scene, true);
    scene.expect_condition(&object("BGPPeer", "router-v4"), "Accepted", true);
}

/// Enables or disables graceful restart over IPv6, and waits until each node has negotiated that.
fn set_graceful_restart_v6(lab: &Lab, scene: &Scene<'_>, enable: bool) {
    edit(lab, "BGPPeer", "router-v6", json!({ "enableGracefulRestart": enable }));
    for node in lab.nodes() {
        wait_for(format!("graceful restart of {} over IPv6: {enable}", node.name()), SOON, || {
            let speaker = scene.read(&object("Speaker", node.name()));
            let mut sessions = speaker["status"]["sessions"].as_array().into_iter().flatten();
            let session =
                sessions.find(|session| session["peer"] == "router-v6").cloned().unwrap_or_default();
            let offered = session["negotiated"]["capabilities"].to_string().contains("graceful restart");
            let is_done = session["state"] == "Established" && offered == enable;
            ensure(is_done, session).map_err(|seen| anyhow!("{seen}"))
        })
        .unwrap();
    }
}

fn aliases(name: &str) -> Value {
    json!({ "communities": [{ "name": name, "value": "64513:7" }] })
}

/// Waits until the controller has recorded the current form of an object as the one in force.
fn expect_recorded(scene: &Scene<'_>, kind: &str, name: &str) {
    let object = object(kind, name);
    let generation = scene.read(&object)["metadata"]["generation"].clone();
    wait_for(format!("the form in force of {kind} {name}"), SOON, || {
        let recorded = scene.read(&object)["status"]["inForce"]["generation"].clone();
        ensure(recorded == generation, recorded).map_err(|seen| anyhow!("{seen}"))
    })
    .unwrap();
}

#[test]
fn refused_object_stays_in_force_across_restarts() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "kept-refused");
    use_both(&lab, &scene, ip);
    for (kind, name) in [("BGPPeer", "router-v4"), ("BGPAdvertisement", "bgp"), ("Community", "kept")] {
        expect_recorded(&scene, kind, name);
    }
    let mut witness = Witness::new(&lab);

    // (the edited object, its spec, the object that is refused, the reason)
    let (peer, ad) = (("BGPPeer", "router-v4"), ("BGPAdvertisement", "bgp"));
    for (edited, spec, refused, reason) in [
        (ad, json!({ "aggregationLength": 8 }), ad, "AggregationTooShort"),
        (ad, json!({ "aggregationLength": null, "nodeSelectors": twice() }), ad, "DuplicateEntry"),
        (ad, json!({ "nodeSelectors": null, "communities": ["kpet"] }), ad, "CommunityNotFound"),
        (ad, json!({ "communities": ["kept"] }), ad, "Accepted"),
        (("Community", "kept"), aliases("other"), ad, "CommunityNotFound"),
        (peer, json!({ "nodeSelectors": twice() }), peer, "DuplicateEntry"),
        (peer, json!({ "nodeSelectors": null, "bfdProfile": "kpet" }), peer, "BFDProfileNotFound"),
    ] {
        edit(&lab, edited.0, edited.1, spec);
        let refused = object(refused.0, refused.1);
        wait_for(format!("the verdict {reason} on {refused}"), SOON, || {
            let seen = scene.expect_condition(&refused, "Accepted", reason == "Accepted");
            ensure(seen.starts_with(reason), seen).map_err(|seen| anyhow!("{seen}"))
        })
        .unwrap();
        if reason != "Accepted" {
            let message = scene.expect_condition(&refused, "InForce", true);
            assert!(message.starts_with("LastAccepted: "), "{message}");
        }
    }
    expect_sessions(&lab, SOON).unwrap();
    assert_eq!((witness.dropped(), witness.last_route_events()), (0, vec![]));

    // The peer, and the alias that the advertisement needs, are known only from the statuses.
    lab.controller().unwrap().restart().unwrap();
    lab.node("n2").unwrap().speaker().unwrap().restart().unwrap();
    wait_for("another session of n2", SOON, || ensure(witness.dropped() > 0, "none ended")).unwrap();
    expect_sessions(&lab, SOON).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    expect_community(&lab, ip, "64513:7");
    assert_eq!(witness.last_route_events(), vec![]);

    edit(&lab, "Community", "kept", aliases("kept"));
    edit(&lab, "BGPPeer", "router-v4", json!({ "bfdProfile": "kept" }));
    for (kind, name) in [peer, ad] {
        scene.expect_condition(&object(kind, name), "Accepted", true);
    }
    assert_eq!((witness.dropped(), witness.last_route_events()), (0, vec![]));
    restore(&lab, &scene, ip);
}

#[test]
fn deleted_object_stays_in_force_until_nothing_needs_it() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "kept-deleted");
    use_both(&lab, &scene, ip);
    let mut witness = Witness::new(&lab);
    let both = [("BFDProfile", "BGPPeer router-v4"), ("Community", "BGPAdvertisement bgp")];
    for (kind, user) in both {
        let object = object(kind, "kept");
        wait_for(format!("the finalizer of {kind} kept"), SOON, || {
            let finalizers = scene.read(&object)["metadata"]["finalizers"].clone();
            ensure(finalizers.to_string().contains("-protection"), finalizers)
                .map_err(|seen| anyhow!("{seen}"))
        })
        .unwrap();
        scene.delete(&object);
        let message = scene.expect_condition(&object, "InUse", true);
        assert!(message.starts_with("Referenced: ") && message.contains(user), "{message}");
    }
    // An edit of an object that is being deleted takes effect.
    edit(&lab, "Community", "kept", json!({ "communities": [{ "name": "kept", "value": "64513:8" }] }));
    expect_community(&lab, ip, "64513:8");
    assert_eq!((witness.dropped(), witness.last_route_events()), (0, vec![]));

    edit(&lab, "BGPAdvertisement", "bgp", json!({ "communities": null }));
    edit(&lab, "BGPPeer", "router-v4", json!({ "bfdProfile": null }));
    for (kind, _) in both {
        scene.expect_gone(&object(kind, "kept"));
    }
    // The end of BFD needs a new session of each node.
    witness.expect_new_sessions();
    assert_eq!(witness.last_route_events(), vec![]);
    restore(&lab, &scene, ip);
}

#[test]
fn peer_and_advertisement_are_replaced_without_a_gap() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ip = announced(&scene, "kept-replaced");
    let mut witness = Witness::new(&lab);
    for (kind, name) in [("BGPPeer", "router-v4"), ("BGPAdvertisement", "bgp")] {
        replace(&scene, kind, name);
        // Longer than a deletion waits.
        assert_eq!((witness.dropped(), witness.quiet_route_events(3 * SECOND)), (0, vec![]), "{kind}");
    }
    let mut deleted = object("BGPAdvertisement", "bgp");
    deleted["spec"] = scene.read(&deleted)["spec"].clone();
    scene.delete(&deleted);
    expect_next_hops(&lab, ip, &BTreeSet::new(), SOON).unwrap();
    lab.api().unwrap().apply_object(deleted).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
}

#[test]
fn l2_advertisement_is_refused_and_replaced_without_loss() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.service(&LbService::new("kept-l2", "l2").single("IPv4"));
    let ip = lab.api().unwrap().wait_for_addresses("kept-l2", 1, SOON).unwrap()[0];
    let owner = lab.wait_for_owner(ip, SOON).unwrap().to_owned();
    reach_on_lan(&lab, ip, PORT).unwrap();
    expect_recorded(&scene, "L2Advertisement", "l2");
    let ad = object("L2Advertisement", "l2");
    let stream = lab.client().stream(SocketAddr::new(ip, PORT), PACE);
    edit(&lab, "L2Advertisement", "l2", json!({ "nodeSelectors": twice() }));
    let refused = scene.expect_condition(&ad, "Accepted", false);
    assert!(refused.starts_with("DuplicateEntry"), "{refused}");
    scene.expect_condition(&ad, "InForce", true);
    // A speaker that starts knows the form only from the status.
    let other = lab.nodes().iter().find(|node| node.name() != owner).unwrap();
    other.speaker().unwrap().restart().unwrap();
    expect_mesh(&lab, SOON).unwrap();
    edit(&lab, "L2Advertisement", "l2", json!({ "nodeSelectors": null }));
    scene.expect_condition(&ad, "Accepted", true);
    replace(&scene, "L2Advertisement", "l2");
    // Longer than a deletion waits.
    observe_for(3 * SECOND);
    let report = stream.stop().unwrap();
    assert_eq!(report.answered, report.sent, "{report}");
    expect_owner(&lab, ip, &owner, SOON).unwrap();
}

/// Returns a list that no object may have.
fn twice() -> Value {
    json!([{ "matchLabels": { "a": "b" } }, { "matchLabels": { "a": "b" } }])
}

/// Ends the use of both objects.
fn restore(lab: &Lab, scene: &Scene<'_>, ip: IpAddr) {
    edit(lab, "BGPAdvertisement", "bgp", json!({ "communities": null }));
    replace_sessions(lab, ip, json!({ "bfdProfile": null, "enableGracefulRestart": null }));
    set_graceful_restart_v6(lab, scene, false);
}
