//! Waiting Services and claims, and the order in which they are served. MetalLB: `TestDeleteRecyclesIP`,
//! `TestControllerReassign`, end-to-end cases 11 and 12.

use super::*;
use fairlead_test_support::{pinned, pool};

#[test]
fn deleted_service_frees_address_for_waiter() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("one", json!({})));
    world.apply(service("two", json!({})));
    assert_eq!(world.result("two"), "PoolExhausted");
    world.take_writes();
    world.delete("one");
    assert_eq!(world.result("two"), "1.2.3.0");
    assert_eq!(world.take_writes(), 1);
}

#[test]
fn change_of_type_or_class_frees_address() {
    for leaving in [
        json!({ "spec": { "type": "ClusterIP" } }),
        json!({ "spec": { "loadBalancerClass": "example.org/other" } }),
    ] {
        let mut world = World::new([pool("p", &["1.2.3.0"])]);
        world.apply(service("one", json!({})));
        world.apply(service("two", json!({})));
        world.apply(service("one", leaving));
        assert_eq!(world.result("two"), "1.2.3.0");
    }
}

#[test]
fn oldest_waiter_is_served_first() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    for (name, age) in [("young", 30), ("oldest", 10), ("a-middle", 20)] {
        world.apply(service(name, aged(age)));
    }
    let mut served = Vec::new();
    let mut holder = "holder".to_owned();
    for _ in 0..3 {
        world.delete(&holder);
        let results = world.results();
        holder = results.iter().find(|(_, result)| *result == "1.2.3.0").unwrap().0.clone();
        served.push(holder.clone());
    }
    assert_eq!(served, ["default/oldest", "default/a-middle", "default/young"]);
}

#[test]
fn backlog_is_served_oldest_first_after_start() {
    let mut world = World::stopped();
    for n in (0..5).rev() {
        world.apply_silently(service(&format!("s{}", 4 - n), aged(4 - n)));
    }
    world.config.pools = pools([pool("p", &["1.2.3.0-1.2.3.2"])]);
    world.restart();
    let results: Vec<String> = world.results().into_values().collect();
    assert_eq!(results, ["1.2.3.0", "1.2.3.1", "1.2.3.2", "PoolExhausted", "PoolExhausted"]);
}

#[test]
fn held_addresses_are_adopted_before_older_waiter_is_served() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"])]);
    for n in 0..4 {
        world.apply(service(&format!("holder{n}"), aged(100 + n)));
    }
    world.apply(service("a-waiting", aged(1)));
    let before = world.results();
    assert_eq!(before["default/a-waiting"], "PoolExhausted");
    for _ in 0..5 {
        world.take_writes();
        let events = world.events.len();
        world.restart();
        assert_eq!((world.results(), world.take_writes(), world.events.len()), (before.clone(), 0, events));
    }
}

#[test]
fn index_decides_nothing_before_all_lists() {
    let mut world = World::stopped();
    world.config.pools = pools([pool("p", &["1.2.3.0"])]);
    let observed = vec![observe(&service("s", json!({ "metadata": { "resourceVersion": "1" } }))).unwrap()];
    let mut steps: Vec<fn(&mut World, Vec<ObservedService>)> = vec![
        |world, observed| world.index.services_reset(observed, world.now),
        |world, _| world.index.set_config(&world.config, world.now),
        |world, _| world.index.namespaces_reset(vec![("default".into(), Labels::new())], world.now),
        |world, _| world.index.claims_reset(Vec::new(), world.now),
    ];
    for _ in 0..4 {
        world.index = Index::default();
        for (n, step) in steps.iter().enumerate() {
            world.index.begin(Vec::new(), world.now);
            assert!(!world.index.is_deciding() && world.index.take_decisions().is_empty(), "step {n}");
            step(&mut world, observed.clone());
        }
        assert!(
            world.index.is_listed() && world.index.take_decisions().is_empty(),
            "the controller does not lead yet"
        );
        world.index.begin(Vec::new(), world.now);
        assert!(world.index.is_deciding());
        assert!(matches!(&world.index.take_decisions()[0], Decision::Status { patch: Some(_), .. }));
        steps.rotate_left(1);
    }
}

#[test]
fn waiter_for_address_in_use_gets_it_when_freed() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    let asks = || annotated(REQUEST_IPS, "1.2.3.5");
    world.apply(service("shop/first", asks()));
    world.namespace("shop", &[]);
    world.apply(service("second", asks()));
    assert_eq!(
        world.message("second", names::ALLOCATED),
        "False/AddressInUse: 1.2.3.5 is in use by Service shop/first"
    );
    world.delete("shop/first");
    assert_eq!(world.result("second"), "1.2.3.5");
}

