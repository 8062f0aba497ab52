//! Refused pools: holders keep their addresses, and the pool allocates no others.

use fairlead_crds::model::config::Pool;

use super::*;
use crate::ipam::Family;
use fairlead_test_support::pool;

const KEEPS: &str = "True/PoolRefused: keeps 1.2.3.0 from IPAddressPool p: IPAddressPool p is refused: see \
    its condition Accepted";

fn p() -> Pool {
    pool("p", &["1.2.3.0-1.2.3.9"])
}

fn old() -> Pool {
    pool("old", &["9.9.9.0-9.9.9.1"])
}

/// Returns the pools in force while `p` is refused.
fn refusals() -> [(&'static str, Vec<Pool>); 4] {
    [
        ("p is malformed", vec![old()]),
        ("x overlaps an unused part of p", vec![old(), pool("x", &["1.2.3.7-1.2.3.20"])]),
        ("an older pool grows over p", vec![pool("old", &["9.9.9.0-9.9.9.1", "1.2.3.0-1.2.3.2"])]),
        ("p is the only pool", vec![]),
    ]
}

/// Returns a world in which `s` holds 1.2.3.0 of the refused pool `p`.
fn refused(in_force: &[Pool]) -> World {
    let mut world = World::new([p(), old()]);
    world.apply(service("s", annotated(REQUEST_POOL, "p")));
    world.apply(service("s", json!({})));
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    world.take_writes();
    world.events.clear();
    world.set_pools_and_refused(in_force.to_vec(), &["p"]);
    world
}

#[test]
fn refused_pool_keeps_holders_with_condition() {
    for (what, in_force) in refusals() {
        let mut world = World::new([p(), old()]);
        world.apply(service("s", annotated(REQUEST_POOL, "p")));
        world.config.refused_pools = pools([fairlead_test_support::refused("p")]);
        world.config.pools = pools(in_force);
        world.index.set_config(&world.config, world.now);
        for decision in world.index.take_decisions() {
            let Decision::Status { patch: Some(patch), .. } = decision else { continue };
            assert_eq!(
                (patch.ingress, patch.pool_annotation),
                (fairlead_test_support::ips(&["1.2.3.0"]), None),
                "{what}"
            );
        }
        let mut world = refused(&world.config.pools.into_values().collect::<Vec<_>>());
        assert_eq!(
            (world.result("s").as_str(), world.pool_of("s").as_deref()),
            ("1.2.3.0", Some("p")),
            "{what}"
        );
        assert_eq!(world.message("s", names::ALLOCATED), KEEPS, "{what}");
        assert_eq!(world.take_writes(), 1, "{what}: only the condition changes");
        assert_eq!(
            world.events.iter().map(|e| (e.warning, e.reason)).collect::<Vec<_>>(),
            [(true, AllocationReason::PoolRefused)]
        );
    }
}

#[test]
fn restart_with_refused_pool_changes_nothing() {
    for (what, in_force) in refusals() {
        let mut world = refused(&in_force);
        // Older than `s`, so it would be served first.
        world.apply(service("waits", both(annotated(REQUEST_POOL, "p"), aged(0))));
        world.take_writes();
        world.events.clear();
        let before = world.results();
        world.restart();
        assert_eq!((world.results(), world.take_writes(), world.events.len()), (before, 0, 0), "{what}");
        world.apply(service("s", json!({ "metadata": { "labels": { "a": "b" } } })));
        assert_eq!(
            (world.result("s").as_str(), world.take_writes()),
            ("1.2.3.0", 0),
            "{what}: an edit of the Service"
        );
    }
}

#[test]
fn refused_pool_allocates_nothing() {
    let asks = |ip| annotated(REQUEST_IPS, ip);
    for (what, in_force) in refusals() {
        let mut world = refused(&in_force);
        world.apply(service("names", annotated(REQUEST_POOL, "p")));
        assert_eq!(
            world.message("names", names::ALLOCATED),
            "False/PoolRefused: IPAddressPool p is refused: see its condition Accepted",
            "{what}"
        );
        world.apply(service("grabs", asks("1.2.3.0")));
        assert!(["AddressInUse", "AddressNotInPool"].contains(&world.result("grabs").as_str()), "{what}");
        for n in 0..20 {
            world.apply(service(&format!("any{n}"), json!({})));
        }
        let having = world.results().into_iter().filter(|(_, result)| result == "1.2.3.0");
        assert_eq!(having.map(|(name, _)| name).collect::<Vec<_>>(), ["default/s"], "{what}");
        let message = world.message("any19", names::ALLOCATED);
        assert!(in_force.len() > 1 || message.ends_with("; IPAddressPool p is refused"), "{what}: {message}");
    }
}

#[test]
fn repaired_pool_restores_former_status() {
    for (what, in_force) in refusals() {
        let mut world = World::new([p(), old()]);
        world.apply(service("s", annotated(REQUEST_POOL, "p")));
        let before = world.service("s");
        world.set_pools_and_refused(in_force.clone(), &["p"]);
        world.restart();
        world.set_pools_and_refused([p(), old()], &[]);
        let mut after = world.service("s");
        after.metadata.resource_version.clone_from(&before.metadata.resource_version);
        assert_eq!(after, before, "{what}");
        world.apply(service("t", annotated(REQUEST_POOL, "p")));
        assert_eq!(
            world.result("t"),
            "1.2.3.1",
            "{what}: the pool allocates again, but not the held address"
        );
    }
}

#[test]
fn holder_moves_if_repaired_pool_lacks_address() {
    let others = || pool("p", &["1.2.3.5-1.2.3.9"]);
    for (what, in_force) in refusals() {
        let mut world = refused(&in_force);
        world.set_pools_and_refused([others()], &[]);
        assert_eq!(world.result("s"), "1.2.3.5", "{what}");

        let mut world = refused(&in_force);
        world.set_pools_and_refused([old()], &[]);
        assert_eq!(
            (world.result("s").as_str(), world.pool_of("s").as_deref()),
            ("9.9.9.0", Some("old")),
            "{what}"
        );
    }
}

#[test]
fn overlapping_pool_inherits_holder_of_deleted_refused_pool() {
    let grown = || pool("old", &["9.9.9.0-9.9.9.1", "1.2.3.0-1.2.3.2"]);
    let mut world = refused(&[grown()]);
    world.set_pools_and_refused([grown()], &[]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("old")));
}

