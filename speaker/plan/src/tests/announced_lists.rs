//! The list of announced addresses in the `Speaker` object.

use std::time::{Duration, Instant};

use TrafficPolicy::Cluster;

use super::*;
use crate::announced_lists::{AnnouncedList, AnnouncedLists};

fn world() -> World {
    let ad = BgpAdvertisement { aggregation_length: 24, ..bgp_advertisement("ad") };
    let host = BgpAdvertisement { peers: ["spine".to_owned()].into(), ..bgp_advertisement("host") };
    let ad = BgpAdvertisement { peers: ["tor".to_owned()].into(), ..ad };
    World::of(1)
        .l2(l2_advertisement("l2"))
        .peer(peer("tor", "203.0.113.1"))
        .peer(peer("spine", "203.0.113.2"))
        .bgp(ad)
        .bgp(host)
        .service("a", Cluster, "192.0.2.1", "n1")
        .service("b", Cluster, "192.0.2.2 2001:db8::1", "n1")
}

fn entries(list: &fairlead_crds::model::address_list::AddressList) -> Vec<String> {
    list.encode().0
}

#[test]
fn list_contains_addresses_by_protocol_and_session() {
    let (plan, _) = world().plan_of("n1");
    let list = plan.announced_list();
    assert_eq!(entries(&list.l2), ["192.0.2.1-192.0.2.2", "2001:db8::1"]);
    assert_eq!((list.l2_count, list.bgp_count), (3, 3), "an aggregate and two host routes");
    let by_bgp = |list: &AnnouncedList, peers: &[&str]| {
        entries(&list.by_bgp(|peer, is_ipv4| is_ipv4 && peers.contains(&peer)))
    };
    assert_eq!(by_bgp(&list, &["tor", "spine"]), ["192.0.2.1-192.0.2.2"]);
    assert_eq!(by_bgp(&list, &["tor"]), ["192.0.2.1-192.0.2.2"], "the aggregate carries both");
    assert!(by_bgp(&list, &[]).is_empty(), "no session is established");
    assert!(by_bgp(&list, &["other"]).is_empty());
    // Under the aggregate, an address without a Service is not announced.
    let (plan, _) = world().service("b", Cluster, "192.0.2.9", "").plan_of("n1");
    assert_eq!(by_bgp(&plan.announced_list(), &["tor"]), ["192.0.2.1"]);
}

#[test]
fn version_grows_with_each_change_of_the_list() {
    type Change = fn(&mut Plan, &mut World);
    let table: [(&str, Change); 7] = [
        ("a Service under the same aggregate", |plan, world| {
            let service = world.services["a"].clone();
            plan.apply_service(key("c"), Service { addresses: vec![ip("192.0.2.3")], ..service });
            world.endpoints.insert("c".to_owned(), vec!["n1".to_owned()]);
            world.slices("c").into_iter().for_each(|(key, slice)| plan.apply_slice(key, slice));
        }),
        ("no endpoint", |plan, world| {
            world.endpoints.insert("a".to_owned(), Vec::new());
            world.slices("a").into_iter().for_each(|(key, slice)| plan.apply_slice(key, slice));
        }),
        ("deletion", |plan, _| plan.delete_service(&key("a"))),
        ("a peer less", |plan, world| {
            world.config.peers.remove("tor");
            plan.set_config(&world.config);
        }),
        ("another name of a peer", |plan, world| {
            let tor = world.config.peers.remove("tor").unwrap();
            world.config.peers.insert("rot".to_owned(), Peer { name: "rot".to_owned(), ..tor });
            plan.set_config(&world.config);
        }),
        ("another owner", |plan, world| {
            world.live.as_mut().unwrap().extend(["n2", "n3", "n4", "n5"].map(str::to_owned));
            for name in ["n2", "n3", "n4", "n5"] {
                plan.apply_node(name.into(), world.nodes["n1"].clone());
            }
            plan.set_live(world.live_names().as_ref());
        }),
        ("no L2Advertisement", |plan, world| {
            world.config.l2_advertisements.clear();
            plan.set_config(&world.config);
        }),
    ];
    for (name, change) in table {
        let mut world = world();
        let (mut plan, _) = world.plan_of("n1");
        let before = (plan.announced_version(), plan.announced_list());
        change(&mut plan, &mut world);
        plan.changes();
        let after = (plan.announced_version(), plan.announced_list());
        assert_ne!(before.1, after.1, "{name}: the list");
        assert!(before.0 < after.0, "{name}: the version");
    }
}

#[test]
fn list_is_made_at_most_once_per_second() {
    let mut world = world();
    let (mut plan, _) = world.plan_of("n1");
    let (mut lists, start) = (AnnouncedLists::default(), Instant::now());
    assert_eq!(lists.update(&plan, start).l2_count, 3);
    assert_eq!(lists.poll_timeout(), None, "nothing changed");
    plan.delete_service(&key("a"));
    plan.changes();
    let soon = start + Duration::from_millis(10);
    assert_eq!(lists.update(&plan, soon).l2_count, 3);
    let due = lists.poll_timeout().unwrap();
    assert_eq!(due, start + Duration::from_secs(1));
    assert_eq!(lists.update(&plan, due).l2_count, 2);
    assert_eq!(lists.poll_timeout(), None);
    // After a quiet second, a change is listed at once.
    world.services.clear();
    plan.reset_services(Vec::new());
    plan.changes();
    assert_eq!(lists.update(&plan, due + Duration::from_secs(1)).l2_count, 0);
}
