//! Items 16 to 21: the order of pools for a Service.

use fairlead_e2e::{LbService, Pool, Scene};
use serde_json::{Value, json};

use crate::{LAB, plain};

/// Applies two restricted pools of one address each, `first` and `second`, and `default` with one address for
/// all Services and one more that must stay free. Services of `mine` get the address of `first`, of `second`,
/// of `default`, and then none.
fn in_order(scene: &Scene<'_>, first: Value, second: Value, mine: impl Fn(&str) -> LbService) {
    let default = Pool::reassigning("default", &["192.0.2.200-192.0.2.201"]);
    // The expected order differs from the order of names, addresses and creation.
    let second = Pool::reassigning("b-second", &["192.0.2.202/32"]).only_for(second);
    let first = Pool::reassigning("c-first", &["192.0.2.203/32"]).only_for(first);
    scene.pools([&default, &second, &first]);
    scene.serve(&plain("stranger"), &["192.0.2.200"], "default");
    for (name, address, pool) in [
        ("one", "192.0.2.203", "c-first"),
        ("two", "192.0.2.202", "b-second"),
        ("three", "192.0.2.201", "default"),
    ] {
        scene.serve(&mine(name), &[address], pool);
    }
    scene.refuse(&mine("four"), "PoolExhausted");
}

/// Item 16.
#[test]
fn namespace_pools_precede_default_by_priority() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("by-name");
    let priority = |n| json!({ "namespaces": ["by-name"], "priority": n });
    in_order(&scene, priority(10), priority(20), |name| plain(name).in_namespace("by-name"));
}

/// Item 17.
#[test]
fn pools_are_tried_by_priority() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pools = [
        Pool::reassigning("a-none", &["192.0.2.200/32"]),
        // Priority 0 comes last.
        Pool::reassigning("b-zero", &["192.0.2.201/32"]).only_for(json!({ "priority": 0 })),
        Pool::reassigning("c-twenty", &["192.0.2.202/32"]).only_for(json!({ "priority": 20 })),
        Pool::reassigning("d-ten", &["192.0.2.203/32"]).only_for(json!({ "priority": 10 })),
    ];
    scene.pools(pools.each_ref());
    for (name, address, pool) in [
        ("one", "192.0.2.203", "d-ten"),
        ("two", "192.0.2.202", "c-twenty"),
        ("three", "192.0.2.201", "b-zero"),
        ("four", "192.0.2.200", "a-none"),
    ] {
        scene.serve(&plain(name), &[address], pool);
    }
    scene.refuse(&plain("five"), "PoolExhausted");
}

/// Item 18.
#[test]
fn namespace_label_pools_precede_default_by_priority() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let namespace = scene.namespace("by-label");
    scene.merge(&namespace, json!({ "metadata": { "labels": { "team": "blue" } } }));
    let first = json!({ "namespaces": ["by-label"], "priority": 10 });
    let second = json!({ "namespaceSelectors": [{ "matchLabels": { "team": "blue" } }], "priority": 20 });
    in_order(&scene, first, second, |name| plain(name).in_namespace("by-label"));
}

/// Item 19.
#[test]
fn service_label_pools_precede_default_by_priority() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let first = json!({ "serviceSelectors": [{ "matchLabels": { "tier": "gold" } }], "priority": 10 });
    let exists = json!([{ "key": "tier", "operator": "Exists" }]);
    let second = json!({ "serviceSelectors": [{ "matchExpressions": exists }], "priority": 20 });
    in_order(&scene, first, second, |name| plain(name).label("tier", "gold"));
}

/// Item 20.
#[test]
fn pool_requires_namespace_and_labels() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("by-both");
    let gold = json!([{ "matchLabels": { "tier": "gold" } }]);
    let allocation =
        |n| json!({ "namespaces": ["by-both"], "serviceSelectors": gold.clone(), "priority": n });
    in_order(&scene, allocation(10), allocation(20), |name| {
        plain(name).in_namespace("by-both").label("tier", "gold")
    });
    for half in [plain("no-label").in_namespace("by-both"), plain("no-namespace").label("tier", "gold")] {
        scene.service(&half.annotation("fairlead.dev/address-pool", "c-first"));
    }
    for half in [plain("no-label").in_namespace("by-both"), plain("no-namespace")] {
        scene.expect_refused(&half, "NoPoolMatches");
    }
}

/// Item 21.
#[test]
fn namespace_label_added_admits_waiting_service() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let namespace = scene.namespace("changes");
    let gold = json!([{ "matchLabels": { "tier": "gold" } }]);
    let low = Pool::reassigning("a-low", &["192.0.2.200-192.0.2.209"])
        .only_for(json!({ "namespaces": ["changes"], "priority": 20 }));
    let high = Pool::reassigning("b-high", &["192.0.2.210-192.0.2.219"])
        .only_for(json!({ "namespaceSelectors": gold, "priority": 10 }));
    scene.pools([&low, &high]);
    let mine = |name: &str| plain(name).in_namespace("changes");
    scene.serve(&mine("early"), &["192.0.2.200"], "a-low");
    // A Service that waits for the label shows when the controller has seen it.
    let waits = mine("waits").annotation("fairlead.dev/address-pool", "b-high");
    scene.refuse(&waits, "NoPoolMatches");
    scene.merge(&namespace, json!({ "metadata": { "labels": { "tier": "gold" } } }));
    scene.expect(&waits, &["192.0.2.210"], "b-high");
    scene.serve(&mine("late"), &["192.0.2.211"], "b-high");
    assert_eq!(scene.seen(&mine("early")).pool.as_deref(), Some("a-low"), "the Service keeps its address");
}
