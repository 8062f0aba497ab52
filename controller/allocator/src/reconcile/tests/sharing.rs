//! Shared addresses. MetalLB: end-to-end case 13.

use super::*;
use fairlead_test_support::{pinned, pool, selector};

fn shares(key: &str, port: u16, policy: &str, app: &str) -> Value {
    json!({
        "metadata": { "annotations": {
            "fairlead.dev/allow-shared-ip": key, "fairlead.dev/load-balancer-ips": "1.2.3.0",
        } },
        "spec": {
            "ports": [{ "port": port, "protocol": "TCP" }],
            "externalTrafficPolicy": policy, "selector": { "app": app },
        },
    })
}

#[test]
fn sharing_follows_policy_selector_port_and_key() {
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
            "second uses the port of the first",
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
        world.message("two", names::ALLOCATED),
        "False/SharingConflict: 1.2.3.0 is in use by Service default/one, which shares it under a different key \
         (\"k\")"
    );
    world.delete("one");
    assert_eq!(world.result("two"), "1.2.3.0");
}

#[test]
fn freed_port_lets_waiting_service_join() {
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
fn freed_address_serves_all_compatible_sharers() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    for (name, port) in [("a", 80), ("b", 81), ("c", 82)] {
        world.apply(service(name, shared(port)));
    }
    world.delete("holder");
    assert!(world.results().values().all(|result| result == "1.2.3.0"), "{:?}", world.results());
}

#[test]
fn sharer_keeps_address_when_older_sharer_loses_it_offline() {
    let dual = families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
    for restarts in [false, true] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::1"])]);
        world.apply(service("older", both(shared(80), both(aged(1), dual.clone()))));
        world.apply(service("younger", both(shared(81), aged(9))));
        assert_eq!([world.result("older"), world.result("younger")], ["1.2.3.0 1::1", "1.2.3.0"]);
        world.config.pools = pools([pool("p", &["1.2.3.0-1.2.3.9"]), pool("q", &["5.5.5.5", "5::5"])]);
        if restarts {
            world.restart();
        } else {
            world.reconfigure();
        }
        assert_eq!(world.result("younger"), "1.2.3.0", "restarts: {restarts}");
    }
}

#[test]
fn sharer_keeps_address_when_older_namespace_syncs_late() {
    let mut tenants = pinned(pool("p", &["1.2.3.0-1.2.3.9"]), 1, &["default"]);
    tenants.allocation.as_mut().unwrap().namespace_selectors = vec![selector("team", "blue")];
    let mut world = World::new([tenants]);
    world.namespace("blue", &[("team", "blue")]);
    world.apply(service("blue/older", both(shared(80), aged(1))));
    world.apply(service("younger", both(shared(81), aged(9))));
    world.namespaces.remove("blue");
    world.restart();
    assert_eq!(world.result("younger"), "1.2.3.0");
    world.namespace("blue", &[("team", "blue")]);
    assert_eq!([world.result("blue/older"), world.result("younger")], ["1.2.3.0", "1.2.3.0"]);
}

/// The same rule as for the other annotations.
#[test]
fn conflicting_sharing_keys_are_refused_and_holder_stays() {
    let contradiction = |ours: &str, metallb: &str| {
        let spellings =
            json!({ "fairlead.dev/allow-shared-ip": ours, "metallb.io/allow-shared-ip": metallb });
        json!({ "metadata": { "annotations": spellings } })
    };
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("new", contradiction("a", "b")));
    assert_eq!(
        world.message("new", names::ALLOCATED),
        "False/InvalidRequest: the Service sets two different sharing keys: \"a\" and \"b\""
    );
    world.apply(service("new", contradiction("a", "a")));
    assert_eq!(world.result("new"), "1.2.3.0", "both annotations agree");
    world.delete("new");

    world.apply(service("s", both(aged(1), shared(80))));
    world.apply(service("t", both(aged(9), shared(81))));
    assert_eq!([world.result("s"), world.result("t")], ["1.2.3.0", "1.2.3.0"]);
    for (ours, metallb) in [("a", "k"), ("k", "a")] {
        world.apply(service("s", both(both(shared(80), aged(1)), contradiction(ours, metallb))));
        for restarts in [false, true] {
            if restarts {
                world.restart();
            }
            let message = world.message("s", names::ALLOCATED);
            assert!(message.starts_with("True/InvalidRequest: "), "{ours} {metallb} {restarts}: {message}");
            assert_eq!([world.result("s"), world.result("t")], ["1.2.3.0", "1.2.3.0"], "{ours} {restarts}");
        }
    }
}
