//! The node that announces an address by L2.

use std::sync::Arc;

use TrafficPolicy::{Cluster, Local};

use super::*;

const A: &str = "192.0.2.1";

fn selecting(name: &str, nodes: &[&str]) -> L2Advertisement {
    let node_selectors = nodes.iter().map(|n| selector(&format!("name={n}"))).collect();
    L2Advertisement { node_selectors, ..l2_advertisement(name) }
}

fn preferring(name: &str, weights: &[(u32, &str)]) -> L2Advertisement {
    let preferred = weights.iter().map(|(w, n)| (*w, selector(&format!("name={n}"))));
    L2Advertisement { preferred_nodes: preferred.collect(), ..l2_advertisement(name) }
}

/// Given 3 nodes, a policy and the nodes with endpoints: the nodes that announce.
#[test]
fn policy_and_endpoints_select_the_owner() {
    let table = [
        (Local, "n1", vec!["n1"]),
        (Local, "n2", vec!["n2"]),
        (Local, "n3", vec!["n3"]),
        (Local, "", vec![]),
        (Cluster, "", vec![]),
    ];
    for (policy, endpoints, expected) in table {
        let world = World::of(3).service("web", policy, A, endpoints).l2(l2_advertisement("ad"));
        assert_eq!(world.l2_nodes(A), expected, "{policy:?}, endpoints on {endpoints:?}");
    }
}

#[test]
fn policy_cluster_owner_is_independent_of_endpoints() {
    let owner = |e| World::of(3).service("web", Cluster, A, e).l2(l2_advertisement("ad")).l2_nodes(A);
    assert_eq!(owner("n1").len(), 1);
    assert_eq!(owner("n1"), owner("n2"));
    assert_eq!(owner("n1"), owner("n1 n2 n3"));
}

#[test]
fn policy_local_owner_has_an_endpoint() {
    let world = World::of(3).service("web", Local, A, "n1 n3").l2(l2_advertisement("ad"));
    let nodes = world.l2_nodes(A);
    assert!(nodes == ["n1"] || nodes == ["n3"], "{nodes:?}");
}

/// Given advertisements: one of the selected nodes announces.
#[test]
fn node_selectors_limit_the_candidates() {
    let all = ["n1", "n2", "n3"];
    let table: [(&str, Vec<L2Advertisement>, &[&str]); 5] = [
        ("one node", vec![selecting("ad", &["n2"])], &["n2"]),
        ("any of two selectors", vec![selecting("ad", &["n1", "n3"])], &["n1", "n3"]),
        ("two advertisements", vec![selecting("a", &["n1"]), selecting("b", &["n3"])], &["n1", "n3"]),
        ("no such node", vec![selecting("ad", &["n9"])], &[]),
        ("no selector", vec![l2_advertisement("ad")], &all),
    ];
    for (what, ads, among) in table {
        let world = ads.into_iter().fold(World::of(3).service("web", Cluster, A, "n1"), World::l2);
        let nodes = world.l2_nodes(A);
        assert_eq!(nodes.len(), among.len().min(1), "{what}: {nodes:?}");
        assert!(nodes.iter().all(|node| among.contains(&node.as_str())), "{what}: {nodes:?}");
    }
}

/// Given preferences: the node that announces; `None` for the node with the highest hash.
#[test]
fn preference_decides_among_candidates() {
    let hashed = World::of(3).service("web", Cluster, A, "n1").l2(l2_advertisement("ad")).l2_nodes(A);
    let table = [
        (vec![preferring("a", &[(1, "n1")])], Some("n1")),
        (vec![preferring("a", &[(1, "n2")])], Some("n2")),
        (vec![preferring("a", &[(10, "n1"), (20, "n3")])], Some("n3")),
        // The weights of two advertisements add up.
        (vec![preferring("a", &[(60, "n1"), (50, "n2")]), preferring("b", &[(20, "n2")])], Some("n2")),
        // A node selector outranks a preference.
        (
            vec![L2Advertisement {
                preferred_nodes: vec![(100, selector("name=n1"))],
                ..selecting("a", &["n2"])
            }],
            Some("n2"),
        ),
        (vec![preferring("a", &[(100, "n9")])], None),
    ];
    for (ads, expected) in table {
        let what = format!("{ads:?}");
        let world = ads.into_iter().fold(World::of(3).service("web", Cluster, A, "n1"), World::l2);
        let expected = expected.map_or(hashed.clone(), |node| vec![node.to_owned()]);
        assert_eq!(world.l2_nodes(A), expected, "{what}");
    }
}

#[test]
fn preferred_node_is_skipped_while_excluded() {
    let mut world =
        World::of(3).service("web", Cluster, A, "n1").l2(preferring("ad", &[(100, "n2"), (50, "n3")]));
    assert_eq!(world.l2_nodes(A), ["n2"]);
    world.nodes.get_mut("n2").unwrap().excluded = true;
    assert_eq!(world.l2_nodes(A), ["n3"]);
    world.nodes.get_mut("n2").unwrap().excluded = false;
    assert_eq!(world.l2_nodes(A), ["n2"]);
}

