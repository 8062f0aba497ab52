//! An event costs what it changes: the same with 100 Services as with 2,000.

use TrafficPolicy::{Cluster, Local};

use super::*;
use crate::plan::Recomputed;

/// `count` Services, announced by L2 and BGP, on three nodes.
fn world(count: usize) -> World {
    let mut world = World::of(3)
        .pool("large", &["10.0.0.0-10.0.255.255"])
        .pool("spare", &["10.1.0.0-10.1.255.255"])
        .peer(peer("tor", "203.0.113.1"))
        .l2(l2_advertisement("l2"))
        .bgp(bgp_advertisement("bgp"));
    for n in 0..count {
        let address = format!("10.0.{}.{}", n / 250, n % 250);
        let policy = if n % 2 == 0 { Cluster } else { Local };
        world = world.service(&format!("s{n}"), policy, &address, "n1 n2");
    }
    world
}

fn cost(plan: &mut Plan, event: impl FnOnce(&mut Plan)) -> (Recomputed, usize) {
    let before = plan.recomputed();
    event(plan);
    let changes = plan.changes().len();
    let after = plan.recomputed();
    let work = Recomputed {
        services: after.services - before.services,
        elections: after.elections - before.elections,
        prefixes: after.prefixes - before.prefixes,
    };
    (work, changes)
}

#[test]
fn cost_of_an_event_is_independent_of_service_count() {
    let costs = |count: usize| {
        let world = world(count);
        let (mut plan, _) = world.plan_of("n1");
        let service = world.services["s7"].clone();
        let moved = Service { addresses: vec![ip("10.1.0.1")], ..service.clone() };
        let slices = world.slices("s7");
        let empty = |(key, slice): (SliceKey, Slice)| {
            (key, Slice { ready: Default::default(), terminating: Default::default(), ..slice })
        };
        let apply = |plan: &mut Plan, slices: [(SliceKey, Slice); 2]| {
            slices.into_iter().for_each(|(key, slice)| plan.apply_slice(key, slice));
        };
        let node = |name: &str| world.nodes[name].clone();
        let heartbeat = Node { internal_ips: vec![ip("203.0.113.9")], ..node("n1") };
        let spare = bgp_advertisement("spare");
        let spare = BgpAdvertisement {
            pools: PoolSelection { names: ["spare".into()].into(), ..Default::default() },
            ..spare
        };
        let mut config = world.config.clone();
        config.bgp_advertisements.insert("spare".into(), spare);
        vec![
            ("endpoints of IPv6 removed", {
                let [_, (key, v6)] = slices.clone().map(empty);
                cost(&mut plan, |p| p.apply_slice(key, v6))
            }),
            ("all endpoints removed", cost(&mut plan, |p| apply(p, slices.clone().map(empty)))),
            ("endpoints added", cost(&mut plan, |p| apply(p, slices))),
            ("address changed", cost(&mut plan, |p| p.apply_service(key("s7"), moved))),
            ("Service deleted", cost(&mut plan, |p| p.delete_service(&key("s7")))),
            ("Service added", cost(&mut plan, |p| p.apply_service(key("s7"), service.clone()))),
            ("Service unchanged", cost(&mut plan, |p| p.apply_service(key("s7"), service))),
            ("heartbeat of the Node", cost(&mut plan, |p| p.apply_node("n1".into(), heartbeat))),
            ("Node without addresses deleted", {
                plan.apply_node("n9".into(), Node::default());
                plan.changes();
                cost(&mut plan, |p| p.delete_node("n9"))
            }),
            ("advertisement of an unused pool", cost(&mut plan, |p| p.set_config(&config))),
            (
                "all Services listed again",
                cost(&mut plan, |p| {
                    let services = world.services.iter().map(|(name, s)| (key(name), s.clone()));
                    p.reset_services(services.collect());
                }),
            ),
        ]
    };
    let (few, many) = (costs(100), costs(2_000));
    assert_eq!(few, many);
    for (what, (work, _)) in few {
        assert!(work.services <= 1 && work.elections <= 2 && work.prefixes <= 2, "{what}: {work:?}");
    }
}

#[test]
fn service_under_a_large_aggregate_costs_no_more() {
    let mut world = world(2_000);
    world.config.bgp_advertisements.get_mut("bgp").unwrap().aggregation_length = 16;
    let (mut plan, announced) = world.plan_of("n1");
    assert_eq!(announced.routes.len(), 1 + 1_000, "the aggregate, and the host routes of Local Services");
    for (name, policy, prefixes, withdrawn) in [("s6", Cluster, 1, 0), ("s7", Local, 2, 1)] {
        let Service { addresses, traffic_policy, .. } = &world.services[name];
        assert_eq!(*traffic_policy, policy);
        let withdrawn = withdrawn + usize::from(announced.l2.contains_key(&addresses[0]));
        let (work, changes) = cost(&mut plan, |p| p.delete_service(&key(name)));
        assert_eq!((work.prefixes, changes), (prefixes, withdrawn), "{name}");
    }
}

#[test]
fn dead_node_costs_only_the_addresses_it_owned() {
    let mut world = world(2_000);
    let (mut plan, _) = world.plan_of("n1");
    let owned = world.plan_of("n2").1.l2.len();
    assert!((400..1600).contains(&owned), "{owned}");
    world.live.as_mut().unwrap().remove("n2");
    let (work, _) = cost(&mut plan, |p| p.set_live(world.live_names().as_ref()));
    assert_eq!(work, Recomputed { elections: owned as u64, ..Recomputed::default() });
}

#[test]
fn interface_costs_only_the_addresses_that_it_can_move() {
    let mut world = world(2_000).pool("v6", &["2001:db8:1::-2001:db8:1::ffff"]);
    let restricted = PoolSelection { names: ["large".into()].into(), ..Default::default() };
    let ad = world.config.l2_advertisements.get_mut("l2").unwrap();
    (ad.pools, ad.interfaces) = (restricted, ["eth1".to_owned()].into());
    let others = PoolSelection { names: ["v6".into()].into(), ..Default::default() };
    let mut world = world.l2(L2Advertisement { pools: others, ..l2_advertisement("v6") });
    for n in 0..500 {
        world = world.service(&format!("v6-{n}"), Cluster, &format!("2001:db8:1::{n:x}"), "n1 n2");
    }
    for node in ["n1", "n2", "n3"] {
        world.interfaces.insert(node.to_owned(), "eth0 eth1");
    }
    let (mut plan, _) = world.plan_of("n1");
    let of = |node: &str, world: &World| {
        let (v4, v6): (Vec<_>, Vec<_>) =
            world.plan_of(node).1.l2.into_keys().partition(|address| address.is_ipv4());
        (v4.len() as u64, v6.len() as u64)
    };
    let (v4, v6) = of("n2", &world);
    assert!(v4 > 0 && v6 > 0, "{v4} {v6}");
    let elections = |elections| Recomputed { elections, ..Recomputed::default() };
    for (interfaces, expected) in [
        // Its addresses of the advertisement that lists eth1 move; both families of the other remain.
        ("eth0", v4),
        ("eth0", 0),
        // The addresses of the advertisement can move to it.
        ("eth0 eth1", 2_000),
        ("eth0/v4 eth1/v4", v6),
        ("eth0 eth1/v4", 500),
    ] {
        world.interfaces.insert("n2".to_owned(), interfaces);
        let (work, _) = cost(&mut plan, |plan| world.set_interfaces(plan));
        assert_eq!(work, elections(expected), "{interfaces}");
    }
}
