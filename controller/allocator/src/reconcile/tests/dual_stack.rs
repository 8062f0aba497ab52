//! Dual-stack Services: MetalLB's end-to-end cases 22 to 28, and the order of addresses.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use fairlead_test_support::{pinned, pool, refused, retaining};

fn prefer() -> Value {
    families(DUAL, "PreferDualStack")
}

#[test]
fn prefer_dual_stack_uses_dual_pool_before_single_pools() {
    let mut world =
        World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"]), pool("c", &["2.0.0.1", "2::1"])]);
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "2.0.0.1 2::1");
}

#[test]
fn prefer_dual_stack_falls_back_to_first_family() {
    for (cluster_ips, expected) in [(DUAL, "1.0.0.1"), (&["fd00::1", "10.96.0.1"], "1::1")] {
        let mut world = World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"])]);
        world.apply(service("s", families(cluster_ips, "PreferDualStack")));
        assert_eq!(world.result("s"), expected);
    }
}

#[test]
fn ingress_order_follows_cluster_ips() {
    let mut world = World::new([pool("p", &["2.0.0.1", "2::1"])]);
    world.apply(service("s", families(&["fd00::1", "10.96.0.1"], "RequireDualStack")));
    assert_eq!(world.result("s"), "2::1 2.0.0.1");
}

#[test]
fn pool_that_gains_family_adds_second_address() {
    let mut world = World::new([pool("p", &["1.0.0.1-1.0.0.9"])]);
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "1.0.0.1");
    world.set_pools([pool("p", &["1.0.0.0-1.0.0.9", "1::1-1::9"])]);
    assert_eq!(world.result("s"), "1.0.0.1 1::1");
}

