//! Holders keep their addresses when a pool shrinks, no longer admits them, is drained or deleted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fairlead_e2e::{
    LbService, PACE, PORT, Pool, SOON, Scene, all_nodes, expect_next_hops, next_hops, reach, reach_on_lan,
};
use fairlead_lab::{Lab, binaries, ensure, wait_for};
use serde_json::json;

use crate::{LAB, asking, expect_at_work, lan, plain, restart};

fn expect_reached(lab: &Lab, ips: &[IpAddr]) {
    ips.iter().for_each(|ip| reach_on_lan(lab, *ip, PORT).unwrap());
}

#[test]
fn holder_keeps_address_when_pool_shrinks() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("lan", &["192.0.2.200-192.0.2.209", "2001:db8:1::200-2001:db8:1::209"]);
    scene.pools([&pool]);
    let service = LbService::new("retained", "lan");
    let held = ["192.0.2.200", "2001:db8:1::200"];
    let ips = scene.serve(&service, &held, "lan");
    expect_reached(&lab, &ips);
    let owner = lab.wait_for_owner(ips[0], SOON).unwrap();
    let stream = lab.client().stream(SocketAddr::new(ips[0], PORT), PACE);

    scene.pools([&pool.clone().of(&["192.0.2.205-192.0.2.209", "2001:db8:1::205-2001:db8:1::209"])]);
    scene.expect_counts(&pool, &[("retainedIPv4", 1), ("retainedIPv6", 1)]);
    let new = LbService::new("new", "lan");
    let new_ips = scene.serve(&new, &["192.0.2.205", "2001:db8:1::205"], "lan");
    scene.expect(&service, &held, "lan");
    // The new addresses are announced, which shows that the speakers know the edited pool.
    expect_reached(&lab, &new_ips);
    restart(&scene);
    scene.expect(&service, &held, "lan");
    scene.expect_counts(&pool, &[("retainedIPv4", 1), ("retainedIPv6", 1)]);
    expect_reached(&lab, &ips);
    let report = stream.stop().unwrap();
    assert!(report.longest_gap < Duration::from_millis(500), "{report}");
    assert_eq!(lab.owner(ips[0]).unwrap(), Some(owner), "the node that answers");

    // Once released, the address is in no pool.
    scene.delete(service.object());
    scene.expect_counts(&pool, &[("retainedIPv4", 0), ("retainedIPv6", 0)]);
    scene.refuse(&asking("late", "192.0.2.200"), "AddressNotInPool");
}

#[test]
fn route_remains_when_pool_shrinks() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = Pool::new("routed", &["198.51.100.0/28", "2001:db8:100::/124"]).label("by", "bgp");
    scene.pools([&pool]);
    let service = LbService::new("retained", "routed");
    let held = ["198.51.100.0", "2001:db8:100::"];
    let ips = scene.serve(&service, &held, "routed");
    for ip in &ips {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
        // A route says nothing about kube-proxy, which must have programmed the address on every node.
        reach(&lab, *ip, 5).unwrap();
    }
    let stream = lab.remote().stream(SocketAddr::new(ips[0], PORT), PACE);

    scene.pools([&pool.clone().of(&["198.51.100.8/29", "2001:db8:100::8/125"])]);
    let new = LbService::new("new", "routed");
    for ip in scene.serve(&new, &["198.51.100.8", "2001:db8:100::8"], "routed") {
        expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    }
    scene.expect(&service, &held, "routed");
    for ip in &ips {
        assert_eq!(next_hops(&lab, *ip).unwrap(), all_nodes(&lab), "{ip}");
    }
    let report = stream.stop().unwrap();
    assert!(report.longest_gap < Duration::from_millis(500), "{report}");
}

#[test]
fn service_no_longer_selected_keeps_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("lan", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&pool]);
    let service = plain("retained");
    let ips = scene.serve(&service, &["192.0.2.200"], "lan");
    scene.pools([&pool.clone().only_for(json!({ "namespaces": ["elsewhere"] }))]);
    scene.refuse(&plain("new"), "NoPoolMatches");
    scene.expect(&service, &["192.0.2.200"], "lan");
    restart(&scene);
    scene.expect(&service, &["192.0.2.200"], "lan");
    expect_reached(&lab, &ips);
}

