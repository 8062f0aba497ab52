//! The cost of an event depends only on the objects that it changes. The tests count evaluations.

use std::time::Duration;

use super::*;
use fairlead_test_support::{pinned, pool, retaining};

/// Returns a creation time after all others.
fn late() -> Value {
    json!({ "metadata": { "creationTimestamp": "2026-02-01T00:00:00Z" } })
}

/// Returns the number of evaluations of each step with `n` Services.
fn evaluations(n: u32) -> Vec<(&'static str, u64)> {
    let held = n / 2;
    let last = format!("1.0.{}.{}", (held - 1) / 256, (held - 1) % 256);
    let mut world = World::new([pool("p", &[&format!("1.0.0.0-{last}")]), pool("q", &["9.9.9.0-9.9.9.255"])]);
    world.checked = false;
    world.config.pools.get_mut("q").unwrap().auto_assign = false;
    world.reconfigure();
    for i in 0..n {
        world.apply(service(&format!("s{i:05}"), aged(i)));
    }
    assert_eq!(world.index.service_counts(), (n as usize, (n - held) as usize), "half of the Services wait");
    let mut steps = Vec::new();
    let mut step = |what, act: &dyn Fn(&mut World)| {
        let before = world.index.counters().evaluations;
        act(&mut world);
        steps.push((what, world.index.counters().evaluations - before));
    };
    step("a label of a Service changes", &|w| {
        w.apply(service("s00001", both(aged(1), json!({ "metadata": { "labels": { "a": "b" } } }))))
    });
    step("a Service that waits is added", &|w| w.apply(service("z", late())));
    step("a Service that waits is deleted", &|w| w.delete("z"));
    step("a holder is deleted and a waiting Service gets its address", &|w| w.delete("s00002"));
    step("a Service gets an address of another pool", &|w| {
        w.apply(service("x", annotated(REQUEST_POOL, "q")))
    });
    step("a Namespace is added", &|w| w.namespace("new", &[("a", "b")]));
    step("the configuration is listed again", &|w| w.reconfigure());
    step("an advertisement of another pool is added", &|w| {
        w.config.l2_advertisements.insert("q".into(), advertisement("q", &["q"]));
        w.reconfigure();
    });
    steps
}

/// Returns the number of evaluations of each step if all `n` Services hold an address of pool `p`.
fn evaluations_of_holders(n: u32) -> Vec<(&'static str, u64)> {
    let name = |i: u32| format!("s{i:05}");
    let mut world = World::new([
        pool("p", &["1.0.0.0-1.0.255.255"]),
        pool("q", &["9.9.9.0-9.9.9.255"]),
        Pool { reuse_after: Duration::from_secs(60), ..pool("r", &["8.8.8.0-8.8.8.255"]) },
    ]);
    world.checked = false;
    for name in ["q", "r"] {
        world.config.pools.get_mut(name).unwrap().auto_assign = false;
    }
    world.reconfigure();
    let sharing = |port: u32| {
        let ports = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
        both(annotated(SHARING_KEY, "key"), ports)
    };
    for i in 0..n {
        // All use one port, so each holds an address that others may join.
        world.apply(service(&name(i), both(aged(0), sharing(80))));
    }
    assert_eq!(world.index.service_counts(), (n as usize, 0), "all Services hold an address");
    let mut steps = Vec::new();
    let mut step = |what, act: &dyn Fn(&mut World)| {
        let before = world.index.counters().evaluations;
        act(&mut world);
        steps.push((what, world.index.counters().evaluations - before));
    };
    let in_r = |with| both(annotated(REQUEST_POOL, "r"), with);
    step("a Service joins an address", &|w| w.apply(service("j", sharing(443))));
    step("that Service is deleted", &|w| w.delete("j"));
    step("a Service gets an address with a cool-down", &|w| w.apply(service("x", in_r(json!({})))));
    step("that Service is deleted", &|w| w.delete("x"));
    step("another Service waits for that address", &|w| {
        w.apply(service("y", in_r(annotated(REQUEST_IPS, "8.8.8.0"))));
        assert_eq!(w.result("y"), "AddressReserved");
    });
    step("the cool-down ends", &|w| {
        w.wait(61);
        assert_eq!(w.result("y"), "8.8.8.0");
    });
    step("a claim is added", &|w| w.claim("c", json!({ "serviceName": "z", "pool": "p" })));
    step("the Service of the claim is added", &|w| w.apply(service("z", json!({}))));
    step("the claim is deleted", &|w| w.delete_claim("c"));
    step("the Service is deleted", &|w| w.delete("z"));
    step("another Namespace changes", &|w| w.namespace("other", &[("a", "b")]));
    step("another pool is edited", &|w| {
        w.config.pools.get_mut("q").unwrap().avoid_buggy_ips = true;
        w.reconfigure();
    });
    step("another pool is added", &|w| {
        w.config.pools.insert("n".into(), pool("n", &["7.7.7.0-7.7.7.255"]));
        w.reconfigure();
    });
    steps
}

