//! Disabled pools, sharing within a Namespace only, and dual-stack addresses of two pools.

use fairlead_crds::model::config::{Closed, Pool, SharingScope};

use super::*;
use fairlead_test_support::{pinned, pool, retaining};

fn disabled(pool: Pool) -> Pool {
    Pool { closed: Some(Closed::Disabled), ..pool }
}

#[test]
fn disabled_pool_keeps_holders_and_refuses_new_requests() {
    for retains in [true, false] {
        let p = || {
            let p = pool("p", &["1.2.3.0-1.2.3.9", "1::1-1::9"]);
            if retains { retaining(p) } else { p }
        };
        let mut world = World::new([p()]);
        world.apply(service("s", json!({})));
        world.apply(service("both", families(DUAL, "PreferDualStack")));
        world.take_writes();
        world.set_pools([disabled(p())]);
        assert_eq!(world.take_writes(), 0, "holders keep their addresses");
        world.check_restart("restart");
        #[rustfmt::skip]
        let cases = [
            ("named", annotated(REQUEST_POOL, "p"), "PoolDisabled", "IPAddressPool p is disabled"),
            ("address", annotated(REQUEST_IPS, "1.2.3.9"), "PoolDisabled", "IPAddressPool p is disabled"),
            ("automatic",
             json!({}), "NoPoolMatches", "no IPAddressPool is open to this Service: p is disabled"),
        ];
        for (name, with, reason, message) in &cases {
            world.apply(service(name, with.clone()));
            assert_eq!(world.message(name, names::ALLOCATED), format!("False/{reason}: {message}"));
        }
        world.claim("c", json!({ "serviceName": "new", "pool": "p" }));
        assert_eq!(world.claimed("c"), "Reserved False/PoolDisabled Bound False/NotReserved");
        // A second address would be a new allocation.
        world.apply(service("s", families(DUAL, "PreferDualStack")));
        assert_eq!(world.result("s"), "1.2.3.0");
        world.check_restart("restart");
        world.set_pools([p()]);
        for (name, _, reason, _) in &cases {
            assert_ne!(world.result(name), *reason, "{name} gets an address when the pool is enabled again");
        }
        assert_eq!(world.result("s").split(' ').count(), 2);
        assert!(world.claimed("c").contains("Reserved True"));
    }
}

#[test]
fn disabled_pool_does_not_reallocate_released_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"]), pool("z", &["9.9.9.9"])]);
    world.apply(service("s", json!({})));
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.5"] }));
    world.set_pools([disabled(pool("p", &["1.2.3.0-1.2.3.9"])), pool("z", &["9.9.9.9"])]);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "1.2.3.5", "an address reserved before goes to its Service");
    world.delete("s");
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "9.9.9.9");
    world.check_restart("restart");
}

fn same_namespace(pool: Pool) -> Pool {
    Pool { sharing: SharingScope::SameNamespace, ..pool }
}

#[test]
fn same_namespace_pool_refuses_sharers_of_other_namespaces() {
    let mut world = World::new([same_namespace(pool("p", &["1.2.3.0-1.2.3.1"]))]);
    world.namespace("team", &[]);
    world.apply(service("a", shared(80)));
    world.apply(service("b", shared(81)));
    world.apply(service("team/a", shared(82)));
    world.apply(service("team/b", shared(83)));
    assert_eq!(
        world.results().into_values().collect::<Vec<_>>(),
        ["1.2.3.0", "1.2.3.0", "1.2.3.1", "1.2.3.1"]
    );
    world.apply(service("team/c", both(shared(84), annotated(REQUEST_IPS, "1.2.3.0"))));
    assert_eq!(
        world.message("team/c", names::ALLOCATED),
        "False/SharingConflict: 1.2.3.0 is in use by Service default/a, and IPAddressPool p limits sharing \
         to one namespace"
    );
    world.namespace("third", &[]);
    world.apply(service("third/a", shared(85)));
    assert_eq!(world.result("third/a"), "PoolExhausted");
    world.check_restart("restart");
    world.delete("a");
    world.delete("b");
    assert_eq!([world.result("team/c"), world.result("third/a")], ["1.2.3.0", "PoolExhausted"]);
}

