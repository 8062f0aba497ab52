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
fn node_announces_host_routes_beside_the_aggregate_for_local_services_that_it_serves() {
    let (aggregate, first, second) = ("192.0.2.0/24", "192.0.2.1/32", "192.0.2.9/32");
    let table = [
        ((Cluster, "n2"), (Cluster, "n3"), vec![aggregate]),
        ((Local, "n1"), (Local, "n1 n2"), vec![aggregate, first, second]),
        ((Local, "n1"), (Local, "n2"), vec![aggregate, first]),
        ((Local, "n2"), (Local, "n1"), vec![aggregate, second]),
        ((Local, "n2"), (Local, "n3"), vec![]),
        ((Cluster, "n3"), (Local, "n2"), vec![aggregate]),
        ((Cluster, "n3"), (Local, "n1"), vec![aggregate, second]),
        // The node is left while another one has endpoints that are ready.
        ((Local, "n1"), (Local, "n1! n2"), vec![aggregate, first]),
        ((Local, "n1"), (Local, "n1! n2!"), vec![aggregate, first, second]),
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
fn endpoint_of_a_local_service_costs_no_other_route_of_the_aggregate() {
    let mut world = world(2).service("a", Cluster, "192.0.2.1", "n2").service("b", Local, "192.0.2.9", "n1");
    let (mut plan, mut announced) = world.plan_of("n1");
    for (endpoints, expected) in [
        ("n2", vec!["192.0.2.0/24"]),
        ("n1", vec!["192.0.2.0/24", "192.0.2.9/32"]),
        ("", vec!["192.0.2.0/24"]),
    ] {
        world.endpoints.insert("b".to_owned(), endpoints.split_whitespace().map(str::to_owned).collect());
        let before = plan.recomputed().services;
        for (key, slice) in world.slices("b") {
            plan.apply_slice(key, slice);
        }
        let changes = plan.changes();
        assert_eq!((changes.len(), plan.recomputed().services - before), (1, 1), "{changes:?}");
        announced.carry_out(changes);
        assert_eq!(prefixes(&announced), expected, "endpoints on {endpoints:?}");
    }
}

/// A host route has the LOCAL_PREF of the oldest advertisement, as without an aggregate.
#[test]
fn host_route_beside_an_aggregate_has_its_attributes_except_the_aggregator() {
    let mut world = world(1).service("a", Local, "192.0.2.1", "n1");
    let ad = world.config.bgp_advertisements.get_mut("ad").unwrap();
    (ad.aggregator, ad.med) = (true, Some(7));
    let routes = world.plan_of("n1").1.routes;
    let of = |prefix: &str| &routes[&("tor".to_owned(), prefix.parse().unwrap())];
    assert_eq!((of("192.0.2.0/24").aggregator, of("192.0.2.0/24").med), (true, Some(7)));
    assert_eq!((of("192.0.2.1/32").aggregator, of("192.0.2.1/32").med), (false, Some(7)));
}
