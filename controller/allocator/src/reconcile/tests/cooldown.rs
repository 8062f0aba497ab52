//! Cool-down (`reuseAfter`): a released address is reserved for its last holder.

use std::time::Duration;

use fairlead_crds::model::config::{Closed, Pool};
use fairlead_crds::v1beta1::MAX_RECENTLY_RELEASED;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::{pinned, pool, refused, selector};

/// Returns a pool of two addresses with a cool-down of `seconds`.
fn cooling(seconds: u64) -> Pool {
    Pool { reuse_after: Duration::from_secs(seconds), ..pool("p", &["1.2.3.0-1.2.3.1"]) }
}

/// Returns a world in which 1.2.3.0 is in cool-down for `s`, `t` holds 1.2.3.1, and `late` waits.
fn released() -> World {
    let mut world = World::new([cooling(60)]);
    world.apply(service("s", json!({})));
    world.apply(service("t", json!({})));
    world.delete("s");
    world.apply(service("late", json!({})));
    assert_eq!(world.result("late"), "PoolExhausted");
    world
}

#[test]
fn address_in_cooldown_returns_only_to_its_last_holder() {
    let mut world = released();
    assert_eq!(world.index.ipam().counts("p", Family::V4).reserved, 1);
    world.namespace("team", &[]);
    world.apply(service("team/s", json!({})));
    assert_eq!(world.result("team/s"), "PoolExhausted", "a Service of the same name in another Namespace");
    world.apply(service("asks", annotated(REQUEST_IPS, "1.2.3.0")));
    assert_eq!(
        world.message("asks", names::ALLOCATED),
        "False/AddressReserved: 1.2.3.0 is in cool-down until 2023-11-14T22:14:20Z for Service default/s, \
         which released it"
    );
    world.wait(30);
    world.apply(service("s", json!({ "metadata": { "uid": "another" } })));
    assert_eq!(world.result("s"), "1.2.3.0");
    assert_eq!(world.index.poll_timeout(), None, "no cool-down remains");
    assert_eq!(world.index.ipam().counts("p", Family::V4).reserved, 0);
    assert!(world.message("asks", names::ALLOCATED).starts_with("False/AddressInUse"));
}

#[test]
fn waiter_gets_address_at_end_of_cooldown_without_polling() {
    for restarts in [false, true] {
        let mut world = released();
        world.take_writes();
        let evaluations = world.index.counters().evaluations;
        for _ in 0..59 {
            world.wait(1);
            assert_eq!(world.result("late"), "PoolExhausted");
        }
        assert_eq!((world.take_writes(), world.index.counters().evaluations), (0, evaluations), "no polling");
        if restarts {
            world.restart();
            assert_eq!((world.result("late").as_str(), world.take_writes()), ("PoolExhausted", 0));
        }
        let due = world.index.poll_timeout().unwrap();
        assert_eq!(due.as_second(), world.now.as_second() + 1);
        world.wait(1);
        assert_eq!(world.result("late"), "1.2.3.0");
        assert_eq!((world.take_writes(), world.index.poll_timeout()), (1, None));
    }
}

#[test]
fn cooldown_that_ended_before_restart_is_dropped() {
    let mut world = released();
    world.record_released();
    world.now = Timestamp::from_second(world.now.as_second() + 60).unwrap();
    world.index.step_down();
    let released = world.released.clone();
    world.index.begin(released, world.now);
    world.sync();
    assert_eq!(world.result("late"), "1.2.3.0");
}

#[test]
fn release_recorded_in_the_future_counts_from_now() {
    for restarts in [false, true] {
        let mut world = World::new([cooling(60)]);
        let now = world.now;
        world.apply(service("s", json!({})));
        world.apply(service("t", json!({})));
        // The clock is a year ahead while the address is released.
        world.wait(365 * 86_400);
        world.delete("s");
        world.record_released();
        world.now = now;
        if restarts {
            world.restart();
        }
        world.apply(service("late", json!({})));
        assert_eq!(world.result("late"), "PoolExhausted", "restarts: {restarts}");
        let due = world.index.poll_timeout().unwrap();
        assert_eq!(due.as_second(), now.as_second() + 60, "restarts: {restarts}");
        world.wait(60);
        assert_eq!(world.result("late"), "1.2.3.0", "restarts: {restarts}");
    }
}