#[test]
fn existing_cross_namespace_sharers_keep_address_and_admit_none() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.namespace("team", &[]);
    world.apply(service("a", shared(80)));
    world.apply(service("team/b", shared(81)));
    world.take_writes();
    world.set_pools([same_namespace(pool("p", &["1.2.3.0"]))]);
    assert_eq!(world.take_writes(), 0);
    assert_eq!([world.result("a"), world.result("team/b")], ["1.2.3.0", "1.2.3.0"]);
    world.apply(service("c", shared(82)));
    assert_eq!(world.result("c"), "PoolExhausted");
    world.check_restart("restart");
    world.delete("team/b");
    assert_eq!(world.result("c"), "1.2.3.0", "all sharers are of one Namespace");
    world.check_restart("restart");
    world.set_pools([pool("p", &["1.2.3.0"])]);
    world.apply(service("team/b", shared(81)));
    assert_eq!(world.result("team/b"), "1.2.3.0");
}

#[test]
fn dual_stack_service_uses_two_single_family_pools() {
    let mut world = World::new([
        pinned(pool("late4", &["1.0.0.1"]), 20, &[]),
        pinned(pool("first4", &["2.0.0.1"]), 10, &[]),
        pool("only6", &["1::1"]),
    ]);
    world.apply(service("s", families(&["fd00::1", "10.96.0.1"], "RequireDualStack")));
    assert_eq!(
        world.result("s"),
        "1::1 2.0.0.1",
        "each from the first pool that contains the family, in the order of the Service"
    );
    assert_eq!(world.pool_of("s").as_deref(), Some("only6,first4"));
    assert_eq!(
        world.message("s", names::ALLOCATED),
        "True/Allocated: 1::1 from IPAddressPool only6 and 2.0.0.1 from IPAddressPool first4"
    );
    world.check_restart("restart");
    world.apply(service("prefers", families(DUAL, "PreferDualStack")));
    assert_eq!(world.result("prefers"), "1.0.0.1", "PreferDualStack uses one pool");
    world.check_restart("restart");
    world.apply(service("more", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("more"), "PoolExhausted");
    world.delete("s");
    assert_eq!(world.result("more"), "2.0.0.1 1::1");
    assert_eq!(world.pool_of("more").as_deref(), Some("first4,only6"));
}

#[test]
fn dual_stack_pool_precedes_two_single_family_pools() {
    let mut world =
        World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"]), pool("dual", &["2.0.0.1", "2::1"])]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("2.0.0.1 2::1", Some("dual")));
}

#[test]
fn service_that_requires_both_extends_from_other_pool() {
    let mut world = World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"])]);
    world.apply(service("s", families(DUAL, "PreferDualStack")));
    assert_eq!(world.result("s"), "1.0.0.1");
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.0.0.1 1::1", Some("a4,b6")));
    world.check_restart("restart");
    world.set_pools([retaining(pool("a4", &["1.0.0.2"])), pool("b6", &["1::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 1::1", "one address is retained");
    world.check_restart("restart");
    world.set_pools([retaining(pool("a4", &["1.0.0.2"]))]);
    assert_eq!(world.result("s"), "FamilyMismatch", "both are required");
}

#[test]
fn holder_of_disabled_pool_may_request_its_address() {
    let asks = |ips| both(families(DUAL, "RequireDualStack"), annotated(REQUEST_IPS, ips));
    let p = || pool("p", &["1.2.3.0-1.2.3.9"]);
    let q = || pool("q", &["1::1-1::9"]);
    let mut world = World::new([p(), q()]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    world.set_pools([disabled(p()), q()]);
    world.apply(service("s", asks("1.2.3.0,1::5")));
    assert_eq!(world.result("s"), "1.2.3.0 1::5");
    world.check_restart("restart");
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    assert_eq!(world.result("six"), "1::1", "the address that was replaced is free");
    // The pool allocates no new address, so the Service gets neither.
    world.apply(service("s", asks("1.2.3.1,1::5")));
    assert_eq!(world.result("s"), "PoolDisabled");
    assert!(world.index.ipam().holding(&key("s")).is_none());
}
