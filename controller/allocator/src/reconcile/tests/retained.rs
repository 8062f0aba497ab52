//! A pool that retains: what an edit takes from its holders they keep until they release it. And what protects a pool that
//! is in use from deletion.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use crate::ipam::{Family, PoolCounts};
use fairlead_test_support::{pinned, pool, retaining, selector};

fn start() -> Pool {
    retaining(pool("p", &["1.2.3.0-1.2.3.9"]))
}

fn other() -> Pool {
    retaining(pool("z", &["9.9.9.0-9.9.9.9"]))
}

/// Open to Services and namespaces with label `tier=web` only.
fn tight(services: bool) -> Pool {
    let mut tight = pinned(start(), 0, &[]);
    let allocation = tight.allocation.as_mut().unwrap();
    let selectors =
        if services { &mut allocation.service_selectors } else { &mut allocation.namespace_selectors };
    selectors.push(selector("tier", "web"));
    tight
}

/// `s` holds 1.2.3.0 of p.
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

/// A restart neither changes nor writes nor tells anything.
fn restart(world: &mut World, what: &str) {
    let before = world.results();
    (world.writes, world.events) = (Vec::new(), Vec::new());
    world.restart();
    assert_eq!((world.results(), world.take_writes(), world.events.len()), (before, 0, 0), "{what}");
}

const IN_POOL: &str = "no longer has this address";
const NAMESPACE: &str = "is no longer open to this namespace";
const LABELS: &str = "is no longer open to Services with these labels";

#[test]
fn an_edit_that_takes_the_address_from_its_holder_is_for_new_allocations_only() {
    let careful = Pool { avoid_buggy_ips: true, ..start() };
    #[rustfmt::skip]
    let cases = [
        ("the pool shrinks over the address", retaining(pool("p", &["1.2.3.5-1.2.3.9"])), IN_POOL, (1, 5, 1), "1.2.3.5"),
        ("the address becomes illegal", careful, IN_POOL, (1, 9, 1), "1.2.3.1"),
        ("the pool goes to another namespace", pinned(start(), 0, &["team"]), NAMESPACE, (1, 9, 1), "9.9.9.0"),
        ("a namespace selector is added", tight(false), NAMESPACE, (1, 9, 1), "9.9.9.0"),
        ("a service selector is added", tight(true), LABELS, (1, 9, 1), "9.9.9.0"),
    ];
    for (what, edited, why, of_p, next) in cases {
        let mut world = holding(json!({}));
        world.set_pools([edited.clone(), other()]);
        let says = format!("True/Retained: keeps 1.2.3.0 from IPAddressPool p: IPAddressPool p {why}");
        assert_eq!(world.result("s"), "1.2.3.0", "{what}");
        assert_eq!(world.pool_of("s").as_deref(), Some("p"), "{what}");
        assert_eq!(world.message("s", names::ALLOCATED), says, "{what}");
        assert_eq!(world.take_writes(), 1, "{what}: the condition");
        assert_eq!(reasons(&mut world), [(true, AllocationReason::Retained)], "{what}");
        assert_eq!(counts(&world, "p"), of_p, "{what}");
        world.reconfigure();
        world.apply(service("s", json!({ "metadata": { "labels": { "unrelated": "edit" } } })));
        assert_eq!((world.take_writes(), reasons(&mut world)), (0, vec![]), "{what}: said once");
        restart(&mut world, what);
        assert_eq!(counts(&world, "p"), of_p, "{what}: after a restart");

        world.apply(service("new", json!({})));
        assert_eq!(world.result("new"), next, "{what}: new ones obey the new pool");
        world.delete("new");
        world.delete("s");
        assert_eq!(counts(&world, "p"), (0, of_p.1 + u128::from(why != IN_POOL), 0), "{what}: released");
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), next, "{what}: what was released is not had again");
    }
}

