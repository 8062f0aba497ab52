//! Items 11 to 15: full pools, restarts, shared addresses, deleted pools.

use std::collections::BTreeMap;

use fairlead_e2e::{LbService, Policy, Pool, SOON, Scene, reach_on_lan};
use fairlead_lab::wait_for;
use serde_json::{Value, json};

use crate::{LAB, plain};

/// Item 11.
#[test]
fn released_address_goes_to_waiting_service() {
    let lab = LAB.turn();
    for (deleted, family, range, address) in [
        (false, "IPv4", "192.0.2.200-192.0.2.200", "192.0.2.200"),
        (true, "IPv4", "192.0.2.201/32", "192.0.2.201"),
        (false, "IPv6", "2001:db8:1::200/128", "2001:db8:1::200"),
        (true, "IPv6", "2001:db8:1::201-2001:db8:1::201", "2001:db8:1::201"),
    ] {
        let scene = Scene::new(&lab);
        scene.pools([&Pool::reassigning("one-address", &[range])]);
        let [first, second] = ["first", "second"].map(|name| plain(name).single(family));
        scene.serve(&first, &[address], "one-address");
        scene.refuse(&second, "PoolExhausted");
        if deleted {
            scene.delete(first.object());
        } else {
            scene.merge(first.object(), json!({ "spec": { "type": "ClusterIP" } }));
        }
        let ips = scene.expect(&second, &[address], "one-address");
        reach_on_lan(&lab, ips[0], 80).unwrap();
        if !deleted {
            assert!(scene.seen(&first).addresses.is_empty(), "a Service of another type has no address");
        }
    }
}

/// Item 12.
#[test]
fn five_controller_restarts_move_no_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let small = Pool::reassigning("small", &["192.0.2.200-192.0.2.202"]);
    let other = Pool::reassigning("other", &["192.0.2.210-192.0.2.219"]).by_name_only();
    scene.pools([&small, &other]);
    let services: Vec<_> = ["m", "c", "x", "a", "t"].into_iter().map(plain).collect();
    services.iter().for_each(|service| scene.service(service));
    scene.expect_counts(&small, &[("assignedIPv4", 3), ("availableIPv4", 0)]);
    let held = || -> BTreeMap<_, _> {
        services.iter().map(|service| (service.name(), scene.seen(service).addresses)).collect()
    };
    // The pool's counts may be written before the status of the last Service.
    let before = wait_for("three Services to be served", SOON, || {
        let held = held();
        if held.values().flatten().count() == 3 { Ok(held) } else { Err(format!("{held:?}")) }
    })
    .unwrap();
    for n in 0..5 {
        lab.controller().unwrap().restart().unwrap();
        // The controller has reconciled existing Services before it serves a new one.
        let address = format!("192.0.2.{}", 210 + n);
        let probe = LbService::new(&format!("after-restart-{n}"), "other").single("IPv4");
        scene.serve(&probe, &[&address], "other");
        assert_eq!(held(), before, "restart {n}");
    }
}

/// Item 13.
#[test]
fn services_share_while_policy_and_selector_allow() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&Pool::reassigning("one-address", &["192.0.2.200/32"])]);
    let sharer = |name, port| plain(name).port(port).annotation("fairlead.dev/allow-shared-ip", "key");
    let (first, second) = (sharer("first", 80), sharer("second", 81));
    let both_have_it = |scene: &Scene<'_>| {
        for service in [&first, &second] {
            scene.expect(service, &["192.0.2.200"], "one-address");
        }
    };
    scene.service(&first);
    scene.service(&second);
    both_have_it(&scene);

    scene.service(&second.clone().policy(Policy::Local));
    scene.expect_refused(&second, "PoolExhausted");
    let ip = scene.expect(&first, &["192.0.2.200"], "one-address")[0];
    reach_on_lan(&lab, ip, 80).unwrap();

    scene.service(&first.clone().policy(Policy::Local));
    both_have_it(&scene);
    for port in [80, 81] {
        reach_on_lan(&lab, ip, port).unwrap();
    }

    scene.service(&first.clone().policy(Policy::Local).on("n1"));
    scene.expect_refused(&first, "PoolExhausted");
    scene.expect(&second, &["192.0.2.200"], "one-address");

    scene.service(&second.clone().policy(Policy::Local).on("n1"));
    both_have_it(&scene);
}

/// Item 14.
#[test]
fn last_pool_deleted_removes_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pools =
        [Pool::reassigning("one", &["192.0.2.200/32"]), Pool::reassigning("two", &["192.0.2.201/32"])];
    scene.pools([&pools[0], &pools[1]]);
    let services = ["one", "two"].map(|pool| LbService::new(pool, pool).single("IPv4"));
    scene.serve(&services[0], &["192.0.2.200"], "one");
    scene.serve(&services[1], &["192.0.2.201"], "two");
    let any = plain("any");
    scene.refuse(&any, "PoolExhausted");
    pools.iter().for_each(|pool| scene.delete(pool.object()));
    services.iter().for_each(|service| scene.expect_refused(service, "PoolNotFound"));
    scene.expect_refused(&any, "NoPoolMatches");
}

/// Item 15.
#[test]
fn deleted_pool_moves_service_to_another_pool() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let one = Pool::reassigning("one", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&one]);
    let service = plain("moves");
    scene.serve(&service, &["192.0.2.200"], "one");
    scene.pools([&Pool::reassigning("two", &["192.0.2.210-192.0.2.219"])]);
    scene.delete(one.object());
    let ips = scene.expect(&service, &["192.0.2.210"], "two");
    reach_on_lan(&lab, ips[0], 80).unwrap();
}

#[test]
fn service_that_is_being_deleted_keeps_its_address_and_gets_no_other() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = Pool::new("single", &["192.0.2.200/32"]);
    scene.pools([&pool]);
    let [holder, leaving, next] = ["holder", "leaving", "next"].map(plain);
    let finalizers = |list: Value| json!({ "metadata": { "finalizers": list } });
    scene.serve(&holder, &["192.0.2.200"], "single");
    scene.refuse(&leaving, "PoolExhausted");
    for service in [&holder, &leaving] {
        scene.merge(service.object(), finalizers(json!(["example.com/hold"])));
        scene.delete(service.object());
    }
    scene.refuse(&next, "PoolExhausted");
    scene.expect(&holder, &["192.0.2.200"], "single");
    // The older Service is being deleted, so the younger one gets the address.
    scene.merge(holder.object(), finalizers(Value::Null));
    scene.expect(&next, &["192.0.2.200"], "single");
    assert_eq!(scene.seen(&leaving).addresses, Vec::<std::net::IpAddr>::new());
    scene.merge(leaving.object(), finalizers(Value::Null));
}