#[test]
fn second_address_is_added_when_one_is_freed() {
    let mut world = World::new([pool("p", &["1.0.0.1-1.0.0.9", "1::1"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "1.0.0.1");
    world.delete("six");
    assert_eq!(world.result("s"), "1.0.0.1 1::1");
}

#[test]
fn require_dual_stack_on_single_pool_loses_address() {
    let mut world = World::new([pool("p", &["1.0.0.1-1.0.0.9"])]);
    world.apply(service("s", prefer()));
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "FamilyMismatch");
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "1.0.0.1");
}

#[test]
fn new_dual_pool_does_not_move_holder() {
    let mut world = World::new([pool("p4", &["1.0.0.1-1.0.0.9"])]);
    world.apply(service("s", prefer()));
    world.set_pools([pool("p4", &["1.0.0.1-1.0.0.9"]), pool("a-dual", &["2.0.0.1", "2::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1");
    assert_eq!(world.take_writes(), 1, "only the first allocation");
}

#[test]
fn holder_moves_to_dual_pool_if_its_pool_loses_a_family() {
    let mut world =
        World::new([pool("a", &["1.0.0.1-1.0.0.9", "1::1-1::9"]), pool("b", &["2.0.0.1", "2::1"])]);
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "1.0.0.1 1::1");
    world.set_pools([pool("a", &["1::1-1::9"]), pool("b", &["2.0.0.1", "2::1"])]);
    assert_eq!(world.result("s"), "2.0.0.1 2::1");
}

#[test]
fn service_that_changes_stack_keeps_common_address() {
    let mut world = World::new([pool("p", &["1.0.0.1-1.0.0.9", "1::1-1::9"])]);
    world.apply(service("other", json!({})));
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "1.0.0.2");
    world.delete("other");
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "1.0.0.2 1::1");
    world.apply(service("s", families(&["10.96.0.1"], "SingleStack")));
    assert_eq!(world.result("s"), "1.0.0.2");
    world.apply(service("six", families(&["fd00::2"], "SingleStack")));
    assert_eq!(world.result("six"), "1::1", "the other family is free again");
}

#[test]
fn service_with_one_family_claimed_gets_other_when_freed() {
    let manual = || Pool { auto_assign: false, ..pool("a", &["1.2.3.0-1.2.3.9"]) };
    let disabled = || Pool { closed: Some(Closed::Disabled), ..pool("a", &["1.2.3.0-1.2.3.9"]) };
    let both_full = Pool { auto_assign: false, ..pool("a", &["1.2.3.0-1.2.3.9", "5::5"]) };
    #[rustfmt::skip]
    let cases: [(&str, Pool, Pool, &[&str]); 4] = [
        ("autoAssign of the pool is false", manual(), manual(), &["1::1"]),
        ("another pool has both families", manual(), manual(), &["5.5.5.5", "1::1"]),
        ("the pool is disabled", pool("a", &["1.2.3.0-1.2.3.9"]), disabled(), &["1::1"]),
        ("its own pool is full, too", both_full.clone(), both_full, &["1::1"]),
    ];
    for (what, a, edited, b) in cases {
        let mut world = World::new([a, pool("b", b)]);
        world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.5"] }));
        let named = |pool| both(families(&["fd00::1"], "SingleStack"), annotated(REQUEST_POOL, pool));
        world.apply(service("six", named("b")));
        world.apply(service("own-six", named("a")));
        world.apply(service("four", annotated(REQUEST_POOL, "b")));
        world.set_pools([edited, pool("b", b)]);
        world.apply(service("web", families(DUAL, "RequireDualStack")));
        let message = world.message("web", names::ALLOCATED);
        assert!(message.starts_with("False/PoolExhausted: no free IPv6 address in"), "{what}: {message}");
        world.delete("six");
        assert_eq!(world.result("web"), "1.2.3.5 1::1", "{what}");
    }
}

#[test]
fn holder_keeps_family_that_its_pool_still_has() {
    let b = |ranges: &[&str]| pool("b", ranges);
    let others = || [pool("a4", &["5.5.5.5"]), pool("a6", &["9::9"])];
    let all = &["1.2.3.0-1.2.3.9", "1::1"];
    #[rustfmt::skip]
    let cases: [(&str, &str, &[&str], &str); 4] = [
        ("no pool has both", "PreferDualStack", &all[..1], "1.2.3.0"),
        ("the pool loses the first family", "PreferDualStack", &all[1..], "1::1"),
        ("both are required", "RequireDualStack", &all[..1], "1.2.3.0 9::9"),
        ("both are required, and the pool loses the first", "RequireDualStack", &all[1..], "5.5.5.5 1::1"),
    ];
    for (what, policy, rest, expected) in cases {
        for restarts in [false, true] {
            let mut world = World::new([b(all)]);
            world.apply(service("s", families(DUAL, policy)));
            assert_eq!(world.result("s"), "1.2.3.0 1::1", "{what}");
            world.config.pools = pools(others().into_iter().chain([b(rest)]));
            if restarts {
                world.restart();
            } else {
                world.reconfigure();
            }
            assert_eq!(world.result("s"), expected, "{what}, restarts: {restarts}");
        }
    }
}

#[test]
fn retained_address_stays_when_other_family_is_lost() {
    let a4 = || retaining(pool("a4", &["1.0.0.1"]));
    let b6 = || pool("b6", &["1::1"]);
    let edited = || retaining(pool("a4", &["1.0.0.2"]));
    let b6s = || [vec![pool("b6", &["1::9"])], vec![], vec![pinned(b6(), 0, &["team"])]];
    let edits = [
        "the other pool shrinks",
        "the other pool is deleted",
        "the other pool no longer admits the Service",
    ];
    for (n, b) in [b6s(), b6s()].concat().into_iter().enumerate() {
        let what = format!("{}: {}", ["retained", "refused"][n / 3], edits[n % 3]);
        let (a, a_refused) =
            if n < 3 { (vec![edited()], vec![]) } else { (vec![], vec![retaining(refused("a4"))]) };
        // The second edit is applied after the first or together with it, and with or without a running
        // controller.
        for (together, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = World::new([a4(), b6()]);
            world.apply(service("s", families(DUAL, "RequireDualStack")));
            assert_eq!(world.result("s"), "1.0.0.1 1::1");
            world.config.refused_pools = pools(a_refused.clone());
            if !together {
                world.set_pools(a.iter().cloned().chain([b6()]));
                assert_eq!(world.result("s"), "1.0.0.1 1::1", "{what}");
            }
            let others = [pool("c6", &["2::1"])].into_iter().chain(b.clone());
            world.config.pools = pools(a.iter().cloned().chain(others));
            if restarts {
                world.restart();
            } else {
                world.reconfigure();
            }
            let v6 = if b.iter().any(|b| b.allocation.is_none()) { "1::9" } else { "2::1" };
            assert_eq!(world.result("s"), format!("1.0.0.1 {v6}"), "{what}, {together}, {restarts}");
            world.take_writes();
            world.restart();
            assert_eq!(world.take_writes(), 0, "{what}");
        }
    }
}

#[test]
fn remaining_address_does_not_move_when_other_is_replaced() {
    for policy in ["PreferDualStack", "RequireDualStack"] {
        let mut world = World::new([pool("p", &["1.0.0.0-1.0.0.9", "1::-1::9"])]);
        world.apply(service("six", families(&["fd00::1"], "SingleStack")));
        world.apply(service("s", both(families(DUAL, policy), shared(80))));
        world.apply(service("t", shared(443)));
        assert_eq!([world.result("s"), world.result("t")], ["1.0.0.0 1::1", "1.0.0.0"]);
        world.delete("six");
        world.apply(service("s", both(families(DUAL, policy), shared(443))));
        assert_eq!(
            world.result("s"),
            "1.0.0.1 1::1",
            "{policy}: the Service no longer shares, and 1::0 is free"
        );

        for restarts in [false, true] {
            let a = || pool("a", &["5.5.5.5", "5::5"]);
            let p = |v4: &str| pool("p", &[v4, "1::1-1::9"]);
            let mut world = World::new([a(), p("1.0.0.0-1.0.0.9")]);
            world.apply(service("first", families(DUAL, policy)));
            world.apply(service("s", families(DUAL, policy)));
            assert_eq!(world.result("s"), "1.0.0.0 1::1");
            world.delete("first");
            world.config.pools = pools([a(), p("1.0.0.1-1.0.0.9")]);
            if restarts {
                world.restart();
            } else {
                world.reconfigure();
            }
            assert_eq!(world.result("s"), "1.0.0.1 1::1", "{policy}: another pool has both, {restarts}");
        }
    }
}

/// The same as in MetalLB.
#[test]
fn prefer_dual_stack_uses_pinned_pool_before_dual_pool() {
    let dual = || pool("dual", &["192.0.2.0-192.0.2.15", "2001:db8:1::-2001:db8:1::ff"]);
    let t6 = || pinned(pool("t6", &["2001:db8::-2001:db8::ff"]), 1, &[]);
    for (policy, expected, of) in [
        ("PreferDualStack", "2001:db8::", "t6"),
        ("RequireDualStack", "192.0.2.0 2001:db8:1::", "dual"),
        ("SingleStack", "192.0.2.0", "dual"),
    ] {
        let mut world = World::new([t6(), dual()]);
        world.apply(service("s", families(DUAL, policy)));
        assert_eq!(
            (world.result("s").as_str(), world.pool_of("s").as_deref()),
            (expected, Some(of)),
            "{policy}"
        );
    }
    let mut world = World::new([t6(), pinned(dual(), 2, &[])]);
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "192.0.2.0 2001:db8:1::", "the pinned pool with both families");
}

#[test]
fn requested_single_address_is_kept_under_prefer_dual_stack() {
    let ask = || annotated(REQUEST_IPS, "1.0.0.0");
    let mut world = World::new([pool("p", &["1.0.0.0-1.0.0.9", "1::-1::9"])]);
    world.apply(service("s", ask()));
    world.apply(service("s", both(prefer(), ask())));
    assert_eq!(world.result("s"), "1.0.0.0");
    world.reconfigure();
    assert_eq!(world.result("s"), "1.0.0.0");
    world.restart();
    assert_eq!(world.result("s"), "1.0.0.0");
    // Without the request, the Service gets the second address.
    world.apply(service("s", prefer()));
    assert_eq!(world.result("s"), "1.0.0.0 1::");
}
