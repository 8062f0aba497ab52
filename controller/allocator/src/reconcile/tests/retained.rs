//! Pools with `reclaim: Retain`: holders keep addresses that an edit of the pool excludes, until they release
//! them. Also the deletion of pools in use.

use fairlead_crds::model::config::{Closed, Pool, Reclaim};

use super::*;
use crate::ipam::{Family, PoolCounts};
use fairlead_test_support::{pinned, pool, retaining, selector};

fn start() -> Pool {
    retaining(pool("p", &["1.2.3.0-1.2.3.9"]))
}

fn other() -> Pool {
    retaining(pool("z", &["9.9.9.0-9.9.9.9"]))
}

/// Returns a pool that admits only Services or Namespaces with the label `tier=web`.
fn tight(services: bool) -> Pool {
    let mut tight = pinned(start(), 0, &[]);
    let allocation = tight.allocation.as_mut().unwrap();
    let selectors =
        if services { &mut allocation.service_selectors } else { &mut allocation.namespace_selectors };
    selectors.push(selector("tier", "web"));
    tight
}

/// Returns a world in which `s` holds 1.2.3.0 of p.
fn holding(with: Value) -> World {
    let mut world = World::new([start(), other()]);
    world.apply(service("s", with));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.take_writes();
    world.events.clear();
    world
}

fn counts(world: &World, pool: &str) -> (u128, u128, u128) {
    let PoolCounts { assigned, available, retained, .. } = world.index.ipam().counts(pool, Family::V4);
    (assigned, available, retained)
}

fn reasons(world: &mut World) -> Vec<(bool, AllocationReason)> {
    std::mem::take(&mut world.events).iter().map(|event| (event.warning, event.reason)).collect()
}

const IN_POOL: &str = "no longer has this address";
const NAMESPACE: &str = "is no longer open to this namespace";
const LABELS: &str = "is no longer open to Services with these labels";

#[test]
fn pool_edit_that_excludes_holder_retains_address() {
    let careful = Pool { avoid_buggy_ips: true, ..start() };
    #[rustfmt::skip]
    let cases = [
        ("the pool shrinks over the address",
         retaining(pool("p", &["1.2.3.5-1.2.3.9"])), IN_POOL, (1, 5, 1), "1.2.3.5"),
        ("avoidBuggyIPs excludes the address", careful, IN_POOL, (1, 9, 1), "1.2.3.1"),
        ("the pool is restricted to another namespace",
         pinned(start(), 0, &["team"]), NAMESPACE, (1, 9, 1), "9.9.9.0"),
        ("a namespace selector is added", tight(false), NAMESPACE, (1, 9, 1), "9.9.9.0"),
        ("a service selector is added", tight(true), LABELS, (1, 9, 1), "9.9.9.0"),
    ];
    for (what, edited, why, of_p, next) in cases {
        let mut world = holding(json!({}));
        world.set_pools([edited.clone(), other()]);
        let expected = format!("True/Retained: keeps 1.2.3.0 from IPAddressPool p: IPAddressPool p {why}");
        assert_eq!(world.result("s"), "1.2.3.0", "{what}");
        assert_eq!(world.pool_of("s").as_deref(), Some("p"), "{what}");
        assert_eq!(world.message("s", names::ALLOCATED), expected, "{what}");
        assert_eq!(world.take_writes(), 1, "{what}: the condition");
        assert_eq!(reasons(&mut world), [(true, AllocationReason::Retained)], "{what}");
        assert_eq!(counts(&world, "p"), of_p, "{what}");
        world.reconfigure();
        world.apply(service("s", json!({ "metadata": { "labels": { "unrelated": "edit" } } })));
        assert_eq!((world.take_writes(), reasons(&mut world)), (0, vec![]), "{what}: no repetition");
        world.check_restart(what);
        assert_eq!(counts(&world, "p"), of_p, "{what}: after a restart");

        world.apply(service("new", json!({})));
        assert_eq!(world.result("new"), next, "{what}: new allocations follow the edited pool");
        world.delete("new");
        world.delete("s");
        assert_eq!(counts(&world, "p"), (0, of_p.1 + u128::from(why != IN_POOL), 0), "{what}: released");
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), next, "{what}: the released address is not allocated again");
    }
}