#[test]
fn every_kind_of_release_starts_cooldown() {
    let cases = [
        ("another type", json!({ "spec": { "type": "ClusterIP" }, "status": {} })),
        ("another class", json!({ "spec": { "loadBalancerClass": "example.org/other" }, "status": {} })),
        ("request of another address", annotated(REQUEST_IPS, "1.2.3.1")),
        ("no cluster IP", families(&[], "SingleStack")),
    ];
    for (what, with) in cases {
        let mut world = World::new([cooling(60)]);
        world.apply(service("s", json!({})));
        world.apply(service("s", with));
        world.apply(service("thief", annotated(REQUEST_IPS, "1.2.3.0")));
        assert_eq!(world.result("thief"), "AddressReserved", "{what}");
        world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.0")));
        assert_eq!(world.result("s"), "1.2.3.0", "{what}: the Service gets its address back");
    }
}

#[test]
fn cooldown_belongs_to_last_sharer() {
    let mut world = World::new([cooling(60)]);
    world.apply(service("a", shared(80)));
    world.apply(service("b", shared(81)));
    world.delete("a");
    assert_eq!(world.index.poll_timeout(), None, "the address is still held");
    world.delete("b");
    world.apply(service("a", both(shared(80), annotated(REQUEST_IPS, "1.2.3.0"))));
    assert_eq!(world.result("a"), "AddressReserved");
    world.apply(service("b", shared(81)));
    assert_eq!(
        [world.result("a"), world.result("b")],
        ["1.2.3.0", "1.2.3.0"],
        "both share the address again"
    );
}

#[test]
fn edited_reuse_after_counts_from_release() {
    for (seconds, left) in [(90, 60), (40, 10), (30, 0), (10, 0), (0, 0)] {
        let mut world = released();
        world.wait(30);
        world.set_pools([cooling(seconds)]);
        if left > 0 {
            world.wait(left - 1);
            assert_eq!(world.result("late"), "PoolExhausted", "{seconds}");
            world.wait(1);
        }
        assert_eq!(world.result("late"), "1.2.3.0", "{seconds}");
        assert_eq!(world.index.poll_timeout(), None, "{seconds}");
    }
}

