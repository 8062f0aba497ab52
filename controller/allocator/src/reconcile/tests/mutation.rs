//! MetalLB's `TestControllerMutation`: one Service per case, with or without an earlier status.

use fairlead_crds::model::config::Pool;
use serde_json::{Value, json};

use super::*;
use fairlead_test_support::{pinned, pool};

fn config() -> Vec<Pool> {
    let manual = |name, ranges: &[&str]| Pool { auto_assign: false, ..pool(name, ranges) };
    vec![
        pool("pool1", &["1.2.3.0-1.2.3.255"]),
        manual("pool2", &["3.4.5.6"]),
        manual("pool3", &["1000::-1000::ff"]),
        manual("pool4", &["3000::1"]),
        manual("pool5", &["1.2.5.0-1.2.5.255", "1000:1::-1000:1::ff"]),
        pinned(manual("team-only", &["7.7.7.0-7.7.7.7"]), 0, &["team"]),
    ]
}

const V6: &[&str] = &["3000:1::1"];
const DUAL: &[&str] = &["10.96.0.1", "3000:1::1"];

fn spec_ip(ip: &str) -> Value {
    json!({ "spec": { "loadBalancerIP": ip } })
}

fn held(ingress: &[&str]) -> Value {
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    json!({ "status": { "loadBalancer": { "ingress": ingress } } })
}