#[test]
fn service_that_no_longer_matches_retains_address() {
    let labeled = json!({ "metadata": { "labels": { "tier": "web" } } });
    let mut world = holding(labeled.clone());
    world.set_pools([tight(true), other()]);
    assert_eq!(world.take_writes(), 0, "the selector matches");
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(
        world.message("s", names::ALLOCATED).ends_with(LABELS),
        "{}",
        world.message("s", names::ALLOCATED)
    );
    world.check_restart("relabelled Service");
    world.apply(service("s", labeled));
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    assert_eq!(counts(&world, "p"), (1, 9, 0));

    world.set_pools([tight(false), other()]);
    assert!(world.message("s", names::ALLOCATED).ends_with(NAMESPACE));
    world.namespace("default", &[("tier", "web")]);
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    world.namespace("default", &[]);
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(world.message("s", names::ALLOCATED).ends_with(NAMESPACE));
    world.check_restart("relabelled namespace");
}

#[test]
fn pool_that_grows_back_ends_retention() {
    let mut world = holding(json!({}));
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"])), other()]);
    assert_eq!(counts(&world, "p"), (1, 5, 1));
    world.set_pools([start(), other()]);
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    assert_eq!(counts(&world, "p"), (1, 9, 0));
    assert_eq!(
        reasons(&mut world),
        [(true, AllocationReason::Retained), (false, AllocationReason::Allocated)]
    );
    world.apply(service("new", json!({})));
    assert_eq!(world.result("new"), "1.2.3.1", "the held address is not free");
    world.check_restart("grown back");
}

#[test]
fn new_owner_of_range_gets_holders_unless_retained() {
    let rest = || retaining(pool("p", &["1.2.3.5-1.2.3.9"]));
    let taken = || pool("q", &["1.2.3.0-1.2.3.4"]);
    #[rustfmt::skip]
    let cases = [
        ("renamed", vec![retaining(pool("q", &["1.2.3.0-1.2.3.9"]))], "q", "True/Allocated"),
        ("renamed, and reassigns", vec![pool("q", &["1.2.3.0-1.2.3.9"])], "q", "True/Allocated"),
        ("split", vec![rest(), retaining(taken())], "p", "True/Retained"),
        ("split, and p reassigns",
         vec![Pool { reclaim: Reclaim::Reassign, ..rest() }, taken()], "q", "True/Allocated"),
        ("split, and q does not admit them",
         vec![rest(), pinned(taken(), 0, &["team"])], "p", "True/Retained"),
    ];
    for (what, new, of, expected) in cases {
        let mut world = holding(shared(80));
        world.apply(service("t", shared(81)));
        assert_eq!(world.result("t"), "1.2.3.0");
        world.take_writes();
        world.set_pools(new);
        for name in ["s", "t"] {
            assert_eq!(world.result(name), "1.2.3.0", "{what}");
            assert_eq!(world.pool_of(name).as_deref(), Some(of), "{what}");
            let message = world.message(name, names::ALLOCATED);
            assert!(message.starts_with(expected), "{what}: {message}");
        }
        assert_eq!(world.take_writes(), 2, "{what}: the annotation or the condition");
        world.check_restart(what);
        assert_eq!(counts(&world, of).0, 1, "{what}");
        world.delete("s");
        world.delete("t");
        assert_eq!(counts(&world, of), (0, counts(&world, of).1, 0), "{what}");
        assert_eq!(world.index.ipam().holders_of(of).len(), 0, "{what}");
    }
}