#[test]
fn pool_without_the_address_drops_cooldown() {
    let mut world = released();
    world.set_pools([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.1-1.2.3.2"]) }]);
    assert_eq!(world.result("late"), "1.2.3.2");
    assert_eq!(world.index.poll_timeout(), None);
    world.set_pools([]);
    assert_eq!(world.index.ipam().released("p").count(), 0);
}

#[test]
fn refused_pool_keeps_cooldowns() {
    let over = || Pool { auto_assign: false, ..pool("over", &["1.2.3.0-1.2.3.1"]) };
    for seconds in [60, 0] {
        for in_force in [vec![], vec![over()]] {
            for restarts in [false, true] {
                let mut world = released();
                world.wait(10);
                let refused = Pool { reuse_after: Duration::from_secs(seconds), ..refused("p") };
                world.config.refused_pools = pools([refused]);
                world.set_pools(in_force.clone());
                assert_eq!(
                    world.index.ipam().released("p").count(),
                    1,
                    "the pool status still lists the address"
                );
                world.wait(30);
                if restarts {
                    world.restart();
                }
                world.apply(service("thief", annotated(REQUEST_IPS, "1.2.3.0")));
                let thief = if in_force.is_empty() { "AddressNotInPool" } else { "AddressReserved" };
                assert_eq!(world.result("thief"), thief, "{seconds} {restarts}");
                world.set_pools_and_refused([cooling(60)], &[]);
                assert_eq!(world.result("thief"), "AddressReserved", "{seconds} {restarts}");
                assert_eq!(
                    world.index.poll_timeout().map(|due| due.as_second() - world.now.as_second()),
                    Some(20)
                );
                world.delete("thief");
                world.wait(19);
                assert_eq!(world.result("late"), "PoolExhausted");
                world.wait(1);
                assert_eq!(world.result("late"), "1.2.3.0", "{seconds} {restarts}");
            }
        }
    }
}

#[test]
fn cooldown_of_refused_pool_ends_only_if_reuse_after_is_known() {
    let over = || Pool { auto_assign: false, ..pool("over", &["1.2.3.0"]) };
    for (seconds, after) in [(60, "1.2.3.0"), (0, "AddressReserved")] {
        let mut world = released();
        world.apply(service("asks", annotated(REQUEST_IPS, "1.2.3.0")));
        let refused = Pool { reuse_after: Duration::from_secs(seconds), ..refused("p") };
        world.config.refused_pools = pools([refused]);
        world.set_pools([over()]);
        assert_eq!(world.index.poll_timeout().is_some(), seconds > 0);
        world.wait(59);
        assert_eq!(world.result("asks"), "AddressReserved", "{seconds}");
        world.wait(1);
        assert_eq!(world.result("asks"), after, "{seconds}");
        world.restart();
        assert_eq!(world.result("asks"), after, "{seconds}");
        world.set_pools_and_refused([over()], &[]);
        assert_eq!(world.result("asks"), "1.2.3.0", "{seconds}: the pool is deleted");
    }
}

#[test]
fn cooldowns_beyond_limit_drop_the_earliest() {
    let mut world =
        World::new([Pool { reuse_after: Duration::from_secs(9999), ..pool("p", &["1.2.0.0-1.2.15.255"]) }]);
    world.checked = false;
    let count = MAX_RECENTLY_RELEASED + 2;
    for n in 0..count {
        world.apply(service(&format!("s{n:04}"), aged(n as u32)));
    }
    for n in 0..count {
        world.wait(1);
        world.delete(&format!("s{n:04}"));
    }
    let released: Vec<_> = world.index.ipam().released("p").collect();
    assert_eq!(released.len(), MAX_RECENTLY_RELEASED);
    assert_eq!(
        released[0].address,
        fairlead_test_support::ip("1.2.0.2"),
        "the two addresses released first are free"
    );
    world.index.ipam().assert_invariants();
}

#[test]
fn claim_reserves_address_in_cooldown_only_for_last_holder() {
    let mut world = released();
    world.claim("other", json!({ "serviceName": "other", "addresses": ["1.2.3.0"] }));
    assert!(world.claimed("other").starts_with("Reserved False/AddressReserved"));
    world.claim("own", json!({ "serviceName": "s", "pool": "p" }));
    assert!(world.claimed("own").starts_with("1.2.3.0 Reserved True"), "{}", world.claimed("own"));
    world.wait(61);
    assert_eq!(world.result("late"), "PoolExhausted", "a claim outlives the cool-down");
}

#[test]
fn dual_stack_service_in_cooldown_waits_for_other_family() {
    let mut world =
        World::new([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0", "1::1"]) }]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", json!({})));
    world.delete("six");
    world.wait(30);
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "RequireDualStack")));
    assert_eq!(world.result("s"), "PoolExhausted", "the released address is reserved for the Service");
    world.wait(30);
    assert_eq!(world.result("s"), "1.2.3.0 1::1", "the other family is free");
}

#[test]
fn recreated_service_gets_its_address_back_if_pool_allows() {
    let a = || pool("a", &["1.0.0.0"]);
    let b = || Pool { reuse_after: Duration::from_secs(60), ..pool("b", &["2.0.0.0-2.0.0.9"]) };
    let named = |name| annotated(REQUEST_POOL, name);
    #[rustfmt::skip]
    let cases = [
        ("the first pool has a free address again", json!({}), vec![a(), b()], "2.0.0.0"),
        ("another pool precedes it",
         json!({}), vec![pinned(pool("z", &["3.0.0.0"]), 1, &[]), a(), b()], "2.0.0.0"),
        ("the Service requests another pool", named("a"), vec![a(), b()], "1.0.0.0"),
        ("the Service requests another address",
         annotated(REQUEST_IPS, "2.0.0.5"), vec![a(), b()], "2.0.0.5"),
        ("its pool no longer admits the Service", json!({}), vec![a(), pinned(b(), 0, &["team"])], "1.0.0.0"),
        ("autoAssign of its pool is false",
         json!({}), vec![a(), Pool { auto_assign: false, ..b() }], "1.0.0.0"),
        ("its pool is disabled",
         json!({}), vec![a(), Pool { closed: Some(Closed::Disabled), ..b() }], "1.0.0.0"),
    ];
    for (what, with, edited, expected) in cases {
        for restarts in [false, true] {
            let mut world = World::new([a(), b()]);
            world.apply(service("x", json!({})));
            world.apply(service("y", json!({})));
            assert_eq!([world.result("x"), world.result("y")], ["1.0.0.0", "2.0.0.0"]);
            world.delete("x");
            world.delete("y");
            world.set_pools(edited.clone());
            if restarts {
                world.restart();
            }
            world.wait(30);
            world.apply(service("y", both(with.clone(), json!({ "metadata": { "uid": "another" } }))));
            assert_eq!(world.result("y"), expected, "{what}, restarts: {restarts}");
        }
    }
}

