//! `reuseAfter`: a released address is kept for the Service that had it.

use std::time::Duration;

use fairlead_crds::model::config::{Closed, Pool};
use fairlead_crds::v1beta1::MAX_RECENTLY_RELEASED;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::{pinned, pool, refused, selector};

const ASK: &str = "fairlead.dev/load-balancer-ips";

/// Two addresses, each kept for so many seconds.
fn cooling(seconds: u64) -> Pool {
    Pool { reuse_after: Duration::from_secs(seconds), ..pool("p", &["1.2.3.0-1.2.3.1"]) }
}

/// `s` had 1.2.3.0 and `t` has 1.2.3.1; `late` waits.
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
fn the_same_service_gets_a_released_address_back_and_another_does_not() {
    let mut world = released();
    assert_eq!(world.index.ipam().counts("p", Family::V4).reserved, 1);
    world.namespace("team", &[]);
    world.apply(service("team/s", json!({})));
    assert_eq!(world.result("team/s"), "PoolExhausted", "the same name elsewhere is another Service");
    world.apply(service("asks", annotated(ASK, "1.2.3.0")));
    assert_eq!(
        world.message("asks", names::ALLOCATED),
        "False/AddressReserved: 1.2.3.0 is in cool-down until 2023-11-14T22:14:20Z for Service default/s, which released it"
    );
    world.wait(30);
    world.apply(service("s", json!({ "metadata": { "uid": "another" } })));
    assert_eq!(world.result("s"), "1.2.3.0");
    assert_eq!(world.index.poll_timeout(), None, "nothing is kept any more");
    assert_eq!(world.index.ipam().counts("p", Family::V4).reserved, 0);
    assert!(world.message("asks", names::ALLOCATED).starts_with("False/AddressInUse"));
}

