//! Services that share an address. MetalLB: end-to-end case 13.

use super::*;
use crate::fixtures::pool;

fn shares(key: &str, port: u16, policy: &str, app: &str) -> Value {
    json!({
        "metadata": { "annotations": {
            "fairlead.dev/allow-shared-ip": key, "fairlead.dev/load-balancer-ips": "1.2.3.0",
        } },
        "spec": {
            "ports": [{ "port": port, "protocol": "TCP" }], "externalTrafficPolicy": policy, "selector": { "app": app },
        },
    })
}

#[test]
fn two_services_that_share_through_changes_of_policy_and_selector() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    let steps = [
        ("both of policy Cluster", "one", shares("k", 80, "Cluster", "a"), ["1.2.3.0", ""]),
        ("second joins", "two", shares("k", 81, "Cluster", "b"), ["1.2.3.0", "1.2.3.0"]),
        ("second to Local", "two", shares("k", 81, "Local", "b"), ["1.2.3.0", "SharingConflict"]),
        (
            "first to Local with another selector",
            "one",
            shares("k", 80, "Local", "a"),
            ["1.2.3.0", "SharingConflict"],
        ),
        ("first to the second's selector", "one", shares("k", 80, "Local", "b"), ["1.2.3.0", "1.2.3.0"]),
        ("first changes its selector", "one", shares("k", 80, "Local", "c"), ["SharingConflict", "1.2.3.0"]),
        ("second follows", "two", shares("k", 81, "Local", "c"), ["1.2.3.0", "1.2.3.0"]),
        (
            "second wants the first's port",
            "two",
            shares("k", 80, "Local", "c"),
            ["1.2.3.0", "SharingConflict"],
        ),
        ("second has another key", "two", shares("other", 81, "Local", "c"), ["1.2.3.0", "SharingConflict"]),
    ];
    for (what, name, with, expected) in steps {
        world.apply(service(name, with));
        assert_eq!(world.result("one"), expected[0], "{what}");
        if !expected[1].is_empty() {
            assert_eq!(world.result("two"), expected[1], "{what}");
        }
    }
    assert_eq!(
        world.message("two", keys::ALLOCATED),
        "False/SharingConflict: 1.2.3.0 is in use by Service default/one, which shares it under another key (\"k\")"
    );
    world.delete("one");
    assert_eq!(world.result("two"), "1.2.3.0");
}

#[test]
fn a_full_pool_takes_in_a_service_that_can_share_as_soon_as_a_port_is_free() {
    let share = |port: u16| {
        json!({
            "metadata": { "annotations": { "metallb.io/allow-shared-ip": "k" } },
            "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
        })
    };
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("a", share(80)));
    world.apply(service("b", share(81)));
    world.apply(service("c", share(80)));
    assert_eq!(
        [world.result("a"), world.result("b"), world.result("c")],
        ["1.2.3.0", "1.2.3.0", "PoolExhausted"]
    );
    world.delete("a");
    assert_eq!(world.result("c"), "1.2.3.0");
}

#[test]
fn one_freed_address_serves_all_who_can_share_it() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    for (name, port) in [("a", 80), ("b", 81), ("c", 82)] {
        let with = json!({
            "metadata": { "annotations": { "fairlead.dev/allow-shared-ip": "k" } },
            "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
        });
        world.apply(service(name, with));
    }
    world.delete("holder");
    assert!(world.results().values().all(|result| result == "1.2.3.0"), "{:?}", world.results());
}