/// Returns the number of evaluations of steps that affect all `n` Services.
fn evaluations_of_all(n: u32) -> Vec<(&'static str, u64)> {
    let mut world = World::new([pool("p", &["1.0.0.0-1.0.255.255"])]);
    world.checked = false;
    for i in 0..n {
        world.apply(service(&format!("s{i:05}"), aged(i)));
    }
    world.restart();
    let mut steps = vec![("a controller starts", world.index.counters().evaluations)];
    let before = world.index.counters().evaluations;
    world.config.pools.get_mut("p").unwrap().avoid_buggy_ips = false;
    world.config.pools.get_mut("p").unwrap().labels = labels(&[("a", "b")]);
    world.reconfigure();
    steps.push(("the pool of all Services is edited", world.index.counters().evaluations - before));
    steps
}

#[test]
fn evaluations_per_event_do_not_grow_with_services() {
    for count in [evaluations, evaluations_of_holders] {
        let few = count(100);
        assert!(few.iter().all(|(_, evaluations)| *evaluations <= 4), "{few:?}");
        for n in [1_000, 3_000] {
            assert_eq!(count(n), few, "with {n}");
        }
    }
}

#[test]
fn start_and_pool_edit_evaluate_each_service_once() {
    for n in [100, 1_000, 3_000] {
        assert_eq!(evaluations_of_all(n).into_iter().map(|(_, e)| e).collect::<Vec<_>>(), [u64::from(n); 2]);
    }
}

/// Returns a pool with one address: the `n`th.
fn small_pool(n: u32) -> Pool {
    retaining(pool(&format!("p{n:04}"), &[&format!("1.0.{}.{}", n / 256, n % 256)]))
}

/// Returns a world in which `full` pools of one address are full and `waiting` Services wait.
fn full_world(full: u32, waiting: u32) -> World {
    let mut world = World::new((0..full).map(small_pool));
    world.checked = false;
    for i in 0..full + waiting {
        world.apply(service(&format!("s{i:05}"), aged(i)));
    }
    assert_eq!(world.index.service_counts(), ((full + waiting) as usize, waiting as usize));
    world.take_writes();
    world.events.clear();
    world
}

#[test]
fn new_pools_cost_only_the_services_they_serve() {
    for waiting in [100, 1_000] {
        let mut world = full_world(300, waiting);
        let before = world.index.counters().evaluations;
        for n in 300..350 {
            world.config.pools.insert(format!("p{n:04}"), small_pool(n));
            world.reconfigure();
        }
        let evaluations = world.index.counters().evaluations - before;
        assert_eq!(world.index.service_counts().1, waiting as usize - 50);
        // Each Service that got an address is decided on again when its status is observed.
        assert_eq!((evaluations, world.take_writes(), world.events.len()), (100, 50, 50));
        assert_eq!(world.result("s00349"), "1.0.1.93", "the oldest is served first");
        world.check_restart("new pools");
    }
}

#[test]
fn full_and_empty_pools_change_no_status_of_waiters() {
    let mut world = full_world(20, 100);
    let message =
        "False/PoolExhausted: no free IPv4 address in any IPAddressPool that is open to this Service";
    assert_eq!(world.message("s00119", names::ALLOCATED), message);
    let before = world.index.counters().evaluations;
    for n in 0..20 {
        let other = pinned(small_pool(100 + n), 0, &["other"]);
        world.config.pools.insert(other.name.clone(), other);
        world.reconfigure();
    }
    for n in 0..10 {
        let closed = retaining(pool(&format!("q{n}"), &[&format!("2.0.0.{n}")]));
        world.config.pools.insert(closed.name.clone(), Pool { auto_assign: false, ..closed });
        world.reconfigure();
    }
    assert_eq!((world.take_writes(), world.events.len()), (0, 0));
    assert_eq!(world.index.counters().evaluations, before, "no pool can serve them");
    let pool = pinned(small_pool(200), 0, &["default"]);
    world.config.pools.insert(pool.name.clone(), pool);
    world.reconfigure();
    assert_eq!((world.take_writes(), world.result("s00020").as_str()), (1, "1.0.0.200"));
}

#[test]
fn event_is_emitted_only_if_the_reason_changes() {
    // Few enough pools that messages name them.
    let mut world = full_world(2, 3);
    let before = world.message("s00004", names::ALLOCATED);
    let other = Pool { closed: None, ..retaining(pool("q", &["9.9.9.9"])) };
    world.config.pools.insert("q".into(), other);
    world.reconfigure();
    assert_ne!(world.message("s00004", names::ALLOCATED), before, "the message names the new pool");
    let events: Vec<_> = world.events.iter().map(|event| (&*event.service.name, event.reason)).collect();
    assert_eq!(events, [("s00002", AllocationReason::Allocated)]);
}

#[test]
fn change_of_a_pool_touches_no_other_pool() {
    for count in [100, 2_000] {
        let mut world = World::new((0..count).map(small_pool));
        world.checked = false;
        world.apply(service("s", json!({})));
        world.index.take_touched_pools();
        let before = world.index.counters().evaluations;
        for new in [Some("9.9.9.9"), Some("9.9.9.8"), None] {
            match new {
                Some(address) => drop(world.config.pools.insert("new".to_owned(), pool("new", &[address]))),
                None => drop(world.config.pools.remove("new")),
            }
            world.reconfigure();
            assert_eq!(world.index.take_touched_pools(), ["new".into()].into(), "with {count} pools");
        }
        assert_eq!(world.index.counters().evaluations, before, "with {count} pools");
    }
}