/// Given a change to n2, which is preferred: another node owns the address.
#[test]
fn ineligible_node_is_not_elected() {
    type Edit = fn(&mut World);
    let table: [(&str, Edit); 4] = [
        ("excluded by label", |w| w.nodes.get_mut("n2").unwrap().excluded = true),
        ("network unavailable", |w| w.nodes.get_mut("n2").unwrap().network_unavailable = true),
        ("not live", |w| assert!(w.live.as_mut().unwrap().remove("n2"))),
        ("Node deleted", |w| drop(w.nodes.remove("n2"))),
    ];
    for (what, edit) in table {
        let mut world = World::of(3).service("web", Cluster, A, "n1").l2(preferring("ad", &[(100, "n2")]));
        assert_eq!(world.l2_nodes(A), ["n2"]);
        edit(&mut world);
        let owners: BTreeSet<_> =
            ["n1", "n3"].iter().map(|n| world.plan_of(n).0.owner(ip(A)).map(str::to_owned)).collect();
        assert_eq!(owners.len(), 1, "{what}: {owners:?}");
        assert!(!owners.contains(&Some("n2".to_owned())) && !owners.contains(&None), "{what}: {owners:?}");
    }
}

#[test]
fn service_selectors_select_services() {
    let mut ad = l2_advertisement("ad");
    ad.service_selectors = vec![selector("app=web"), selector("app=mail")];
    let world = ["web", "mail", "dns"].iter().zip(["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let world = world.fold(World::of(1), |w, (name, a)| w.service(name, Cluster, a, "n1")).l2(ad);
    let (_, announced) = world.plan_of("n1");
    assert_eq!(announced.l2.keys().copied().collect::<Vec<_>>(), [ip("192.0.2.1"), ip("192.0.2.2")]);
}

#[test]
fn pools_are_selected_by_name_or_label() {
    for pools in [
        PoolSelection { names: ["other".to_owned()].into(), selectors: Vec::new() },
        PoolSelection { names: BTreeSet::new(), selectors: vec![selector("pool=other")] },
    ] {
        let world = World::of(1)
            .pool("other", &["198.51.100.0-198.51.100.255"])
            .service("web", Cluster, A, "n1")
            .service("mail", Cluster, "198.51.100.1", "n1")
            .l2(L2Advertisement { pools, ..l2_advertisement("ad") });
        let (_, announced) = world.plan_of("n1");
        assert_eq!(announced.l2.keys().copied().collect::<Vec<_>>(), [ip("198.51.100.1")]);
    }
}

/// Given advertisements with interfaces: the address is announced on their union.
#[test]
fn interfaces_of_advertisements_are_united() {
    let on = |name: &str, interfaces: &[&str]| L2Advertisement {
        interfaces: interfaces.iter().map(|i| (*i).to_owned()).collect(),
        ..l2_advertisement(name)
    };
    let elsewhere = |mut ad: L2Advertisement| {
        ad.node_selectors = vec![selector("name=n9")];
        ad
    };
    let only =
        |names: &[&str]| InterfaceSet::Named(Arc::new(names.iter().map(|n| (*n).to_owned()).collect()));
    let table = [
        (vec![on("a", &[])], InterfaceSet::All),
        (vec![on("a", &["eth1"])], only(&["eth1"])),
        (vec![on("a", &["eth1"]), on("b", &["eth2"])], only(&["eth1", "eth2"])),
        (vec![on("a", &["eth1"]), on("b", &[])], InterfaceSet::All),
        (vec![on("a", &[]), on("b", &["eth1"])], InterfaceSet::All),
        (vec![on("a", &["eth1"]), elsewhere(on("b", &["eth2"]))], only(&["eth1"])),
    ];
    for (ads, expected) in table {
        let world = ads.into_iter().fold(World::of(1).service("web", Cluster, A, "n1"), World::l2);
        assert_eq!(world.plan_of("n1").1.l2.get(&ip(A)), Some(&expected));
    }
}

#[test]
fn services_sharing_an_address_have_one_owner() {
    let only_for = |name: &str, app: &str, node: &str| L2Advertisement {
        service_selectors: vec![selector(&format!("app={app}"))],
        ..selecting(name, &[node])
    };
    // Their advertisements select different nodes: one of these is elected, never both.
    let world = World::of(3)
        .service("web", Cluster, A, "n1")
        .service("mail", Cluster, A, "n1")
        .l2(only_for("a", "web", "n1"))
        .l2(only_for("b", "mail", "n2"));
    assert_eq!(world.l2_nodes(A).len(), 1);
    // A node that serves both outranks a node that serves one, whatever the hash is.
    let world = World::of(3)
        .service("web", Local, A, "n1 n2")
        .service("mail", Local, A, "n2 n3")
        .l2(l2_advertisement("ad"));
    assert_eq!(world.l2_nodes(A), ["n2"]);
    // The address is announced while one of them can be served.
    let world =
        World::of(3).service("web", Local, A, "").service("mail", Local, A, "n3").l2(l2_advertisement("ad"));
    assert_eq!(world.l2_nodes(A), ["n3"]);
}

#[test]
fn no_address_has_an_owner_before_membership_is_known() {
    let mut world = World::of(3).service("web", Cluster, A, "n1").l2(l2_advertisement("ad"));
    world.live = None;
    assert!(world.l2_nodes(A).is_empty());
}

#[test]
fn handover_requires_that_this_node_can_still_serve() {
    let handover = |edit: fn(&mut World)| {
        let mut world = World::of(2).service("web", Local, A, "n1 n2").l2(preferring("ad", &[(9, "n1")]));
        let (mut plan, _) = world.plan_of("n1");
        edit(&mut world);
        world.list_to(&mut plan);
        match plan.changes().as_slice() {
            [AnnouncementChange::L2Withdraw { handover, .. }] => *handover,
            other => panic!("{other:?}"),
        }
    };
    assert!(handover(|w| {
        w.config.l2_advertisements.insert("ad".into(), preferring("ad", &[(9, "n2")]));
    }));
    assert!(!handover(|w| drop(w.endpoints.insert("web".into(), vec!["n2".into()]))));
    assert!(!handover(|w| w.nodes.get_mut("n1").unwrap().excluded = true));
    assert!(!handover(|w| drop(w.services.remove("web"))));
}

#[test]
fn isolated_node_takes_yielded_address_again_by_election() {
    let mut world = World::of(3).l2(preferring("ad", &[(9, "n1")])).service("web", Cluster, A, "n2");
    let (mut plan, announced) = world.plan_of("n1");
    assert!(announced.l2.contains_key(&ip(A)));
    let state = |plan: &Plan| plan.state(&key("web"), ip(A), Protocol::L2).unwrap();
    let yielded = AnnouncementState::Not(NotAnnouncedReason::ClaimedByAnotherHost);
    plan.set_may_claim(false);
    plan.changes();
    plan.yield_address(ip(A));
    assert_eq!((plan.changes(), state(&plan), plan.l2_announced()), (vec![], yielded, 0));
    let problem = plan.problems().next().unwrap();
    assert_eq!(problem.reason, NotAnnouncedReason::ClaimedByAnotherHost);
    // Nothing but the end of the isolation makes this node announce the address again.
    world.config.l2_advertisements.insert("ad".into(), preferring("ad", &[(8, "n1")]));
    world.list_to(&mut plan);
    plan.yield_address(ip(A));
    assert_eq!((plan.changes(), state(&plan)), (vec![], yielded));
    plan.set_may_claim(true);
    let changes = plan.changes();
    assert!(matches!(changes[..], [AnnouncementChange::L2Announce { .. }]), "{changes:?}");
    assert_eq!((state(&plan), plan.l2_announced()), (AnnouncementState::Announced, 1));
    // The isolation ended before the withdrawal was known.
    plan.yield_address(ip(A));
    assert!(matches!(plan.changes()[..], [AnnouncementChange::L2Announce { .. }]));
    assert_eq!((state(&plan), plan.l2_announced()), (AnnouncementState::Announced, 1));
    // Another node owns the address by then.
    plan.set_may_claim(false);
    plan.yield_address(ip(A));
    plan.changes();
    world.config.l2_advertisements.insert("ad".into(), preferring("ad", &[(9, "n2")]));
    world.list_to(&mut plan);
    plan.set_may_claim(true);
    assert_eq!(plan.changes(), []);
    assert_eq!(state(&plan), AnnouncementState::Not(NotAnnouncedReason::NotOwner));
}

#[test]
fn isolated_node_keeps_addresses_and_claims_no_new_one() {
    let world = World::of(3).l2(l2_advertisement("ad")).service("kept", Cluster, "192.0.2.1", "n2");
    let owner = {
        let mut plan = Plan::new("observer");
        world.list_to(&mut plan);
        plan.changes();
        plan.owner(ip("192.0.2.1")).unwrap().to_owned()
    };
    let mut plan = Plan::new(owner.as_str());
    world.list_to(&mut plan);
    assert_eq!(plan.changes().len(), 1);
    plan.set_may_claim(false);
    assert_eq!(plan.changes(), []);

    // New Services; this node would own some of them.
    let more = (2..30)
        .fold(world, |world, n| world.service(&format!("s{n}"), Cluster, &format!("192.0.2.{n}"), "n2"));
    more.list_to(&mut plan);
    assert_eq!(plan.changes(), []);
    assert_eq!(plan.l2_announced(), 1);
    let held = plan.problems().filter(|problem| problem.reason == NotAnnouncedReason::MeshNotSettled).count();
    assert!(held > 0);
    // The others are dead.
    plan.set_may_claim(true);
    let changes = plan.changes();
    assert_eq!(changes.len(), held, "{changes:?}");
    assert!(plan.problems().len() == 0);
}