#[test]
fn who_no_longer_matches_the_selectors_keeps_its_address_too() {
    let labelled = json!({ "metadata": { "labels": { "tier": "web" } } });
    let mut world = holding(labelled.clone());
    world.set_pools([tight(true), other()]);
    assert_eq!(world.take_writes(), 0, "it matches");
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(
        world.message("s", names::ALLOCATED).ends_with(LABELS),
        "{}",
        world.message("s", names::ALLOCATED)
    );
    restart(&mut world, "relabelled Service");
    world.apply(service("s", labelled));
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    assert_eq!(counts(&world, "p"), (1, 9, 0));

    world.set_pools([tight(false), other()]);
    assert!(world.message("s", names::ALLOCATED).ends_with(NAMESPACE));
    world.namespace("default", &[("tier", "web")]);
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
    world.namespace("default", &[]);
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(world.message("s", names::ALLOCATED).ends_with(NAMESPACE));
    restart(&mut world, "relabelled namespace");
}

#[test]
fn when_the_pool_grows_back_nothing_is_retained() {
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
    assert_eq!(world.result("new"), "1.2.3.1", "what is held is not free");
    restart(&mut world, "grown back");
}

#[test]
fn a_pool_that_takes_the_range_over_has_the_holders_too_unless_the_old_one_retains_them() {
    let rest = || retaining(pool("p", &["1.2.3.5-1.2.3.9"]));
    let taken = || pool("q", &["1.2.3.0-1.2.3.4"]);
    let share = |port: u16| {
        json!({
            "metadata": { "annotations": { "fairlead.dev/allow-shared-ip": "k" } },
            "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
        })
    };
    #[rustfmt::skip]
    let cases = [
        ("renamed", vec![retaining(pool("q", &["1.2.3.0-1.2.3.9"]))], "q", "True/Allocated"),
        ("renamed, and reassigns", vec![pool("q", &["1.2.3.0-1.2.3.9"])], "q", "True/Allocated"),
        ("split", vec![rest(), retaining(taken())], "p", "True/Retained"),
        ("split, and p reassigns", vec![Pool { reclaim: fairlead_crds::model::config::Reclaim::Reassign, ..rest() }, taken()], "q", "True/Allocated"),
        ("split, and q is not open to them", vec![rest(), pinned(taken(), 0, &["team"])], "p", "True/Retained"),
    ];
    for (what, new, of, says) in cases {
        let mut world = holding(share(80));
        world.apply(service("t", share(81)));
        assert_eq!(world.result("t"), "1.2.3.0");
        world.take_writes();
        world.set_pools(new);
        for name in ["s", "t"] {
            assert_eq!(world.result(name), "1.2.3.0", "{what}");
            assert_eq!(world.pool_of(name).as_deref(), Some(of), "{what}");
            let message = world.message(name, names::ALLOCATED);
            assert!(message.starts_with(says), "{what}: {message}");
        }
        assert_eq!(world.take_writes(), 2, "{what}: the annotation or the condition");
        restart(&mut world, what);
        assert_eq!(counts(&world, of).0, 1, "{what}");
        world.delete("s");
        world.delete("t");
        assert_eq!(counts(&world, of), (0, counts(&world, of).1, 0), "{what}");
        assert_eq!(world.index.ipam().holders_of(of).len(), 0, "{what}");
    }
}

#[test]
fn of_two_families_one_may_be_retained() {
    let dual = families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.9", "1::1-1::9"]))]);
    world.apply(service("s", dual));
    world.set_pools([retaining(pool("p", &["1.2.3.0-1.2.3.9"]))]);
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    assert_eq!(
        world.message("s", names::ALLOCATED),
        "True/Retained: keeps 1.2.3.0 and 1::1 from IPAddressPool p: IPAddressPool p no longer has this address"
    );
    assert_eq!(world.index.ipam().counts("p", Family::V6).retained, 1);
    assert_eq!(world.index.ipam().counts("p", Family::V4).retained, 0);
    restart(&mut world, "one of two");
    world.apply(service("s", json!({})));
    assert_eq!((world.result("s").as_str(), counts(&world, "p")), ("1.2.3.0", (1, 9, 0)));
}

