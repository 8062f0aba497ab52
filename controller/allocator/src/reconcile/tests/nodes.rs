//! The addresses of Nodes: no Service gets one, and a Service that holds one keeps it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_crds::model::range::IpRange;

use super::*;
use crate::ipam::{Family, NodeNetwork};
use fairlead_test_support::{pool, retaining};

fn network(addresses: &[&str]) -> NodeNetwork {
    let addresses = addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
    NodeNetwork { addresses, ..NodeNetwork::default() }
}

#[test]
fn address_of_a_node_is_given_to_no_service() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.node("n1", network(&["1.2.3.0"]));
    assert_eq!(world.index.ipam().counts("p", Family::V4).available, 1);
    world.apply(service("asks", annotated(REQUEST_IPS, "1.2.3.0")));
    assert_eq!(
        world.message("asks", names::ALLOCATED),
        "False/NodeAddress: 1.2.3.0 is an address of Node n1, which no Service can use"
    );
    world.claim("c", json!({ "serviceName": "later", "addresses": ["1.2.3.0"] }));
    assert_eq!(world.claimed("c"), "Reserved False/NodeAddress Bound False/NotReserved");
    world.delete_claim("c");
    world.apply(service("a", json!({})));
    assert_eq!(world.result("a"), "1.2.3.1");
    world.apply(service("b", json!({})));
    assert_eq!(world.result("b"), "PoolExhausted");
    world.check_restart("with a Node");
    // The Node gives its address up: the oldest waiting Service gets it.
    world.node("n1", network(&["1.2.3.9"]));
    let results = [world.result("asks"), world.result("b")];
    assert_eq!(results, ["1.2.3.0".to_owned(), "PoolExhausted".to_owned()]);
}

#[test]
fn holder_keeps_address_that_a_node_has_too() {
    for pool in [pool("p", &["1.2.3.0-1.2.3.1"]), retaining(pool("p", &["1.2.3.0-1.2.3.1"]))] {
        let mut world = World::new([pool]);
        world.apply(service("s", annotated(SHARING_KEY, "k")));
        assert_eq!(world.result("s"), "1.2.3.0");
        world.node("n1", network(&["1.2.3.0"]));
        assert_eq!(world.result("s"), "1.2.3.0");
        assert_eq!(
            world.message("s", names::ALLOCATED),
            "True/NodeAddress: keeps 1.2.3.0 from IPAddressPool p: IPAddressPool p no longer allocates \
             1.2.3.0, because it is an address of Node n1: use another address, and exclude this one from \
             the pool"
        );
        world.check_restart("with a Node");
        world.apply(service("sharer", annotated(SHARING_KEY, "k")));
        assert_eq!(world.result("sharer"), "1.2.3.1", "no Service joins the holder");
        world.node("n1", NodeNetwork::default());
        assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    }
}

#[test]
fn released_address_of_a_node_is_given_to_no_service() {
    let cooling = Pool { reuse_after: std::time::Duration::from_secs(60), ..pool("p", &["1.2.3.0-1.2.3.0"]) };
    for pool in [pool("p", &["1.2.3.0-1.2.3.0"]), cooling] {
        let mut world = World::new([pool]);
        world.apply(service("s", json!({})));
        world.node("n1", network(&["1.2.3.0"]));
        world.node("n2", network(&["1.2.3.0"]));
        world.delete("s");
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), "PoolExhausted");
        world.node("n1", NodeNetwork::default());
        assert_eq!(world.result("s"), "PoolExhausted", "n2 has the address too");
        world.index.nodes_reset(Vec::new(), world.now);
        world.sync();
        assert_eq!(world.result("s"), "1.2.3.0");
    }
}

#[test]
fn standby_knows_the_nodes_when_it_begins() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.index.step_down();
    world.node("n1", network(&["1.2.3.0"]));
    world.index.begin(Vec::new(), world.now);
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "1.2.3.1");
    world.index.step_down();
    world.index.begin(Vec::new(), world.now);
    world.sync();
    world.apply(service("t", json!({})));
    assert_eq!(world.result("t"), "PoolExhausted");
}

#[test]
fn index_touches_the_pools_that_overlap_service_ranges() {
    let ranges = |cidr: &str| BTreeSet::from([IpRange::parse_cidr(cidr).unwrap()]);
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"]), pool("q", &["1.2.4.0-1.2.4.9"])]);
    let touched = |world: &mut World| {
        let touched = world.index.take_touched_pools();
        touched.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    touched(&mut world);
    world
        .index
        .service_ranges_reset(vec![("a".into(), ranges("1.2.3.0/24")), ("b".into(), ranges("9.0.0.0/8"))]);
    assert_eq!(touched(&mut world), "p");
    world.index.service_ranges_applied("b", ranges("1.2.4.8/32"));
    assert_eq!(touched(&mut world), "q");
    // A standby still knows the ranges when it begins.
    world.index.step_down();
    world.index.begin(Vec::new(), world.now);
    touched(&mut world);
    let range = |first: &str| IpRange::parse_cidr(first).unwrap();
    assert_eq!(&**world.index.ipam().service_range_in(&range("1.2.4.0/24")).unwrap().1, "b");
    world.index.service_ranges_reset(vec![("a".into(), ranges("1.2.3.0/24"))]);
    assert_eq!(touched(&mut world), "q", "b is gone");
    assert_eq!(world.index.ipam().service_range_in(&range("1.2.4.0/24")), None);
}

#[test]
fn change_of_a_node_costs_only_the_holders_of_its_addresses() {
    let mut world = World::new([pool("p", &["1.2.0.0-1.2.255.255"])]);
    for n in 0..200 {
        world.apply_silently(service(&format!("s{n}"), json!({})));
    }
    world.sync();
    let evaluations = |world: &World| world.index.counters().evaluations;
    for (addresses, expected) in
        [(&["9.9.9.9"][..], 0), (&["9.9.9.9", "1.2.255.255"], 0), (&["1.2.0.7", "1.2.0.9"], 2), (&[], 2)]
    {
        let before = evaluations(&world);
        world.node("n1", network(addresses));
        world.node("n1", network(addresses));
        // Its own writes are observed too.
        let cost = evaluations(&world) - before;
        assert!((expected..=2 * expected).contains(&cost), "{addresses:?}: {cost}");
    }
}