#[test]
fn overlapping_pool_does_not_allocate_held_address() {
    let mut world = refused(&[old()]);
    world.set_pools_and_refused([pool("old", &["1.2.3.0-1.2.3.1"])], &["p"]);
    world.apply(service("new", json!({})));
    assert_eq!([world.result("s"), world.result("new")], ["1.2.3.0", "1.2.3.1"]);
}

#[test]
fn released_address_of_refused_pool_goes_to_overlapping_pool() {
    let mut world = refused(&[pool("old", &["1.2.3.0"])]);
    world.apply(service("waits", json!({})));
    assert_eq!(world.result("waits"), "PoolExhausted");
    world.delete("s");
    assert_eq!((world.result("waits").as_str(), world.pool_of("waits").as_deref()), ("1.2.3.0", Some("old")));
}

#[test]
fn sharers_of_refused_pool_stay_and_admit_none() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("a", shared(80)));
    world.apply(service("b", shared(81)));
    world.set_pools_and_refused([pool("old", &["1.2.3.0"])], &["p"]);
    world.apply(service("c", shared(82)));
    world.apply(service("d", both(shared(83), annotated(REQUEST_IPS, "1.2.3.0"))));
    assert_eq!(world.result("d"), "AddressInUse", "a requested address is refused, too");
    world.delete("d");
    let expected = ["1.2.3.0", "1.2.3.0", "PoolExhausted"];
    for _ in 0..2 {
        assert_eq!(["a", "b", "c"].map(|name| world.result(name)), expected);
        world.restart();
    }
    world.delete("a");
    assert_eq!(["b", "c"].map(|name| world.result(name)), expected[1..]);
    world.set_pools_and_refused([pool("old", &["1.2.3.0"])], &[]);
    assert_eq!(
        ["b", "c"].map(|name| world.result(name)),
        ["1.2.3.0", "1.2.3.0"],
        "all sharers hold the address of one pool again"
    );
}

#[test]
fn service_edit_applies_while_pool_is_refused() {
    let dual = &["10.96.0.1", "fd00::1"];
    let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
    world.apply(service("s", families(dual, "RequireDualStack")));
    world.set_pools_and_refused([old()], &["p"]);
    world.restart();
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    world.apply(service("s", families(&dual[..1], "SingleStack")));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.apply(service("s", annotated(REQUEST_POOL, "old")));
    assert_eq!(world.result("s"), "9.9.9.0");
}

#[test]
fn advertisement_of_refused_pool_still_covers() {
    let mut world = refused(&[pool("old", &["1.2.3.0-1.2.3.9"])]);
    world.config.l2_advertisements = [("p".into(), advertisement("p", &["p"]))].into();
    world.reconfigure();
    assert!(world.message("s", names::COVERED).starts_with("True/Covered"));
    world.config.l2_advertisements = [("old".into(), advertisement("old", &["old"]))].into();
    world.reconfigure();
    assert!(world.message("s", names::COVERED).starts_with("False/NoAdvertisement"));
}

#[test]
fn refused_pool_counts_its_holders() {
    let mut world = refused(&[old()]);
    let counts = world.index.ipam().counts("p", Family::V4);
    assert_eq!((counts.assigned, counts.available), (1, 0));
    world.delete("s");
    assert_eq!(world.index.ipam().counts("p", Family::V4).total, 0);
}