#[test]
fn an_edit_of_the_service_gives_a_retained_address_up() {
    let mut world = holding(json!({}));
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"])), other()]);
    world.apply(service("s", annotated("fairlead.dev/address-pool", "p")));
    assert_eq!(world.result("s"), "1.2.3.0", "it is of p");
    world.apply(service("s", annotated("fairlead.dev/address-pool", "z")));
    assert_eq!(world.result("s"), "9.9.9.0");
    assert_eq!(counts(&world, "p"), (0, 5, 0));
    world.apply(service("s", annotated("fairlead.dev/load-balancer-ips", "1.2.3.0")));
    assert_eq!(world.result("s"), "AddressNotInPool", "and does not get it again");
}

#[test]
fn a_pool_that_is_being_deleted_gives_nothing_more_and_takes_nothing_away() {
    let deleting = || Pool { closed: Some(Closed::Deleting), ..start() };
    let mut world = holding(json!({}));
    world.set_pools([deleting()]);
    assert_eq!((world.result("s").as_str(), world.take_writes()), ("1.2.3.0", 0));
    for (name, with, reason) in [
        ("named", annotated("fairlead.dev/address-pool", "p"), "PoolDeleting"),
        ("address", annotated("fairlead.dev/load-balancer-ips", "1.2.3.4"), "PoolDeleting"),
        ("automatic", json!({}), "NoPoolMatches"),
    ] {
        world.apply(service(name, with));
        assert_eq!(world.result(name), reason);
        let message = world.message(name, names::ALLOCATED);
        assert!(message.contains("p is being deleted"), "{message}");
    }
    restart(&mut world, "being deleted");
    // A pool with the same range is in force in its place: the holders go over to it, and nothing blocks the deletion.
    world.set_pools_and_refused([retaining(pool("q", &["1.2.3.0-1.2.3.9"]))], &[]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("q")));
    // And where nobody takes over, they lose it when the pool is gone.
    let mut world = holding(json!({}));
    world.set_pools([deleting(), other()]);
    world.set_pools([other()]);
    assert_eq!(world.result("s"), "9.9.9.0");
}

#[test]
fn a_pool_in_deletion_that_overlaps_another_keeps_its_holders_until_it_goes() {
    let mut world = holding(json!({}));
    let going = Pool { closed: Some(Closed::Deleting), ..start() };
    world.config.refused_pools = pools([going]);
    let q = || retaining(pool("q", &["1.2.3.0-1.2.3.9"]));
    world.set_pools([q(), other()]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    world.apply(service("new", annotated("fairlead.dev/address-pool", "q")));
    assert_eq!(world.result("new"), "1.2.3.1", "what is held is not free");
    restart(&mut world, "both are there");
    world.set_pools_and_refused([q(), other()], &[]);
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("q")));
    restart(&mut world, "handed over");
}

#[test]
fn a_pool_in_deletion_keeps_those_to_whom_the_one_that_takes_over_is_not_open() {
    let mut world = holding(json!({}));
    let going = Pool { closed: Some(Closed::Deleting), ..retaining(pool("p", &["1.2.3.5-1.2.3.9"])) };
    world.set_pools([going, pinned(pool("q", &["1.2.3.0-1.2.3.4"]), 0, &["team"]), other()]);
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn an_annotation_edited_by_hand_makes_no_address_one_of_another_pool() {
    let forged = || json!({ "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "z" } } });
    let mut world = World::new([start(), retaining(other())]);
    world.apply(service("s", annotated("fairlead.dev/address-pool", "p")));
    world.apply(service("s", json!({})));
    let mut edited = world.services[&key("s")].clone();
    merge(&mut edited, &forged());
    world.store(key("s"), edited.clone());
    world.sync();
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    // Nor while no controller runs.
    world.services.insert(key("s"), edited);
    world.restart();
    assert_eq!((world.result("s").as_str(), world.pool_of("s").as_deref()), ("1.2.3.0", Some("p")));
    assert_eq!(world.index.ipam().holders_of("z").len(), 0);
}

#[test]
fn nor_does_it_where_the_address_is_retained_or_the_pool_is_refused() {
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
    restart(&mut world, "retained");

    let mut world = World::new([]);
    world.set_pools_and_refused([start()], &["r"]);
    world.apply(service("s", json!({})));
    assert_eq!(edit(&mut world, "r"), of_p);
    assert!(world.message("s", names::ALLOCATED).starts_with("True/Allocated"));
    restart(&mut world, "refused");
}