#[test]
fn who_waits_gets_it_when_the_time_is_over_and_nothing_happens_before() {
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
fn a_restart_after_the_time_is_over_keeps_nothing() {
    let mut world = released();
    world.note_released();
    world.now = Timestamp::from_second(world.now.as_second() + 60).unwrap();
    world.index.step_down();
    let released = world.released.clone();
    world.index.begin(released, world.now);
    world.sync();
    assert_eq!(world.result("late"), "1.2.3.0");
}

#[test]
fn however_it_is_released_it_is_kept() {
    let cases = [
        ("another type", json!({ "spec": { "type": "ClusterIP" }, "status": {} })),
        ("another class", json!({ "spec": { "loadBalancerClass": "example.org/other" }, "status": {} })),
        ("another address asked for", annotated(ASK, "1.2.3.1")),
        ("no cluster IP", families(&[], "SingleStack")),
    ];
    for (what, with) in cases {
        let mut world = World::new([cooling(60)]);
        world.apply(service("s", json!({})));
        world.apply(service("s", with));
        world.apply(service("thief", annotated(ASK, "1.2.3.0")));
        assert_eq!(world.result("thief"), "AddressReserved", "{what}");
        world.apply(service("s", annotated(ASK, "1.2.3.0")));
        assert_eq!(world.result("s"), "1.2.3.0", "{what}: and had again");
    }
}

#[test]
fn the_last_of_those_who_share_has_it() {
    let share = |port: u16| {
        json!({
            "metadata": { "annotations": { "fairlead.dev/allow-shared-ip": "k" } },
            "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
        })
    };
    let mut world = World::new([cooling(60)]);
    world.apply(service("a", share(80)));
    world.apply(service("b", share(81)));
    world.delete("a");
    assert_eq!(world.index.poll_timeout(), None, "it is still held");
    world.delete("b");
    world.apply(service("a", both(share(80), annotated(ASK, "1.2.3.0"))));
    assert_eq!(world.result("a"), "AddressReserved");
    world.apply(service("b", share(81)));
    assert_eq!([world.result("a"), world.result("b")], ["1.2.3.0", "1.2.3.0"], "and shares it again");
}

#[test]
fn an_edit_of_reuse_after_counts_from_the_release() {
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
fn a_pool_that_no_longer_has_the_address_keeps_nothing() {
    let mut world = released();
    world.set_pools([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.1-1.2.3.2"]) }]);
    assert_eq!(world.result("late"), "1.2.3.2");
    assert_eq!(world.index.poll_timeout(), None);
    world.set_pools([]);
    assert_eq!(world.index.ipam().released("p").count(), 0);
}

#[test]
fn a_mistake_in_a_pool_takes_no_released_address_from_who_had_it() {
    let over = || Pool { auto_assign: false, ..pool("over", &["1.2.3.0-1.2.3.1"]) };
    for seconds in [60, 0] {
        for in_force in [vec![], vec![over()]] {
            for restarts in [false, true] {
                let mut world = released();
                world.wait(10);
                let refused = Pool { reuse_after: Duration::from_secs(seconds), ..refused("p") };
                world.config.refused_pools = pools([refused]);
                world.set_pools(in_force.clone());
                assert_eq!(world.index.ipam().released("p").count(), 1, "the status goes on saying so");
                world.wait(30);
                if restarts {
                    world.restart();
                }
                world.apply(service("thief", annotated(ASK, "1.2.3.0")));
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
fn while_a_pool_is_refused_the_time_goes_on_or_has_no_end_where_it_is_not_known() {
    let over = || Pool { auto_assign: false, ..pool("over", &["1.2.3.0"]) };
    for (seconds, after) in [(60, "1.2.3.0"), (0, "AddressReserved")] {
        let mut world = released();
        world.apply(service("asks", annotated(ASK, "1.2.3.0")));
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
        assert_eq!(world.result("asks"), "1.2.3.0", "{seconds}: gone for good");
    }
}

#[test]
fn so_many_are_kept_and_then_the_earliest_are_given() {
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
    assert_eq!(released[0].address, fairlead_test_support::ip("1.2.0.2"), "the two earliest are free");
    world.index.ipam().assert_invariants();
}

#[test]
fn a_claim_has_a_released_address_only_for_who_released_it() {
    let mut world = released();
    world.claim("other", json!({ "serviceName": "other", "addresses": ["1.2.3.0"] }));
    assert!(world.claimed("other").starts_with("Reserved False/AddressReserved"));
    world.claim("own", json!({ "serviceName": "s", "pool": "p" }));
    assert!(world.claimed("own").starts_with("1.2.3.0 Reserved True"), "{}", world.claimed("own"));
    world.wait(61);
    assert_eq!(world.result("late"), "PoolExhausted", "a claim outlives the time");
}

#[test]
fn who_has_one_family_kept_for_it_waits_for_the_other() {
    let mut world =
        World::new([Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0", "1::1"]) }]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", json!({})));
    world.delete("six");
    world.wait(30);
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "RequireDualStack")));
    assert_eq!(world.result("s"), "PoolExhausted", "it released the one, which is kept for it");
    world.wait(30);
    assert_eq!(world.result("s"), "1.2.3.0 1::1", "as soon as the other is free");
}

#[test]
fn who_is_made_anew_gets_its_address_back_whatever_pool_comes_first() {
    let a = || pool("a", &["1.0.0.0"]);
    let b = || Pool { reuse_after: Duration::from_secs(60), ..pool("b", &["2.0.0.0-2.0.0.9"]) };
    let named = |name| annotated("fairlead.dev/address-pool", name);
    #[rustfmt::skip]
    let cases = [
        ("the first pool has room again", json!({}), vec![a(), b()], "2.0.0.0"),
        ("another comes before it", json!({}), vec![pinned(pool("z", &["3.0.0.0"]), 1, &[]), a(), b()], "2.0.0.0"),
        ("it asks for another pool", named("a"), vec![a(), b()], "1.0.0.0"),
        ("it asks for another address", annotated(ASK, "2.0.0.5"), vec![a(), b()], "2.0.0.5"),
        ("its pool is no longer open to it", json!({}), vec![a(), pinned(b(), 0, &["team"])], "1.0.0.0"),
        ("its pool is for those who name it", json!({}), vec![a(), Pool { auto_assign: false, ..b() }], "1.0.0.0"),
        ("its pool gives nothing more", json!({}), vec![a(), Pool { closed: Some(Closed::Disabled), ..b() }], "1.0.0.0"),
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
fn who_is_made_anew_with_two_families_gets_both_back() {
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
fn of_what_a_service_had_it_gets_back_what_it_had_last() {
    // Within one second too, as long as the controller runs.
    for (seconds, restarts) in [(0, false), (1, false), (1, true)] {
        let mut world = World::new([Pool { ranges: pool("p", &["1.2.3.0-1.2.3.9"]).ranges, ..cooling(60) }]);
        for address in ["1.2.3.1", "1.2.3.9", "1.2.3.5"] {
            world.apply(service("s", annotated(ASK, address)));
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

/// The clock runs a little behind: something else happens first at the very moment.
#[test]
fn what_happens_when_the_time_is_over_does_not_come_before_who_waits() {
    let tenants = |reuse_after| {
        let mut p = pinned(pool("p", &["1.2.3.0"]), 1, &["default"]);
        p.allocation.as_mut().unwrap().namespace_selectors = vec![selector("team", "blue")];
        Pool { reuse_after: Duration::from_secs(reuse_after), ..p }
    };
    type ServiceEvent = fn(&mut World);
    let events: [(&str, ServiceEvent); 4] = [
        ("a Service", |world| world.apply(service("a-new", aged(99)))),
        ("a claim", |world| {
            let spec = json!({ "serviceName": "a-new", "pool": "p" });
            world.claim_of("c", spec, "2026-02-01T00:00:00Z");
        }),
        ("a Namespace", |world| world.namespace("blue", &[("team", "blue")])),
        ("a Service goes whose claim waits", |world| world.delete("of-claim")),
    ];
    for (what, event) in events {
        let q = Pool { auto_assign: false, ..pool("q", &["5.5.5.5"]) };
        let mut world = World::new([tenants(60), q]);
        world.apply(service("blue/young", aged(50)));
        world.apply(service("of-claim", annotated("fairlead.dev/address-pool", "q")));
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
fn a_claim_that_waits_comes_before_a_younger_service_when_all_are_listed_anew() {
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
fn who_has_an_address_kept_gets_it_as_soon_as_nobody_shows_it_any_more() {
    let share = |port: u16, with| {
        let ports = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
        both(both(annotated("fairlead.dev/allow-shared-ip", "k"), ports), with)
    };
    let p = Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0"]) };
    for claimed in [false, true] {
        let mut world = World::new([p.clone(), Pool { auto_assign: false, ..pool("q", &["5.5.5.5"]) }]);
        world.apply(service("t", share(80, json!({}))));
        world.apply(service("x", share(81, json!({}))));
        // It moves, but its status shows what it had until the write arrives.
        world.apply_silently(service("t", share(80, annotated("fairlead.dev/address-pool", "q"))));
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
fn who_goes_when_the_time_is_over_gets_nothing_of_it() {
    type ServiceEvent = fn(&mut World);
    let events: [(&str, ServiceEvent); 3] = [
        ("deleted", |world| world.delete("old")),
        ("made anew", |world| {
            world.services.remove(&key("old"));
            world.apply(service("old", both(aged(99), json!({ "metadata": { "uid": "another" } }))));
        }),
        ("not on the list", |world| {
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
