//! Which announcements are first ones, which are probed, and addresses that another host has.

use std::time::Instant;

use TrafficPolicy::Cluster;
use fairlead_l2::Conflict;
use jiff::Timestamp;

use super::*;

const A: &str = "192.0.2.1";

fn world() -> World {
    World::of(3).l2(l2_advertisement("ad"))
}

/// The plan of a node that has settled before the Service with [`A`] came, with its last changes.
fn settled(node: &str) -> (World, Plan) {
    let before = world();
    let mut plan = Plan::new(node);
    plan.enable_probes();
    before.list_to(&mut plan);
    plan.changes();
    let world = before.service("web", Cluster, A, "n1");
    (world, plan)
}

fn owner() -> String {
    world().service("web", Cluster, A, "n1").l2_nodes(A).remove(0)
}

fn probes(changes: &[AnnouncementChange]) -> Vec<bool> {
    let claims = changes.iter().filter_map(|change| match change {
        AnnouncementChange::L2Announce { claim, .. } => Some(claim.probe),
        _ => None,
    });
    claims.collect()
}

fn conflict() -> Conflict {
    let claimant = Some([2, 0, 0, 0, 0, 0xaa]);
    Conflict { address: ip(A), claimant, interface: "eth0".to_owned(), is_left: true }
}

fn state(plan: &Plan) -> String {
    plan.state(&key("web"), ip(A), Protocol::L2).unwrap().to_string()
}

#[test]
fn new_address_on_settled_node_is_probed() {
    let (world, mut plan) = settled(&owner());
    world.list_to(&mut plan);
    assert_eq!(probes(&plan.changes()), [true]);
    assert_eq!((state(&plan).as_str(), plan.l2_announced()), ("AddressProbing", 0));
    assert_eq!(plan.problems().len(), 0, "it is expected");
    assert_eq!(plan.take_takeovers(), [], "it is not announced yet");
    assert!(plan.announced_list().l2.encode().0.is_empty());
    plan.confirm_address(ip(A));
    assert_eq!(plan.changes(), [], "the responder announces it");
    assert_eq!((state(&plan).as_str(), plan.l2_announced()), ("Announced", 1));
    let causes: Vec<_> = plan.take_takeovers().into_iter().map(|takeover| takeover.cause).collect();
    assert_eq!(causes, [TakeoverCause::First]);
}

#[test]
fn first_election_after_the_start_probes_nothing() {
    let world = world().service("web", Cluster, A, "n1");
    let mut plan = Plan::new(owner().as_str());
    plan.enable_probes();
    world.list_to(&mut plan);
    plan.set_live(None);
    plan.changes();
    plan.set_live(world.live_names().as_ref());
    assert_eq!(probes(&plan.changes()), [false]);
    assert_eq!(state(&plan), "Announced");
}

#[test]
fn takeover_probes_nothing() {
    let owner = owner();
    let (plan, _) = world().service("web", Cluster, A, "n1").plan_of(&owner);
    let next = plan.owner_order(ip(A)).remove(1);
    let (mut world, mut plan) = settled(&next);
    world.list_to(&mut plan);
    assert!(probes(&plan.changes()).is_empty());
    world.live.as_mut().unwrap().remove(&owner);
    plan.set_live(world.live_names().as_ref());
    assert_eq!(probes(&plan.changes()), [false]);
}

#[test]
fn address_that_was_announced_before_is_not_probed_again() {
    let (world, mut plan) = settled(&owner());
    world.list_to(&mut plan);
    plan.changes();
    plan.confirm_address(ip(A));
    plan.changes();
    plan.reset_slices(Vec::new());
    plan.changes();
    world.list_to(&mut plan);
    assert_eq!(probes(&plan.changes()), [false], "its endpoints were away");
    plan.delete_service(&key("web"));
    plan.changes();
    world.list_to(&mut plan);
    assert_eq!(probes(&plan.changes()), [true], "another Service may have it now");
}

#[test]
fn address_of_another_host_is_not_announced_until_it_is_free() {
    let (world, mut plan) = settled(&owner());
    world.list_to(&mut plan);
    plan.changes();
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let (services, new) = plan.handle_conflict(now, at, conflict()).unwrap();
    assert_eq!((services.len(), new.to_string()), (1, "the host 02:00:00:00:00:aa on eth0".to_owned()));
    assert_eq!(plan.handle_conflict(now, at, conflict()), None, "the same");
    assert_eq!(plan.changes(), []);
    assert_eq!((state(&plan).as_str(), plan.l2_announced()), ("AddressInUse", 0));
    assert_eq!((plan.problems().len(), plan.conflicts().iter().len()), (1, 1));
    // Its endpoints go and come: it is probed again, not announced.
    plan.reset_slices(Vec::new());
    assert!(matches!(plan.changes()[..], [AnnouncementChange::L2Withdraw { .. }]));
    assert_eq!(plan.conflicts().iter().len(), 0);
    world.list_to(&mut plan);
    assert_eq!(probes(&plan.changes()), [true]);
    plan.handle_conflict(now, at, conflict());
    plan.confirm_address(ip(A));
    plan.changes();
    assert_eq!((state(&plan).as_str(), plan.l2_announced()), ("Announced", 1));
    assert_eq!(plan.conflicts().iter().len(), 0);
}

#[test]
fn keep_takes_precedence_over_yield() {
    use fairlead_crds::model::config::OnConflict::{Keep, Yield};
    for (a, b, expected) in [
        (Yield, Yield, fairlead_l2::OnConflict::Yield),
        (Yield, Keep, fairlead_l2::OnConflict::Keep),
        (Keep, Keep, fairlead_l2::OnConflict::Keep),
    ] {
        let ad = |name, on_conflict| L2Advertisement { on_conflict, ..l2_advertisement(name) };
        let world = World::of(1).service("web", Cluster, A, "n1").l2(ad("a", a)).l2(ad("b", b));
        let mut plan = Plan::new("n1");
        world.list_to(&mut plan);
        match &plan.changes()[..] {
            [AnnouncementChange::L2Announce { claim, .. }] => assert_eq!(claim.on_conflict, expected),
            changes => panic!("{changes:?}"),
        }
    }
}
