//! Cases of MetalLB's `TestAssignment`, `TestPoolAllocation`, `TestPoolCount` and
//! `TestControllerDualStackConfig`.

use fairlead_crds::model::config::Pool;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::{pinned, pool, selector};

/// MetalLB: `TestAssignment`, pools restricted to namespaces, to labels of Services, and to both.
#[test]
fn restricted_pool_admits_only_matching_services() {
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
        for with in [json!({}), annotated(REQUEST_IPS, "1.2.3.4"), annotated(REQUEST_POOL, "p")] {
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

/// MetalLB: `TestPoolAllocation`, single-stack and dual-stack Services of one pool.
#[test]
fn dual_stack_service_waits_until_both_families_are_free() {
    let mut world = World::new([pool("p", &["1.2.3.4-1.2.3.5", "1000::4-1000::5"])]);
    let six = || families(&["fd00::1"], "SingleStack");
    world.apply(service("s1", families(DUAL, "RequireDualStack")));
    world.apply(service("s2", json!({})));
    world.apply(service("s3", six()));
    world.apply(service("s4", families(DUAL, "RequireDualStack")));
    let results: Vec<String> = world.results().into_values().collect();
    assert_eq!(results, ["1.2.3.4 1000::4", "1.2.3.5", "1000::5", "PoolExhausted"]);
    world.delete("s2");
    assert_eq!(world.result("s4"), "PoolExhausted", "one free family is not enough");
    world.delete("s3");
    assert_eq!(world.result("s4"), "1.2.3.5 1000::5");
    for name in ["s1", "s4"] {
        world.delete(name);
    }
    let free = Family::BOTH.map(|family| world.index.ipam().counts("p", family).available);
    assert_eq!(free, [2, 2], "all addresses are free");
}

/// MetalLB: `TestPoolCount`, both families in one pool; also in the order that overflows in MetalLB.
#[test]
fn pool_counts_are_separate_by_family() {
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
fn dual_stack_service_follows_pool_ranges() {
    let mut world = World::new([]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    assert_eq!(world.result("s"), "NoPoolMatches");
    let first = || pool("default", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"]);
    world.set_pools([first()]);
    assert_eq!(world.result("s"), "1.2.3.0 1000::");
    world.take_writes();
    world.set_pools([first()]);
    assert_eq!(world.take_writes(), 0, "unchanged pools");
    world.set_pools([pool("default", &["5.6.7.0-5.6.7.255", "2000::-2000::ff"])]);
    assert_eq!(world.result("s"), "5.6.7.0 2000::", "another range");
    world.set_pools([pool("manual", &["9.9.9.9"])].map(|pool| Pool { auto_assign: false, ..pool }));
    assert_eq!(world.result("s"), "NoPoolMatches");
}