#[test]
fn deleted_pool_waits_for_last_holder() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("goes", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&pool]);
    let services = ["one", "two"].map(|name| LbService::new(name, "goes").single("IPv4"));
    let ips = [(&services[0], "192.0.2.200"), (&services[1], "192.0.2.201")]
        .map(|(service, ip)| scene.serve(service, &[ip], "goes")[0]);
    scene.delete(pool.object());
    let says_how_many = |n: usize| {
        wait_for(format!("the pool to report {n} users"), SOON, || {
            let told = scene.expect_condition(pool.object(), "InUse", true);
            ensure(told.split_whitespace().any(|word| word == n.to_string()), told)
        })
        .unwrap();
    };
    says_how_many(2);
    let seen = scene.read(pool.object());
    assert!(seen["metadata"]["deletionTimestamp"].is_string(), "{seen}");
    assert_eq!(seen["metadata"]["finalizers"], json!(["fairlead.dev/pool-protection"]));
    scene.service(&LbService::new("three", "goes").single("IPv4"));
    scene.expect_nothing(&LbService::new("three", "goes"));
    restart(&scene);
    scene.expect(&services[0], &["192.0.2.200"], "goes");
    expect_reached(&lab, &ips);

    scene.delete(services[0].object());
    says_how_many(1);
    scene.expect(&services[1], &["192.0.2.201"], "goes");
    expect_reached(&lab, &ips[1..]);
    scene.delete(services[1].object());
    scene.expect_gone(pool.object());
}

#[test]
fn unused_pool_is_deleted_at_once() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("unused", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&pool]);
    let service = plain("for-a-while");
    scene.serve(&service, &["192.0.2.200"], "unused");
    scene.delete(service.object());
    scene.expect_counts(&pool, &[("assignedIPv4", 0)]);
    scene.delete(pool.object());
    scene.expect_gone(pool.object());
}

#[test]
fn drained_pool_keeps_holders_and_allocates_nothing() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let (drained, other) =
        (lan("a-drained", &["192.0.2.200-192.0.2.209"]), lan("b-other", &["192.0.2.210-192.0.2.219"]));
    scene.pools([&drained, &other]);
    let holder = plain("holder");
    let ips = scene.serve(&holder, &["192.0.2.200"], "a-drained");
    scene.pools([&drained.clone().with("disabled", json!(true))]);
    let named = LbService::new("named", "a-drained").single("IPv4");
    scene.refuse(&named, "PoolDisabled");
    scene.serve(&plain("anywhere"), &["192.0.2.210"], "b-other");
    restart(&scene);
    scene.expect(&holder, &["192.0.2.200"], "a-drained");
    expect_reached(&lab, &ips);

    scene.pools([&drained]);
    scene.expect(&named, &["192.0.2.201"], "a-drained");
    expect_at_work(&scene);
    scene.expect(&holder, &["192.0.2.200"], "a-drained");
}

#[test]
fn address_outlives_all_pools_and_their_definition() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("lan", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&pool]);
    let service = asking("survivor", "192.0.2.203");
    let ips = scene.serve(&service, &["192.0.2.203"], "lan");
    expect_reached(&lab, &ips);

    // The pools are deleted with their definition, and no finalizer holds it.
    let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                             "metadata": { "name": "ipaddresspools.fairlead.dev" } });
    let api = lab.api().unwrap();
    api.delete(&definition.to_string()).unwrap();
    scene.expect_gone(&definition);
    let held = || api.addresses("survivor").unwrap();
    assert_eq!(held(), ips);
    api.apply_dir(&binaries::config_dir().join("crd")).unwrap();
    wait_for("the definition to be established", SOON, || api.is_established("ipaddresspools.fairlead.dev"))
        .unwrap();
    // Another pool comes first, and its Services do not get the address.
    let other = lan("other", &["192.0.2.210-192.0.2.219"]);
    scene.pools([&other]);
    scene.serve(&plain("newcomer"), &["192.0.2.210"], "other");
    assert_eq!(held(), ips);
    scene.pools([&pool]);
    scene.expect(&service, &["192.0.2.203"], "lan");
    expect_reached(&lab, &ips);
}