#[test]
fn new_pool_serves_waiters() {
    let mut world = World::new([]);
    world.apply(service("s", json!({})));
    assert_eq!(world.message("s", names::ALLOCATED), "False/NoPoolMatches: there is no IPAddressPool");
    world.set_pools([pool("p", &["1.2.3.0"])]);
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn service_waits_for_namespace_that_pools_select() {
    let mut tenant = pinned(pool("tenant", &["9.9.9.9"]), 0, &[]);
    tenant.allocation.as_mut().unwrap().namespace_selectors =
        vec![fairlead_test_support::selector("team", "blue")];
    let mut world = World::new([pool("default", &["1.2.3.0"]), tenant]);
    world.apply(service("blue/s", json!({})));
    assert_eq!(world.result("blue/s"), "", "no condition yet");
    world.namespace("blue", &[("team", "blue")]);
    assert_eq!(world.result("blue/s"), "9.9.9.9");
}

#[test]
fn namespace_labels_open_and_close_pool() {
    let mut tenant = pinned(pool("tenant", &["9.9.9.9"]), 0, &[]);
    tenant.allocation.as_mut().unwrap().namespace_selectors =
        vec![fairlead_test_support::selector("team", "blue")];
    let mut world = World::new([tenant]);
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "NoPoolMatches");
    world.namespace("default", &[("team", "blue")]);
    assert_eq!(world.result("s"), "9.9.9.9");
    world.namespace("default", &[("team", "blue"), ("other", "label")]);
    assert_eq!(world.result("s"), "9.9.9.9");
    world.namespace("default", &[]);
    assert_eq!(world.result("s"), "NoPoolMatches");
}

#[test]
fn specific_request_does_not_precede_older_waiter() {
    let asks = |age| both(aged(age), annotated(REQUEST_IPS, "1.2.3.0"));
    for (asking, any) in [(99, 10), (10, 99)] {
        let mut world = World::new([pool("p", &["1.2.3.0"])]);
        world.apply(service("holder", json!({})));
        world.apply(service("any", aged(any)));
        world.apply(service("asking", asks(asking)));
        world.delete("holder");
        let (older, younger) = if any < asking { ("any", "asking") } else { ("asking", "any") };
        assert_eq!(world.result(older), "1.2.3.0", "{older}");
        assert_ne!(world.result(younger), "1.2.3.0", "{younger}");
    }
}

#[test]
fn recreated_service_does_not_precede_older_waiter() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    world.apply(service("old", aged(10)));
    // The watch reports the new Service without the deletion of the old one.
    world.services.remove(&key("holder"));
    world.apply(service("holder", both(aged(99), json!({ "metadata": { "uid": "another" } }))));
    assert_eq!([world.result("old"), world.result("holder")], ["1.2.3.0", "PoolExhausted"]);
}

#[test]
fn claim_does_not_precede_older_service() {
    for restarts in [false, true] {
        for (claim, age, expected) in [("2026-02-01", 10, "1.2.3.1"), ("2026-01-01", 60, "PoolExhausted")] {
            let mut world = World::new([pool("p", &["1.2.3.0"])]);
            world.apply(service("holder", json!({})));
            world.apply(service("web", aged(5)));
            world.claim_of("c", json!({ "serviceName": "web", "pool": "p" }), &format!("{claim}T00:00:00Z"));
            world.apply(service("s", aged(age)));
            world.config.pools = pools([pool("p", &["1.2.3.0-1.2.3.1"])]);
            if restarts {
                world.restart();
            } else {
                world.reconfigure();
            }
            assert_eq!(world.result("s"), expected, "a claim of {claim}, restarts: {restarts}");
            let reserved = world.claimed("c").contains("Reserved True");
            assert_eq!(reserved, expected == "PoolExhausted", "a claim of {claim}, restarts: {restarts}");
        }
    }
}

#[test]
fn service_is_decided_once_namespace_is_no_longer_needed() {
    let open = || pool("p", &["1.2.3.0-1.2.3.9"]);
    let mut tenant = pinned(open(), 0, &[]);
    tenant.allocation.as_mut().unwrap().namespace_selectors =
        vec![fairlead_test_support::selector("team", "blue")];
    for namespace_comes in [false, true] {
        let mut world = World::new([tenant.clone()]);
        world.apply(service("blue/s", json!({})));
        world.claim("blue/c", json!({ "serviceName": "web", "pool": "p" }));
        assert_eq!([world.result("blue/s"), world.claimed("blue/c")], ["", ""]);
        world.set_pools([open()]);
        if namespace_comes {
            world.namespace("blue", &[]);
        }
        assert_eq!(world.result("blue/s"), "1.2.3.1");
        assert!(world.claimed("blue/c").starts_with("1.2.3.0 Reserved True"), "{}", world.claimed("blue/c"));
    }
}
