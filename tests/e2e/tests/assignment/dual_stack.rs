//! Items 22 to 28: two address families, preferred or required.

use fairlead_e2e::{LbService, Pool, Scene, reach_on_lan};
use serde_json::json;

use crate::{LAB, plain};

const BOTH: [&str; 2] = ["IPv4", "IPv6"];

fn prefers(name: &str) -> LbService {
    plain(name).families("PreferDualStack", BOTH)
}

/// Waits until the controller uses `pool`, so that any move it causes has happened.
fn expect_known(scene: &Scene<'_>, pool: &str, address: &str) {
    let probe = LbService::new("probe", pool).single("IPv4");
    scene.serve(&probe, &[address], pool);
}

/// Item 22.
#[test]
fn prefer_dual_stack_uses_dual_pool_before_single_pools() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([
        &Pool::reassigning("a-four", &["192.0.2.200-192.0.2.209"]),
        &Pool::reassigning("b-six", &["2001:db8:1::200-2001:db8:1::209"]),
        &Pool::reassigning("c-dual", &["192.0.2.210-192.0.2.219", "2001:db8:1::210-2001:db8:1::219"]),
    ]);
    for ip in scene.serve(&prefers("both"), &["192.0.2.210", "2001:db8:1::210"], "c-dual") {
        reach_on_lan(&lab, ip, 80).unwrap();
    }
}

/// Items 23 and 24.
#[test]
fn prefer_dual_stack_accepts_single_family_pool() {
    let lab = LAB.turn();
    for (families, address, pool) in
        [(BOTH, "192.0.2.200", "b-four"), (["IPv6", "IPv4"], "2001:db8:1::200", "a-six")]
    {
        let scene = Scene::new(&lab);
        scene.pools([
            &Pool::reassigning("a-six", &["2001:db8:1::200-2001:db8:1::209"]),
            &Pool::reassigning("b-four", &["192.0.2.200-192.0.2.209"]),
        ]);
        let service = plain("first-of-both").families("PreferDualStack", families);
        scene.serve(&service, &[address], pool);
    }
}

/// Item 25.
#[test]
fn pool_gains_family_adds_second_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = Pool::reassigning("grows", &["192.0.2.200-192.0.2.209"]);
    scene.pools([&pool]);
    let service = prefers("gains");
    scene.serve(&service, &["192.0.2.200"], "grows");
    scene.pools([&pool.of(&["192.0.2.200-192.0.2.209", "2001:db8:1::200/124"])]);
    for ip in scene.expect(&service, &["192.0.2.200", "2001:db8:1::200"], "grows") {
        reach_on_lan(&lab, ip, 80).unwrap();
    }
}

/// Item 26.
#[test]
fn require_dual_stack_releases_single_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&Pool::reassigning("four", &["192.0.2.200-192.0.2.209"])]);
    let service = prefers("wavers");
    let policy = |policy: &str| json!({ "spec": { "ipFamilyPolicy": policy } });
    scene.serve(&service, &["192.0.2.200"], "four");
    scene.merge(service.object(), policy("RequireDualStack"));
    scene.expect_refused(&service, "FamilyMismatch");
    scene.merge(service.object(), policy("PreferDualStack"));
    scene.expect(&service, &["192.0.2.200"], "four");
}

/// Item 27.
#[test]
fn new_dual_pool_moves_no_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&Pool::reassigning("four", &["192.0.2.200-192.0.2.209"])]);
    let service = prefers("stays");
    scene.serve(&service, &["192.0.2.200"], "four");
    let before = scene.seen(&service);
    scene.pools([&Pool::reassigning(
        "a-dual",
        &["192.0.2.210-192.0.2.219", "2001:db8:1::210-2001:db8:1::219"],
    )]);
    expect_known(&scene, "a-dual", "192.0.2.210");
    assert_eq!(scene.seen(&service), before);
}

/// Item 28.
#[test]
fn dual_pool_losing_family_moves_service() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let first = Pool::reassigning("a-first", &["192.0.2.200-192.0.2.209", "2001:db8:1::200/124"]);
    let second = Pool::reassigning("b-second", &["192.0.2.210-192.0.2.219", "2001:db8:1::210/124"]);
    scene.pools([&first, &second]);
    let service = prefers("both");
    scene.serve(&service, &["192.0.2.200", "2001:db8:1::200"], "a-first");
    scene.pools([&first.of(&["2001:db8:1::200/124"])]);
    for ip in scene.expect(&service, &["192.0.2.210", "2001:db8:1::210"], "b-second") {
        reach_on_lan(&lab, ip, 80).unwrap();
    }
}