#[test]
fn single_service_gets_expected_status() {
    #[rustfmt::skip]
    let cases: Vec<(&str, Value, &str)> = vec![
        ("simple LoadBalancer", json!({}), "1.2.3.0"),
        ("request specific IP via spec", spec_ip("1.2.3.9"), "1.2.3.9"),
        ("request specific IP via annotation", annotated(REQUEST_IPS, "1.2.3.9"), "1.2.3.9"),
        ("request specific IP via MetalLB's annotation",
         annotated("metallb.io/loadBalancerIPs", "1.2.3.9"), "1.2.3.9"),
        ("request specific IP via MetalLB's old annotation",
         annotated("metallb.universe.tf/loadBalancerIPs", "1.2.3.9"), "1.2.3.9"),
        ("the same IP via both is fine",
         both(spec_ip("1.2.3.9"), annotated(REQUEST_IPS, "1.2.3.9")), "1.2.3.9"),
        ("different IPs via both are refused",
         both(spec_ip("1.2.3.9"), annotated(REQUEST_IPS, "1.2.3.8")), "InvalidRequest"),
        ("different IPs via both do not change a held address",
         both(held(&["1.2.3.4"]), both(spec_ip("1.2.3.9"), annotated(REQUEST_IPS, "1.2.3.8"))), "1.2.3.4"),
        ("different pools via two annotations are refused",
         both(annotated(REQUEST_POOL, "pool1"), annotated("metallb.io/address-pool", "pool2")),
         "InvalidRequest"),
        ("invalid IP text", annotated(REQUEST_IPS, "please"), "InvalidRequest"),
        ("loopback address", annotated(REQUEST_IPS, "127.0.0.1"), "InvalidRequest"),
        ("multicast address", spec_ip("224.0.0.1"), "InvalidRequest"),
        ("unspecified address", spec_ip("0.0.0.0"), "InvalidRequest"),
        ("IPv4-mapped address", annotated(REQUEST_IPS, "::ffff:1.2.3.4"), "InvalidRequest"),
        ("invalid IP text does not change a held address",
         both(held(&["1.2.3.4"]), annotated(REQUEST_IPS, "please")), "1.2.3.4"),
        ("two IPs of one family", annotated(REQUEST_IPS, "1.2.3.4,1.2.3.5"), "InvalidRequest"),
        ("infeasible IP", spec_ip("9.9.9.9"), "AddressNotInPool"),
        ("IP and pool agree",
         both(annotated(REQUEST_IPS, "3.4.5.6"), annotated(REQUEST_POOL, "pool2")), "3.4.5.6"),
        ("IP and pool contradict each other",
         both(annotated(REQUEST_IPS, "3.4.5.6"), annotated(REQUEST_POOL, "pool1")), "AddressNotInPool"),
        ("request specific pool, not auto assigned", annotated(REQUEST_POOL, "pool2"), "3.4.5.6"),
        ("request specific pool via MetalLB's annotation",
         annotated("metallb.io/address-pool", "pool2"), "3.4.5.6"),
        ("switch to another pool", both(held(&["1.2.3.4"]), annotated(REQUEST_POOL, "pool2")), "3.4.5.6"),
        ("unknown pool", annotated(REQUEST_POOL, "does-not-exist"), "PoolNotFound"),
        ("pool of another namespace", annotated(REQUEST_POOL, "team-only"), "NoPoolMatches"),
        ("IP of a pool of another namespace", spec_ip("7.7.7.7"), "NoPoolMatches"),
        ("held address is kept", held(&["1.2.3.77"]), "1.2.3.77"),
        ("held address is kept if requested", both(held(&["1.2.3.77"]), spec_ip("1.2.3.77")), "1.2.3.77"),
        ("held address changes if another is requested",
         both(held(&["1.2.3.77"]), spec_ip("1.2.3.78")), "1.2.3.78"),
        ("held address of a pool without auto assign is kept", held(&["3.4.5.6"]), "3.4.5.6"),
        ("assigned IP outside of pools is replaced", held(&["2.3.4.5"]), "1.2.3.0"),
        ("assigned IP in a pool of another namespace is replaced", held(&["7.7.7.7"]), "1.2.3.0"),
        ("ingress with a host name of another program stays",
         json!({ "status": { "loadBalancer": { "ingress": [{ "hostname": "foo.bar.local" }] } } }),
         "1.2.3.0"),
        ("ingress of two addresses of one family is replaced",
         held(&["1.2.3.4", "1.2.3.5"]), "1.2.3.4 1.2.3.5 never"),
        ("externalTrafficPolicy Local", json!({ "spec": { "externalTrafficPolicy": "Local" } }), "1.2.3.0"),
        ("no cluster IP", families(&[], "SingleStack"), "NoClusterIP"),
        ("no cluster IP any more", both(held(&["1.2.3.4"]), families(&[], "SingleStack")), "NoClusterIP"),
        ("headless", families(&["None"], "SingleStack"), "NoClusterIP"),
        ("IPv6, no unrestricted pool contains it", families(V6, "SingleStack"), "FamilyMismatch"),
        ("IPv6 from a pool", both(families(V6, "SingleStack"), annotated(REQUEST_POOL, "pool3")), "1000::"),
        ("IPv6 requested via spec", both(families(V6, "SingleStack"), spec_ip("3000::1")), "3000::1"),
        ("IPv4 requested by an IPv6 Service",
         both(families(V6, "SingleStack"), spec_ip("1.2.3.4")), "FamilyMismatch"),
        ("IPv6 requested by an IPv4 Service", annotated(REQUEST_IPS, "3000::1"), "FamilyMismatch"),
        ("IPv6 pool requested by an IPv4 Service", annotated(REQUEST_POOL, "pool3"), "FamilyMismatch"),
        ("assigned address of the wrong family is replaced", held(&["1000::1"]), "1.2.3.0"),
        ("dual-stack from a pool",
         both(families(DUAL, "RequireDualStack"), annotated(REQUEST_POOL, "pool5")), "1.2.5.0 1000:1::"),
        ("dual-stack requested via annotation",
         both(families(DUAL, "RequireDualStack"), annotated(REQUEST_IPS, "1000:1::9, 1.2.5.9")),
         "1.2.5.9 1000:1::9"),
        ("dual-stack with addresses of two pools",
         both(families(DUAL, "RequireDualStack"), annotated(REQUEST_IPS, "1000::9,1.2.5.9")),
         "1.2.5.9 1000::9"),
        ("dual-stack preferred with addresses of two pools",
         both(families(DUAL, "PreferDualStack"), annotated(REQUEST_IPS, "1000::9,1.2.5.9")),
         "AddressNotInPool"),
        ("dual-stack with one address requested",
         both(families(DUAL, "RequireDualStack"), annotated(REQUEST_IPS, "1.2.5.9")), "FamilyMismatch"),
        ("dual-stack, no unrestricted pool contains both",
         families(DUAL, "RequireDualStack"), "FamilyMismatch"),
        ("held dual-stack addresses are kept",
         both(families(DUAL, "RequireDualStack"), held(&["1.2.5.9", "1000:1::9"])), "1.2.5.9 1000:1::9"),
        ("dual-stack with an invalid ingress",
         both(families(DUAL, "RequireDualStack"), both(annotated(REQUEST_POOL, "pool5"), held(&["1.2.3.4"]))),
         "1.2.5.0 1000:1::"),
        ("dual-stack requested in a single-stack cluster",
         families(&["10.96.0.1"], "RequireDualStack"), "FamilyMismatch"),
        ("PreferDualStack with a single cluster IP", families(&["10.96.0.1"], "PreferDualStack"), "1.2.3.0"),
        ("PreferDualStack in a dual pool",
         both(families(DUAL, "PreferDualStack"), annotated(REQUEST_POOL, "pool5")), "1.2.5.0 1000:1::"),
        ("PreferDualStack in an IPv4 pool", families(DUAL, "PreferDualStack"), "1.2.3.0"),
        ("PreferDualStack in an IPv6 pool",
         both(families(DUAL, "PreferDualStack"), annotated(REQUEST_POOL, "pool3")), "1000::"),
        ("another type", json!({ "spec": { "type": "NodePort" } }), ""),
        ("another class", json!({ "spec": { "loadBalancerClass": "example.org/other" } }), ""),
    ];
    for (what, with, expected) in cases {
        let mut world = World::new(config());
        world.apply(service("s", with));
        let result = world.result("s");
        if expected.ends_with("never") {
            // A Service holds at most one address of each family, so one of them remains.
            assert_eq!(result.split(' ').count(), 1, "{what}: {result}");
        } else {
            assert_eq!(result, expected, "{what}");
        }
        let written = world.take_writes();
        assert!(written <= 1, "{what}: {written} writes");
        world.restart();
        assert_eq!(world.take_writes(), 0, "{what}: a restart writes nothing");
        assert_eq!(world.result("s"), result, "{what}: a restart changes nothing");
    }
}

/// MetalLB: `TestControllerMutation`, pools for namespaces and Service labels.
#[test]
fn pinned_pools_precede_unpinned_pools() {
    let mut world = World::new([
        pool("a-default", &["1.0.0.1"]),
        pinned(pool("low", &["2.0.0.1"]), 20, &["team"]),
        pinned(pool("high", &["3.0.0.1"]), 10, &["team"]),
    ]);
    world.namespace("team", &[]);
    for (name, expected) in
        [("team/1", "3.0.0.1"), ("team/2", "2.0.0.1"), ("team/3", "1.0.0.1"), ("team/4", "PoolExhausted")]
    {
        world.apply(service(name, json!({})));
        assert_eq!(world.result(name), expected);
    }
    assert_eq!(
        world.message("team/4", names::ALLOCATED),
        "False/PoolExhausted: no free IPv4 address in IPAddressPools high, low, a-default"
    );
}
