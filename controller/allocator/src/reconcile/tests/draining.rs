//! Pools that give nothing more, addresses shared within a namespace only, and two pools for two families.

use fairlead_crds::model::config::{Closed, Pool, SharingScope};

use super::*;
use fairlead_test_support::{pinned, pool, retaining};

const ASK: &str = "fairlead.dev/load-balancer-ips";
const POOL: &str = "fairlead.dev/address-pool";
const DUAL: &[&str] = &["10.96.0.1", "fd00::1"];

fn disabled(pool: Pool) -> Pool {
    Pool { closed: Some(Closed::Disabled), ..pool }
}

fn restart(world: &mut World) {
    let before = world.results();
    world.take_writes();
    let events = world.events.len();
    world.restart();
    assert_eq!((world.results(), world.take_writes(), world.events.len()), (before, 0, events));
}

#[test]
fn a_disabled_pool_gives_nothing_more_whoever_asks_and_takes_nothing_away() {
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
        assert_eq!(world.take_writes(), 0, "holders keep theirs");
        restart(&mut world);
        #[rustfmt::skip]
        let cases = [
            ("named", annotated(POOL, "p"), "PoolDisabled", "IPAddressPool p is disabled"),
            ("address", annotated(ASK, "1.2.3.9"), "PoolDisabled", "IPAddressPool p is disabled"),
            ("automatic", json!({}), "NoPoolMatches", "no IPAddressPool is open to this Service: p is disabled"),
        ];
        for (name, with, reason, message) in &cases {
            world.apply(service(name, with.clone()));
            assert_eq!(world.message(name, names::ALLOCATED), format!("False/{reason}: {message}"));
        }
        world.claim("c", json!({ "serviceName": "new", "pool": "p" }));
        assert_eq!(world.claimed("c"), "Reserved False/PoolDisabled Bound False/NotReserved");
        // A second address would be a new one.
        world.apply(service("s", families(DUAL, "PreferDualStack")));
        assert_eq!(world.result("s"), "1.2.3.0");
        restart(&mut world);
        world.set_pools([p()]);
        for (name, _, reason, _) in &cases {
            assert_ne!(world.result(name), *reason, "{name} gets one when the pool is open again");
        }
        assert_eq!(world.result("s").split(' ').count(), 2);
        assert!(world.claimed("c").contains("Reserved True"));
    }
}

#[test]
fn what_a_disabled_pool_gave_is_not_given_again() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"]), pool("z", &["9.9.9.9"])]);
    world.apply(service("s", json!({})));
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.5"] }));
    world.set_pools([disabled(pool("p", &["1.2.3.0-1.2.3.9"])), pool("z", &["9.9.9.9"])]);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "1.2.3.5", "what was reserved before is there for its Service");
    world.delete("s");
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "9.9.9.9");
    restart(&mut world);
}

fn same_namespace(pool: Pool) -> Pool {
    Pool { sharing: SharingScope::SameNamespace, ..pool }
}

fn share(port: u16) -> Value {
    json!({
        "metadata": { "annotations": { "fairlead.dev/allow-shared-ip": "k" } },
        "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
    })
}

#[test]
fn addresses_are_shared_within_a_namespace_only_where_the_pool_says_so() {
    let mut world = World::new([same_namespace(pool("p", &["1.2.3.0-1.2.3.1"]))]);
    world.namespace("team", &[]);
    world.apply(service("a", share(80)));
    world.apply(service("b", share(81)));
    world.apply(service("team/a", share(82)));
    world.apply(service("team/b", share(83)));
    assert_eq!(
        world.results().into_values().collect::<Vec<_>>(),
        ["1.2.3.0", "1.2.3.0", "1.2.3.1", "1.2.3.1"]
    );
    world.apply(service("team/c", both(share(84), annotated(ASK, "1.2.3.0"))));
    assert_eq!(
        world.message("team/c", names::ALLOCATED),
        "False/SharingConflict: 1.2.3.0 is in use by Service default/a, and IPAddressPool p limits sharing \
         to one namespace"
    );
    world.namespace("third", &[]);
    world.apply(service("third/a", share(85)));
    assert_eq!(world.result("third/a"), "PoolExhausted");
    restart(&mut world);
    world.delete("a");
    world.delete("b");
    assert_eq!([world.result("team/c"), world.result("third/a")], ["1.2.3.0", "PoolExhausted"]);
}