#[test]
fn recreated_dual_stack_service_gets_both_addresses_back() {
    let kept = |pool| Pool { reuse_after: Duration::from_secs(60), ..pool };
    let dual = |policy| families(&["10.96.0.1", "fd00::1"], policy);
    let one = || vec![kept(pool("p", &["2.0.0.0-2.0.0.9", "2::-2::9"]))];
    let two = || vec![kept(pool("p4", &["2.0.0.0-2.0.0.9"])), kept(pool("p6", &["2::-2::9"]))];
    let half = || vec![kept(pool("p4", &["2.0.0.0-2.0.0.9"])), pool("p6", &["2::-2::9"])];
    #[rustfmt::skip]
    let cases = [
        ("PreferDualStack", one(), "2.0.0.0 2::"),
        ("RequireDualStack", one(), "2.0.0.0 2::"),
        ("RequireDualStack", two(), "2.0.0.0 2::"),
        ("PreferDualStack", two(), "2.0.0.0"),
        ("RequireDualStack", half(), "2.0.0.0 1::"),
        ("PreferDualStack", half(), "2.0.0.0"),
    ];
    for (policy, pools, again) in cases {
        let mut world = World::new(pools.clone());
        world.apply(service("s", dual(policy)));
        world.delete("s");
        world.set_pools(pools.into_iter().chain([pool("a", &["1.0.0.0", "1::"])]));
        world.apply(service("s", dual(policy)));
        assert_eq!(world.result("s"), again, "{policy}");
    }
}

#[test]
fn recreated_service_gets_its_last_address_back() {
    // Without a restart, releases within one second are also ordered.
    for (seconds, restarts) in [(0, false), (1, false), (1, true)] {
        let mut world = World::new([Pool { ranges: pool("p", &["1.2.3.0-1.2.3.9"]).ranges, ..cooling(60) }]);
        for address in ["1.2.3.1", "1.2.3.9", "1.2.3.5"] {
            world.apply(service("s", annotated(REQUEST_IPS, address)));
            assert_eq!(world.result("s"), address);
            world.wait(seconds);
        }
        world.delete("s");
        if restarts {
            world.restart();
        }
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), "1.2.3.5");
    }
}

/// The event has the time at which the cool-down ends, and arrives before the timeout.
#[test]
fn event_at_end_of_cooldown_does_not_precede_waiter() {
    let tenants = |reuse_after| {
        let mut p = pinned(pool("p", &["1.2.3.0"]), 1, &["default"]);
        p.allocation.as_mut().unwrap().namespace_selectors = vec![selector("team", "blue")];
        Pool { reuse_after: Duration::from_secs(reuse_after), ..p }
    };
    type Input = fn(&mut World);
    let events: [(&str, Input); 4] = [
        ("a Service", |world| world.apply(service("a-new", aged(99)))),
        ("a claim", |world| {
            let spec = json!({ "serviceName": "a-new", "pool": "p" });
            world.claim_of("c", spec, "2026-02-01T00:00:00Z");
        }),
        ("a Namespace", |world| world.namespace("blue", &[("team", "blue")])),
        ("a deleted Service with a waiting claim", |world| world.delete("of-claim")),
    ];
    for (what, event) in events {
        let q = Pool { auto_assign: false, ..pool("q", &["5.5.5.5"]) };
        let mut world = World::new([tenants(60), q]);
        world.apply(service("blue/young", aged(50)));
        world.apply(service("of-claim", annotated(REQUEST_POOL, "q")));
        world.apply(service("holder", json!({})));
        world.delete("holder");
        world.apply(service("old", aged(10)));
        let spec = json!({ "serviceName": "of-claim", "pool": "p" });
        world.claim_of("waits", spec, "2026-02-01T00:00:00Z");
        assert_eq!(world.result("old"), "PoolExhausted", "{what}");
        world.now = world.index.poll_timeout().unwrap();
        event(&mut world);
        assert_eq!(world.result("old"), "1.2.3.0", "{what}");
        assert_eq!(world.index.poll_timeout(), None, "{what}");
    }
}

