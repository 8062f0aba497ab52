//! Items 22 to 28: two families, as preferred or as required.

use fairlead_e2e::{LbService, Pool, Scene, reach_on_lan};
use serde_json::json;

use crate::{LAB, plain};

const BOTH: [&str; 2] = ["IPv4", "IPv6"];

fn prefers(name: &str) -> LbService {
    plain(name).families("PreferDualStack", BOTH)
}

/// Waits until the controller knows `pool`, which then has had every chance to move others.
fn expect_known(scene: &Scene<'_>, pool: &str, address: &str) {
    let probe = LbService::new("probe", pool).single("IPv4");
    scene.serve(&probe, &[address], pool);
}

/// Item 22.
#[test]
fn who_prefers_both_families_gets_them_from_a_dual_pool_although_single_pools_come_first() {
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
fn who_prefers_both_families_gets_the_first_of_them_from_a_single_pool() {
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
fn a_pool_that_gains_a_family_gives_the_second_address_and_leaves_the_first() {
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
fn who_comes_to_require_both_loses_the_one_and_gets_it_back_who_prefers_again() {
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
fn a_dual_pool_that_appears_moves_nobody() {
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
fn a_dual_pool_that_loses_a_family_is_left_for_another_that_has_both() {
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