#[test]
fn one_of_two_families_is_retained() {
    let dual = families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.9", "1::1-1::9"]))]);
    world.apply(service("s", dual));
    world.set_pools([retaining(pool("p", &["1.2.3.0-1.2.3.9"]))]);
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    assert_eq!(
        world.message("s", names::ALLOCATED),
        "True/Retained: keeps 1.2.3.0 and 1::1 from IPAddressPool p: IPAddressPool p no longer has this \
         address"
    );
    assert_eq!(world.index.ipam().counts("p", Family::V6).retained, 1);
    assert_eq!(world.index.ipam().counts("p", Family::V4).retained, 0);
    world.check_restart("one of two families");
    world.apply(service("s", json!({})));
    assert_eq!((world.result("s").as_str(), counts(&world, "p")), ("1.2.3.0", (1, 9, 0)));
}

#[test]
fn service_edit_releases_retained_address() {
    let mut world = holding(json!({}));
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"])), other()]);
    world.apply(service("s", annotated(REQUEST_POOL, "p")));
    assert_eq!(world.result("s"), "1.2.3.0", "the address is of the requested pool");
    world.apply(service("s", annotated(REQUEST_POOL, "z")));
    assert_eq!(world.result("s"), "9.9.9.0");
    assert_eq!(counts(&world, "p"), (0, 5, 0));
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.0")));
    assert_eq!(world.result("s"), "AddressNotInPool", "the address is not allocated again");
}

#[test]
fn deleting_pool_keeps_holders_and_allocates_nothing() {
    let deleting = || Pool { closed: Some(Closed::Deleting), ..start() };
    let mut world = holding(json!({}));
    world.set_pools([deleting()]);
    assert_eq!((world.result("s").as_str(), world.take_writes()), ("1.2.3.0", 0));
    for (name, with, reason) in [
        ("named", annotated(REQUEST_POOL, "p"), "PoolDeleting"),
        ("address", annotated(REQUEST_IPS, "1.2.3.4"), "PoolDeleting"),
        ("automatic", json!({}), "NoPoolMatches"),
    ] {
        world.apply(service(name, with));
        assert_eq!(world.result(name), reason);
        let message = world.message(name, names::ALLOCATED);
        assert!(message.contains("p is being deleted"), "{message}");
    }
    world.check_restart("being deleted");
    // If a pool with the same range is in force, it owns the addresses, and nothing blocks the deletion.
    world.set_pools_and_refused([retaining(pool("q", &["1.2.3.0-1.2.3.9"]))], &[]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("q")));
    // If no pool contains the address, the holder loses it once the pool is removed.
    let mut world = holding(json!({}));
    world.set_pools([deleting(), other()]);
    world.set_pools([other()]);
    assert_eq!(world.result("s"), "9.9.9.0");
}

#[test]
fn deleting_pool_keeps_holders_until_it_is_removed() {
    let mut world = holding(json!({}));
    let going = Pool { closed: Some(Closed::Deleting), ..start() };
    world.config.refused_pools = pools([going]);
    let q = || retaining(pool("q", &["1.2.3.0-1.2.3.9"]));
    world.set_pools([q(), other()]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    world.apply(service("new", annotated(REQUEST_POOL, "q")));
    assert_eq!(world.result("new"), "1.2.3.1", "the held address is not free");
    world.check_restart("both pools exist");
    world.set_pools_and_refused([q(), other()], &[]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("q")));
    world.check_restart("moved to the new pool");
}