#[test]
fn those_who_share_across_namespaces_already_go_on_and_nobody_joins_them() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.namespace("team", &[]);
    world.apply(service("a", share(80)));
    world.apply(service("team/b", share(81)));
    world.take_writes();
    world.set_pools([same_namespace(pool("p", &["1.2.3.0"]))]);
    assert_eq!(world.take_writes(), 0);
    assert_eq!([world.result("a"), world.result("team/b")], ["1.2.3.0", "1.2.3.0"]);
    world.apply(service("c", share(82)));
    assert_eq!(world.result("c"), "PoolExhausted");
    restart(&mut world);
    world.delete("team/b");
    assert_eq!(world.result("c"), "1.2.3.0", "now it is of one namespace");
    restart(&mut world);
    world.set_pools([pool("p", &["1.2.3.0"])]);
    world.apply(service("team/b", share(81)));
    assert_eq!(world.result("team/b"), "1.2.3.0");
}

#[test]
fn two_families_that_no_pool_has_together_come_from_two() {
    let mut world = World::new([
        pinned(pool("late4", &["1.0.0.1"]), 20, &[]),
        pinned(pool("first4", &["2.0.0.1"]), 10, &[]),
        pool("only6", &["1::1"]),
    ]);
    world.apply(service("s", families(&["fd00::1", "10.96.0.1"], "RequireDualStack")));
    assert_eq!(
        world.result("s"),
        "1::1 2.0.0.1",
        "each of the first pool that has it, in the order of the Service"
    );
    assert_eq!(world.pool_of("s").as_deref(), Some("only6,first4"));
    assert_eq!(
        world.message("s", names::ALLOCATED),
        "True/Allocated: 1::1 from IPAddressPool only6 and 2.0.0.1 from IPAddressPool first4"
    );
    restart(&mut world);
    world.apply(service("prefers", families(DUAL, "PreferDualStack")));
    assert_eq!(world.result("prefers"), "1.0.0.1", "who only prefers both has one pool");
    restart(&mut world);
    world.apply(service("more", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("more"), "PoolExhausted");
    world.delete("s");
    assert_eq!(world.result("more"), "2.0.0.1 1::1");
    assert_eq!(world.pool_of("more").as_deref(), Some("first4,only6"));
}

#[test]
fn one_pool_that_has_both_comes_before_two() {
    let mut world =
        World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"]), pool("dual", &["2.0.0.1", "2::1"])]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("2.0.0.1 2::1", Some("dual")));
}

#[test]
fn who_comes_to_require_both_keeps_its_one_and_gets_the_other_from_another_pool() {
    let mut world = World::new([pool("a4", &["1.0.0.1"]), pool("b6", &["1::1"])]);
    world.apply(service("s", families(DUAL, "PreferDualStack")));
    assert_eq!(world.result("s"), "1.0.0.1");
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.0.0.1 1::1", Some("a4,b6")));
    restart(&mut world);
    world.set_pools([retaining(pool("a4", &["1.0.0.2"])), pool("b6", &["1::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 1::1", "one of them retained");
    restart(&mut world);
    world.set_pools([retaining(pool("a4", &["1.0.0.2"]))]);
    assert_eq!(world.result("s"), "FamilyMismatch", "both are required");
}

#[test]
fn who_has_an_address_of_a_disabled_pool_may_ask_for_it_and_another() {
    let asks = |ips| both(families(DUAL, "RequireDualStack"), annotated(ASK, ips));
    let p = || pool("p", &["1.2.3.0-1.2.3.9"]);
    let q = || pool("q", &["1::1-1::9"]);
    let mut world = World::new([p(), q()]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    world.set_pools([disabled(p()), q()]);
    world.apply(service("s", asks("1.2.3.0,1::5")));
    assert_eq!(world.result("s"), "1.2.3.0 1::5");
    restart(&mut world);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    assert_eq!(world.result("six"), "1::1", "what it had besides is free");
    // What it has not, it does not get, and then it has neither.
    world.apply(service("s", asks("1.2.3.1,1::5")));
    assert_eq!(world.result("s"), "PoolDisabled");
    assert!(world.index.ipam().holding(&key("s")).is_none());
}
