//! Rows of MetalLB's `TestAssignment`, `TestPoolAllocation`, `TestPoolCount` and `TestControllerDualStackConfig` that are
//! best seen from outside.

use fairlead_crds::model::config::Pool;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::{pinned, pool, selector};

const ASK: &str = "fairlead.dev/load-balancer-ips";
const POOL: &str = "fairlead.dev/address-pool";
const DUAL: &[&str] = &["10.96.0.1", "fd00::1"];

/// MetalLB: `TestAssignment`, pools for namespaces, for labels of Services, and for both.
#[test]
fn pools_for_namespaces_and_for_labels_are_open_to_whom_they_say_however_they_are_asked() {
    let for_labels = |mut pool: Pool| {
        pool.allocation.as_mut().unwrap().service_selectors.push(selector("tier", "web"));
        pool
    };
    let p = |namespaces: &[&str]| pinned(pool("p", &["1.2.3.4"]), 0, namespaces);
    #[rustfmt::skip]
    let cases = [
        ("same namespace", p(&["team"]), "team/s", "db", true),
        ("different namespace", p(&["team"]), "default/s", "web", false),
        ("same label", for_labels(p(&[])), "default/s", "web", true),
        ("different label", for_labels(p(&[])), "default/s", "db", false),
        ("both", for_labels(p(&["team"])), "team/s", "web", true),
        ("both, wrong namespace", for_labels(p(&["team"])), "default/s", "web", false),
        ("both, wrong label", for_labels(p(&["team"])), "team/s", "db", false),
        ("both, both wrong", for_labels(p(&["team"])), "default/s", "db", false),
    ];
    for (what, pool, name, tier, open) in cases {
        for with in [json!({}), annotated(ASK, "1.2.3.4"), annotated(POOL, "p")] {
            let mut world = World::new([pool.clone()]);
            world.namespace("team", &[]);
            world.apply(service(
                name,
                both(json!({ "metadata": { "labels": { "tier": tier } } }), with.clone()),
            ));
            let expected = if open { "1.2.3.4" } else { "NoPoolMatches" };
            assert_eq!(world.result(name), expected, "{what}: {with}");
        }
    }
}

/// MetalLB: `TestPoolAllocation`, single families and both from one pool.
#[test]
fn what_one_family_lacks_dual_stack_waits_for() {
    let mut world = World::new([pool("p", &["1.2.3.4-1.2.3.5", "1000::4-1000::5"])]);
    let six = || families(&["fd00::1"], "SingleStack");
    world.apply(service("s1", families(DUAL, "RequireDualStack")));
    world.apply(service("s2", json!({})));
    world.apply(service("s3", six()));
    world.apply(service("s4", families(DUAL, "RequireDualStack")));
    let results: Vec<String> = world.results().into_values().collect();
    assert_eq!(results, ["1.2.3.4 1000::4", "1.2.3.5", "1000::5", "PoolExhausted"]);
    world.delete("s2");
    assert_eq!(world.result("s4"), "PoolExhausted", "one is not enough");
    world.delete("s3");
    assert_eq!(world.result("s4"), "1.2.3.5 1000::5");
    for name in ["s1", "s4"] {
        world.delete(name);
    }
    let free = Family::BOTH.map(|family| world.index.ipam().counts("p", family).available);
    assert_eq!(free, [2, 2], "cleared");
}

/// MetalLB: `TestPoolCount`, both families in one pool; also in the order that overflows there.
#[test]
fn counts_of_both_families_are_apart() {
    for ranges in [
        ["1.2.3.0-1.2.3.255", "2.3.4.128-2.3.4.255", "1000::-1000::ffff:ffff:ffff:ffff"],
        ["1000::-1000::ffff:ffff:ffff:ffff", "1.2.3.0-1.2.3.255", "2.3.4.128-2.3.4.255"],
    ] {
        let world = World::new([pool("p", &ranges), pool("q", &["5.5.5.4-5.5.5.5", "5::4-5::5"])]);
        let total = |pool| Family::BOTH.map(|family| world.index.ipam().counts(pool, family).total);
        assert_eq!(total("p"), [384, 1 << 64]);
        assert_eq!(total("q"), [2, 2], "a /31 and a /127");
    }
}

/// MetalLB: `TestControllerDualStackConfig`.
#[test]
fn controller_dual_stack_config() {
    let mut world = World::new([]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "NoPoolMatches");
    let first = || pool("default", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"]);
    world.set_pools([first()]);
    assert_eq!(world.result("s"), "1.2.3.0 1000::");
    world.take_writes();
    world.set_pools([first()]);
    assert_eq!(world.take_writes(), 0, "the same again");
    world.set_pools([pool("default", &["5.6.7.0-5.6.7.255", "2000::-2000::ff"])]);
    assert_eq!(world.result("s"), "5.6.7.0 2000::", "another range");
    world.set_pools([]);
    assert_eq!(world.result("s"), "NoPoolMatches");
}
