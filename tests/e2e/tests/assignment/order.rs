//! Items 16 to 21: which pool comes first, for whom.

use fairlead_e2e::{LbService, Pool, Scene};
use serde_json::{Value, json};

use crate::{LAB, plain};

/// Two pools of one address each, `first` and `second`, are for some; `default` has one address for everybody, and one
/// more for a Service that may use no other. Services of `mine` get the first, the second, the default one, nothing.
fn in_order(scene: &Scene<'_>, first: Value, second: Value, mine: impl Fn(&str) -> LbService) {
    let default = Pool::reassigning("default", &["192.0.2.200-192.0.2.201"]);
    // Not in the order of their names, nor of their addresses, nor of their creation.
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
fn pools_of_a_namespace_come_by_priority_and_before_the_default() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("by-name");
    let priority = |n| json!({ "namespaces": ["by-name"], "priority": n });
    in_order(&scene, priority(10), priority(20), |name| plain(name).in_namespace("by-name"));
}

/// Item 17.
#[test]
fn pools_with_only_a_priority_come_in_its_order() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pools = [
        Pool::reassigning("a-none", &["192.0.2.200/32"]),
        // 0 is last among those that have one.
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
fn pools_of_a_namespace_by_name_or_label_come_by_priority_and_before_the_default() {
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
fn pools_of_services_by_label_come_by_priority_and_before_the_default() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let first = json!({ "serviceSelectors": [{ "matchLabels": { "tier": "gold" } }], "priority": 10 });
    let exists = json!([{ "key": "tier", "operator": "Exists" }]);
    let second = json!({ "serviceSelectors": [{ "matchExpressions": exists }], "priority": 20 });
    in_order(&scene, first, second, |name| plain(name).label("tier", "gold"));
}

/// Item 20.
#[test]
fn a_pool_of_a_namespace_and_of_labels_needs_both() {
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
fn a_namespace_that_gains_a_label_gains_the_pool_of_it() {
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
    // One that waits for the label, and shows when it has been seen.
    let waits = mine("waits").annotation("fairlead.dev/address-pool", "b-high");
    scene.refuse(&waits, "NoPoolMatches");
    scene.merge(&namespace, json!({ "metadata": { "labels": { "tier": "gold" } } }));
    scene.expect(&waits, &["192.0.2.210"], "b-high");
    scene.serve(&mine("late"), &["192.0.2.211"], "b-high");
    assert_eq!(scene.seen(&mine("early")).pool.as_deref(), Some("a-low"), "what it has it keeps");
}