#[test]
fn waiting_claim_precedes_younger_service_on_relist() {
    let mut world = World::new([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0"]) }]);
    world.apply(service("holder", json!({})));
    world.delete("holder");
    world.claim("c", json!({ "serviceName": "web", "pool": "p" }));
    world.now = world.index.poll_timeout().unwrap();
    let young = service("young", both(aged(99), json!({ "metadata": { "resourceVersion": "9" } })));
    world.services.insert(key("young"), young);
    world.index.services_reset(world.observed(), world.now);
    world.sync();
    assert!(world.claimed("c").starts_with("1.2.3.0 Reserved True"), "{}", world.claimed("c"));
}

#[test]
fn last_holder_gets_address_once_no_status_displays_it() {
    let share = |port: u16, with| both(shared(port), with);
    let p = Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0"]) };
    for claimed in [false, true] {
        let mut world = World::new([p.clone(), Pool { auto_assign: false, ..pool("q", &["5.5.5.5"]) }]);
        world.apply(service("t", share(80, json!({}))));
        world.apply(service("x", share(81, json!({}))));
        // The Service moves, but its status displays the former address until the patch is applied.
        world.apply_silently(service("t", share(80, annotated(REQUEST_POOL, "q"))));
        let mut slow = world.index.take_decisions();
        slow.retain(|decision| matches!(decision, Decision::Status { patch: Some(_), .. }));
        world.services.remove(&key("x"));
        world.index.service_deleted(&key("x"), world.now);
        if claimed {
            let claim = json!({
                "apiVersion": "fairlead.dev/v1beta1", "kind": "IPClaim",
                "metadata": { "namespace": "default", "name": "c", "uid": "uid-c", "resourceVersion": "1" },
                "spec": { "serviceName": "x", "pool": "p" },
            });
            let claim: v1beta1::IPClaim = serde_json::from_value(claim).unwrap();
            world.index.claim_applied(Claim::from_object(&claim), world.now);
            world.claims.insert(key("c"), claim);
        } else {
            world.apply_silently(service("x", share(81, json!({ "metadata": { "uid": "another" } }))));
        }
        world.sync();
        if claimed {
            assert!(world.claimed("c").starts_with("Reserved False/PoolExhausted"), "{}", world.claimed("c"));
        } else {
            assert_eq!(world.result("x"), "PoolExhausted");
        }
        let [Decision::Status { service, patch: Some(patch) }] = &slow[..] else { panic!("{slow:?}") };
        assert!(world.write(service.clone(), patch));
        world.sync();
        assert_eq!(world.result("t"), "5.5.5.5");
        if claimed {
            assert!(world.claimed("c").starts_with("1.2.3.0 Reserved True"), "{}", world.claimed("c"));
        } else {
            assert_eq!(world.result("x"), "1.2.3.0");
        }
    }
}

#[test]
fn service_deleted_at_end_of_cooldown_gets_no_address() {
    type Input = fn(&mut World);
    let events: [(&str, Input); 3] = [
        ("deleted", |world| world.delete("old")),
        ("recreated", |world| {
            world.services.remove(&key("old"));
            world.apply(service("old", both(aged(99), json!({ "metadata": { "uid": "another" } }))));
        }),
        ("absent from a list", |world| {
            world.services.remove(&key("old"));
            world.index.services_reset(world.observed(), world.now);
            world.sync();
        }),
    ];
    for (what, event) in events {
        let mut world =
            World::new([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0"]) }]);
        world.apply(service("holder", json!({})));
        world.delete("holder");
        world.apply(service("old", aged(10)));
        world.apply(service("young", aged(50)));
        world.now = world.index.poll_timeout().unwrap();
        event(&mut world);
        assert_eq!(world.result("young"), "1.2.3.0", "{what}");
    }
}