#[test]
fn deleting_pool_keeps_holders_that_new_owner_refuses() {
    let mut world = holding(json!({}));
    let going = Pool { closed: Some(Closed::Deleting), ..retaining(pool("p", &["1.2.3.5-1.2.3.9"])) };
    world.set_pools([going, pinned(pool("q", &["1.2.3.0-1.2.3.4"]), 0, &["team"]), other()]);
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn edited_pool_annotation_does_not_move_address() {
    let forged = || json!({ "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "z" } } });
    let mut world = World::new([start(), retaining(other())]);
    world.apply(service("s", annotated(REQUEST_POOL, "p")));
    world.apply(service("s", json!({})));
    let mut edited = world.services[&key("s")].clone();
    merge(&mut edited, &forged());
    world.store(key("s"), edited.clone());
    world.sync();
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    // The same if no controller runs during the edit.
    world.services.insert(key("s"), edited);
    world.restart();
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    assert_eq!(world.index.ipam().holders_of("z").len(), 0);
}

#[test]
fn edited_annotation_does_not_move_retained_address() {
    let edit = |world: &mut World, pool: &str| {
        let mut edited = world.services[&key("s")].clone();
        merge(&mut edited, &annotated(names::ALLOCATED_FROM_POOL, pool));
        world.store(key("s"), edited);
        world.sync();
        (world.result("s"), world.pool_of("s"))
    };
    let of_p = ("1.2.3.0".to_owned(), Some("p".to_owned()));
    let closed = || pinned(other(), 0, &["team"]);
    let mut world = World::new([start(), closed()]);
    world.apply(service("s", json!({})));
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"])), closed()]);
    assert_eq!(edit(&mut world, "z"), of_p);
    assert_eq!((counts(&world, "p").2, counts(&world, "z").0), (1, 0));
    world.check_restart("retained");

    let mut world = World::new([]);
    world.set_pools_and_refused([start()], &["r"]);
    world.apply(service("s", json!({})));
    assert_eq!(edit(&mut world, "r"), of_p);
    assert!(world.message("s", names::ALLOCATED).starts_with("True/Allocated"));
    world.check_restart("refused");
}

fn three_pools() -> Vec<Pool> {
    let ranges = [("p", "1.2.3.0-1.2.3.9"), ("q", "5.6.7.0-5.6.7.9"), ("r", "9.9.9.0-9.9.9.9")];
    ranges.map(|(name, range)| retaining(pool(name, &[range]))).into()
}

#[test]
fn last_pool_that_reassigns_takes_its_address_along() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.set_pools([]);
    assert_eq!(world.result("s"), "NoPoolMatches");
}

#[test]
fn addresses_stay_while_all_pools_are_gone() {
    for restart_at in [None, Some(0), Some(1), Some(2)] {
        let mut world = World::new(three_pools());
        for (name, pool) in [("a", "p"), ("b", "q"), ("c", "r")] {
            world.apply(service(name, annotated(REQUEST_POOL, pool)));
        }
        let held = world.results();
        // The definitions are installed again, then the pools come back one after the other.
        for (step, count) in [0, 1, 2].into_iter().enumerate() {
            world.set_pools(three_pools().into_iter().take(count));
            if restart_at == Some(step) {
                world.check_restart("while pools are gone");
            }
            assert_eq!(world.results(), held, "{count} pools, restart at {restart_at:?}");
            assert_eq!(
                world.message("c", names::ALLOCATED),
                "True/PoolGone: keeps 9.9.9.0 from IPAddressPool r: IPAddressPool r does not exist any more"
            );
            // An event of the Service does not release the address.
            world.apply(service("c", annotated("example.org/a", &step.to_string())));
        }
        world.apply(service("new", json!({})));
        world.set_pools(three_pools());
        world.check_restart("after all pools are back");
        assert_eq!(world.result("c"), "9.9.9.0");
        assert!(world.message("c", names::ALLOCATED).starts_with("True/Allocated"), "{restart_at:?}");
        assert_ne!(world.result("new"), "9.9.9.0");
    }
}

#[test]
fn address_that_another_controller_wrote_is_no_orphan() {
    let mut world = World::new([]);
    let shown = json!({
        "metadata": { "annotations": { "metallb.io/ip-allocated-from-pool": "theirs" } },
        "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.0" }] } },
    });
    world.apply(service("s", shown));
    assert_eq!(world.result("s"), "NoPoolMatches");
}
