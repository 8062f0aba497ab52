//! Aggregates whose members have the traffic policy `Local`.

use TrafficPolicy::{Cluster, Local};

use super::*;

fn world(nodes: usize) -> World {
    let ad = BgpAdvertisement { aggregation_length: 24, ..bgp_advertisement("ad") };
    World::of(nodes).peer(peer("tor", "203.0.113.1")).bgp(ad)
}

/// Returns the prefixes that a node announces.
fn prefixes(announced: &Announced) -> Vec<String> {
    announced.routes.keys().map(|(_, prefix)| prefix.to_string()).collect()
}

/// Given two Services with addresses .1 and .9: what n1 announces, depending on the nodes with endpoints.
#[test]
fn node_announces_aggregate_only_if_it_serves_every_member() {
    let (aggregate, first, second) = ("192.0.2.0/24", "192.0.2.1/32", "192.0.2.9/32");
    let table = [
        ((Cluster, "n2"), (Cluster, "n3"), vec![aggregate]),
        ((Local, "n1"), (Local, "n1 n2"), vec![aggregate]),
        ((Local, "n1"), (Local, "n2"), vec![first]),
        ((Local, "n2"), (Local, "n1"), vec![second]),
        ((Local, "n2"), (Local, "n3"), vec![]),
        ((Cluster, "n3"), (Local, "n2"), vec![first]),
        ((Cluster, "n3"), (Local, "n1"), vec![aggregate]),
        // No node serves the second address, so that nothing is lost.
        ((Local, "n1"), (Local, ""), vec![aggregate]),
        // The node is left while another one has endpoints that are ready.
        ((Local, "n1"), (Local, "n1! n2"), vec![first]),
        ((Local, "n1"), (Local, "n1! n2!"), vec![aggregate]),
    ];
    for (first, second, expected) in table {
        let world = world(3).service("a", first.0, "192.0.2.1", first.1).service(
            "b",
            second.0,
            "192.0.2.9",
            second.1,
        );
        assert_eq!(prefixes(&world.plan_of("n1").1), expected, "{first:?}, {second:?}");
    }
}

#[test]
fn moved_endpoint_replaces_aggregate_and_host_routes_without_a_gap() {
    let mut world = world(2).service("a", Cluster, "192.0.2.1", "n2").service("b", Local, "192.0.2.9", "n1");
    let (mut plan, mut announced) = world.plan_of("n1");
    let is_withdrawal =
        |change: &AnnouncementChange| matches!(change, AnnouncementChange::RouteWithdraw { .. });
    for (endpoints, expected) in [
        ("n2", vec!["192.0.2.1/32"]),
        ("n1", vec!["192.0.2.0/24"]),
        ("n1 n2", vec!["192.0.2.0/24"]),
        ("n2", vec!["192.0.2.1/32"]),
        ("", vec!["192.0.2.0/24"]),
    ] {
        world.endpoints.insert("b".to_owned(), endpoints.split_whitespace().map(str::to_owned).collect());
        world.list_to(&mut plan);
        let changes = plan.changes();
        assert!(changes.is_sorted_by_key(is_withdrawal), "{changes:?}");
        announced.carry_out(changes);
        assert_eq!(prefixes(&announced), expected, "endpoints on {endpoints:?}");
    }
}

#[test]
fn deleted_service_completes_the_aggregate() {
    let world = world(2).service("a", Cluster, "192.0.2.1", "n2").service("b", Local, "192.0.2.9", "n2");
    let (mut plan, mut announced) = world.plan_of("n1");
    assert_eq!(prefixes(&announced), ["192.0.2.1/32"]);
    plan.delete_service(&key("b"));
    announced.carry_out(plan.changes());
    assert_eq!(prefixes(&announced), ["192.0.2.0/24"]);
}

#[test]
fn other_advertisement_of_the_prefix_does_not_attract_what_is_not_served() {
    let other = BgpAdvertisement {
        aggregation_length: 24,
        pools: PoolSelection { names: ["second".to_owned()].into(), selectors: Vec::new() },
        ..bgp_advertisement("other")
    };
    let mut world = world(2).service("b", Local, "192.0.2.9", "n2").bgp(other);
    world.config.pools.clear();
    let mut world = world
        .pool("main", &["192.0.2.0-192.0.2.127"])
        .pool("second", &["192.0.2.128-192.0.2.255"])
        .service("a", Cluster, "192.0.2.200", "n2");
    world.config.bgp_advertisements.get_mut("ad").unwrap().pools.names = ["main".to_owned()].into();
    assert_eq!(prefixes(&world.plan_of("n1").1), ["192.0.2.200/32"]);
    assert_eq!(prefixes(&world.plan_of("n2").1), ["192.0.2.0/24"]);
}

#[test]
fn aggregate_of_another_advertisement_does_not_attract_what_is_not_served() {
    // The host routes of n2 are announced by n1 and n3 as well, but not those of `b`.
    let on_n2 = BgpAdvertisement {
        node_selectors: vec![selector("name=n2")],
        service_selectors: vec![selector("app=b")],
        ..bgp_advertisement("on-n2")
    };
    let mut world =
        world(3).service("a", Cluster, "192.0.2.1", "n2").service("b", Local, "192.0.2.9", "n2").bgp(on_n2);
    world.config.bgp_advertisements.get_mut("ad").unwrap().service_selectors = vec![selector("app=a")];
    assert_eq!(prefixes(&world.plan_of("n1").1), ["192.0.2.1/32"]);
    assert_eq!(prefixes(&world.plan_of("n2").1), ["192.0.2.0/24", "192.0.2.9/32"]);
}
