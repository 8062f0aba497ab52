//! Changes of pools with holders. MetalLB: `TestControllerConfig`, reference table of pool changes,
//! end-to-end cases 14 and 15.

use fairlead_crds::model::config::{BgpAdvertisement, Community, Pool};
use fairlead_crds::model::route_request::ServiceAttributes;

use super::*;
use fairlead_test_support::{bgp_advertisement, pinned, pool};

#[test]
fn held_address_moves_only_if_pool_excludes_it() {
    let start = || pool("p", &["1.2.3.0-1.2.3.9"]);
    let other = || pool("z", &["9.9.9.9"]);
    let manual = |pool: Pool| Pool { auto_assign: false, ..pool };
    let careful = |pool: Pool| Pool { avoid_buggy_ips: true, ..pool };
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<Pool>, &str, &str)> = vec![
        ("nothing changes", vec![start(), other()], "1.2.3.0", "p"),
        ("the pool grows", vec![pool("p", &["1.2.2.0-1.2.3.255"]), other()], "1.2.3.0", "p"),
        ("the pool shrinks elsewhere", vec![pool("p", &["1.2.3.0"]), other()], "1.2.3.0", "p"),
        ("another pool is deleted", vec![start()], "1.2.3.0", "p"),
        ("auto assign is switched off", vec![manual(start()), other()], "1.2.3.0", "p"),
        ("the priority changes", vec![pinned(start(), 9, &[]), pinned(other(), 1, &[])], "1.2.3.0", "p"),
        ("the pool is renamed", vec![pool("q", &["1.2.3.0-1.2.3.9"]), other()], "1.2.3.0", "q"),
        ("the pool is split",
         vec![pool("p", &["1.2.3.5-1.2.3.9"]), pool("q", &["1.2.3.0-1.2.3.4"])], "1.2.3.0", "q"),
        ("the pool shrinks over the address", vec![pool("p", &["1.2.3.5-1.2.3.9"]), other()], "1.2.3.5", "p"),
        ("avoidBuggyIPs excludes the address", vec![careful(start()), other()], "1.2.3.1", "p"),
        ("the pool is restricted to another namespace",
         vec![pinned(start(), 0, &["team"]), other()], "9.9.9.9", "z"),
        ("the pool is deleted", vec![other()], "9.9.9.9", "z"),
        ("all pools are deleted", vec![], "NoPoolMatches", ""),
    ];
    for (what, new, expected, of_pool) in cases {
        let mut world = World::new([start(), other()]);
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), "1.2.3.0");
        world.take_writes();
        world.set_pools(new);
        assert_eq!(world.result("s"), expected, "{what}");
        assert_eq!(world.pool_of("s").unwrap_or_default(), of_pool, "{what}");
        let unchanged = (expected, of_pool) == ("1.2.3.0", "p");
        assert_eq!(world.take_writes(), usize::from(!unchanged), "{what}");
    }
}

#[test]
fn evicted_services_do_not_displace_holders() {
    let mut world = World::new([pool("a", &["1.0.0.1-1.0.0.3"]), pool("b", &["2.0.0.1-2.0.0.3"])]);
    for n in 0..5 {
        world.apply(service(&format!("s{n}"), aged(n)));
    }
    world.set_pools([pool("b", &["2.0.0.1-2.0.0.3"])]);
    let results: Vec<String> = world.results().into_values().collect();
    assert_eq!(results, ["2.0.0.3", "PoolExhausted", "PoolExhausted", "2.0.0.1", "2.0.0.2"]);
}

#[test]
fn uncovered_address_has_no_advertisement_condition() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    assert!(world.message("s", names::COVERED).starts_with("True/Covered"));
    world.take_writes();
    world.config.l2_advertisements = [("other".into(), advertisement("other", &["q"]))].into();
    world.reconfigure();
    assert_eq!(
        world.message("s", names::COVERED),
        "False/NoAdvertisement: no L2Advertisement or BGPAdvertisement covers IPAddressPool p for this \
         Service"
    );
    assert_eq!(world.take_writes(), 1);
    assert_eq!(world.events.last().unwrap().reason, AllocationReason::NoAdvertisement);
    let mut of_service = advertisement("selective", &[]);
    of_service.service_selectors = vec![fairlead_test_support::selector("expose", "yes")];
    world.config.l2_advertisements.insert("selective".into(), of_service);
    world.reconfigure();
    assert_eq!(world.take_writes(), 0, "the selector does not match");
    world.apply(service("s", json!({ "metadata": { "labels": { "expose": "yes" } } })));
    assert!(world.message("s", names::COVERED).starts_with("True/Covered"));
}

#[test]
fn requested_attributes_without_permission_are_named() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    let annotations = json!({ "fairlead.dev/bgp-communities": "blue" });
    world.apply(service("s", json!({ "metadata": { "annotations": annotations } })));
    assert_eq!(
        world.message("s", names::COVERED),
        "True/Covered: an advertisement covers these addresses; annotation fairlead.dev/bgp-communities: no \
         BGPAdvertisement of these addresses permits community \"blue\""
    );
    world.take_writes();
    let permitted = ServiceAttributes {
        communities: [("blue".to_owned(), Community::Standard(64512, 1))].into(),
        ..ServiceAttributes::default()
    };
    let ad = BgpAdvertisement { service_attributes: Some(permitted), ..bgp_advertisement("permits") };
    world.config.bgp_advertisements.insert(ad.name.clone(), ad.clone());
    world.reconfigure();
    let covered = "True/Covered: an advertisement covers these addresses";
    assert_eq!(world.message("s", names::COVERED), covered);
    let ad = BgpAdvertisement { service_attributes: None, ..ad };
    world.config.bgp_advertisements.insert(ad.name.clone(), ad);
    world.reconfigure();
    assert_ne!(world.message("s", names::COVERED), covered, "the permission was revoked");
    assert_eq!(world.take_writes(), 2);
}
