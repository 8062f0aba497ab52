//! Defects of MetalLB that concern addresses, each with a test. The numbers are those of a review of
//! MetalLB's code. The end of the file names the tests of the other defects.

use fairlead_crds::model::config::ServiceAllocation;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::{pinned, pool, selector};

/// Defects 1 and 2: the order of listed objects changed the configuration and the choice of the pool.
#[test]
fn defects_1_and_2_list_order_changes_nothing() {
    let list = || {
        [
            pinned(pool("c", &["1.0.0.3"]), 5, &["default", "team"]),
            pinned(pool("a", &["1.0.0.1"]), 5, &["default"]),
            pinned(pool("b", &["1.0.0.2"]), 5, &["default", "other"]),
        ]
    };
    for turn in 0..3 {
        let mut pools = list();
        pools.rotate_left(turn);
        let mut world = World::new(pools);
        for n in 0..3 {
            world.apply(service(&format!("s{n}"), aged(n)));
        }
        assert_eq!(world.results().into_values().collect::<Vec<_>>(), ["1.0.0.1", "1.0.0.2", "1.0.0.3"]);
        world.take_writes();
        let evaluations = world.index.counters().evaluations;
        for turn in 0..3 {
            let mut pools = list();
            pools.rotate_left(turn);
            world.set_pools(pools);
        }
        assert_eq!((world.take_writes(), world.index.counters().evaluations), (0, evaluations));
    }
}

/// Defect 3: a pool for namespaces of which none exists admitted every Service that requested it.
#[test]
fn defect_3_pool_with_unmatched_selector_admits_no_service() {
    let mut tenant = pool("tenant", &["1.2.3.0"]);
    tenant.allocation = Some(ServiceAllocation {
        namespace_selectors: vec![selector("team", "blue")],
        ..ServiceAllocation::default()
    });
    let mut world = World::new([tenant]);
    for (name, with) in [
        ("named", annotated(REQUEST_POOL, "tenant")),
        ("address", annotated(REQUEST_IPS, "1.2.3.0")),
        ("automatic", json!({})),
    ] {
        world.apply(service(name, with));
        assert_eq!(world.result(name), "NoPoolMatches");
    }
    world.claim("c", json!({ "serviceName": "named", "addresses": ["1.2.3.0"] }));
    assert!(world.claimed("c").starts_with("Reserved False/NoPoolMatches"));
}

/// Defect 4: the size of a pool overflowed if a huge range preceded another.
#[test]
fn defect_4_counts_of_huge_pools_saturate() {
    let all =
        ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
    let mut world = World::new([pool("p", &all)]);
    world.apply(service("s", families(&["fd00::1"], "SingleStack")));
    let counts = world.index.ipam().counts("p", Family::V6);
    assert_eq!((counts.total, counts.assigned, counts.available), (u128::MAX, 1, u128::MAX - 1));
}

/// Defect 12: requested addresses were sorted by family only at the next evaluation.
#[test]
fn defect_12_ingress_order_is_final_from_the_start() {
    for (cluster_ips, expected) in [(DUAL, "1.2.3.5 1::5"), (&["fd00::1", "10.96.0.1"], "1::5 1.2.3.5")] {
        for asked in ["1::5,1.2.3.5", "1.2.3.5,1::5"] {
            let asks = both(families(cluster_ips, "RequireDualStack"), annotated(REQUEST_IPS, asked));
            let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
            world.apply(service("s", asks.clone()));
            assert_eq!(world.result("s"), expected);
            world.take_writes();
            world.apply(service("s", both(asks, json!({ "metadata": { "labels": { "a": "b" } } }))));
            world.reconfigure();
            world.restart();
            assert_eq!((world.result("s").as_str(), world.take_writes()), (expected, 0));
        }
    }
}

/// Defect 18: a Service that left the class kept its address in memory until a restart.
#[test]
fn defect_18_service_that_leaves_class_releases_address() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.apply(service("s", json!({ "spec": { "loadBalancerClass": "example.org/other" }, "status": {} })));
    assert_eq!(world.index.ipam().holdings().count(), 0);
    world.apply(service("t", json!({})));
    assert_eq!(world.result("t"), "1.2.3.0");
}

/// Defect 20: the controller was ready before the first pass.
#[test]
fn defect_20_index_decides_only_when_listed_and_leading() {
    let mut index = Index::default();
    assert!(!index.is_listed() && !index.is_deciding());
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    index.services_reset(Vec::new(), now);
    index.claims_reset(Vec::new(), now);
    index.namespaces_reset(Vec::new(), now);
    assert!(!index.is_listed(), "the configuration was not listed");
    index.set_config(&Config::default(), now);
    assert!(index.is_listed() && !index.is_deciding(), "the controller does not lead");
    index.begin(Vec::new(), now);
    assert!(index.is_deciding());
}

/// Section 3.4: the choice among unpinned pools was random.
#[test]
fn unpinned_pools_are_tried_by_name() {
    for _ in 0..20 {
        let mut world = World::new(
            ["d", "b", "c", "a"].map(|name| pool(name, &[&format!("1.0.0.{}", name.as_bytes()[0])])),
        );
        world.apply(service("s", json!({})));
        assert_eq!(world.pool_of("s").as_deref(), Some("a"));
    }
}

/// Section 2.8: every evaluation emitted the same events, for example for a missing second address.
#[test]
fn event_is_not_repeated() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("prefers", families(DUAL, "PreferDualStack")));
    world.apply(service("waits", json!({})));
    let events = world.events.len();
    for n in 0..5 {
        let label = json!({ "metadata": { "labels": { "n": n.to_string() } } });
        world.apply(service("prefers", both(families(DUAL, "PreferDualStack"), label.clone())));
        world.apply(service("waits", label));
        world.reconfigure();
        world.restart();
    }
    assert_eq!(world.events.len(), events);
}

/// Section 3.8: every evaluation rewrote the ingress, because the API server adds `ipMode`.
#[test]
fn ingress_with_or_without_ip_mode_is_not_rewritten() {
    for ingress in [json!({ "ip": "1.2.3.0", "ipMode": "VIP" }), json!({ "ip": "1.2.3.0" })] {
        let mut world = World::new([pool("p", &["1.2.3.0"])]);
        world.apply(service("s", json!({})));
        world.take_writes();
        let mut again = world.services[&key("s")].clone();
        again["status"]["loadBalancer"]["ingress"] = json!([ingress]);
        world.apply(again);
        assert_eq!(world.take_writes(), 0);
    }
}

// Defect 5, a range whose ends are of two families: tests of `crds`. Defect 21, two allocators at once:
// `lease::tests::chaos::two_never_lead_and_in_the_end_one_does`, and should they all the same,
// `two_leaders::two_leaders_converge_without_duplicate_addresses`.
