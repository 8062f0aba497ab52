//! The L2 addresses that a node begins to announce, and why.

use TrafficPolicy::Cluster;

use super::*;

const A: &str = "192.0.2.1";

/// Returns the owner of [`A`] among three nodes, the node that takes over from it, and the plan of that node.
fn successor() -> (World, String, Plan) {
    let mut world = World::of(3).service("web", Cluster, A, "n1").l2(l2_advertisement("ad"));
    let owner = world.l2_nodes(A).remove(0);
    let all = world.live.clone();
    world.live.as_mut().unwrap().remove(&owner);
    // The node itself always counts as live.
    let next = world.l2_nodes(A).into_iter().find(|node| *node != owner).unwrap();
    world.live = all;
    let (mut plan, _) = world.plan_of(&next);
    assert_eq!(plan.take_takeovers(), [], "{next} does not own the address");
    (world, owner, plan)
}

/// Returns the takeovers as `service address cause`.
fn takeovers(plan: &mut Plan) -> Vec<String> {
    plan.changes();
    let takeovers = plan.take_takeovers().into_iter();
    takeovers
        .map(|Takeover { service, address, cause, .. }| format!("{service} {address} {cause:?}"))
        .collect()
}

fn one(cause: TakeoverCause) -> Vec<String> {
    vec![format!("{} {A} {cause:?}", key("web"))]
}

#[test]
fn first_owner_takes_over_from_nobody() {
    let world = World::of(1).service("web", Cluster, A, "n1").l2(l2_advertisement("ad"));
    let mut plan = Plan::new("n1");
    world.list_to(&mut plan);
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::First));
    assert_eq!(takeovers(&mut plan), Vec::<String>::new(), "once");
}

#[test]
fn owner_that_is_no_member_is_gone() {
    let (mut world, owner, mut plan) = successor();
    world.live.as_mut().unwrap().remove(&owner);
    plan.set_live(world.live_names().as_ref());
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::Gone(owner.into())));
}

#[test]
fn owner_that_announced_its_leave_has_left() {
    let (mut world, owner, mut plan) = successor();
    plan.set_departed(&[NodeName::from(owner.as_str())].into());
    world.live.as_mut().unwrap().remove(&owner);
    plan.set_live(world.live_names().as_ref());
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::Left(owner.into())));
}

#[test]
fn excluded_owner_is_unusable() {
    let (world, owner, mut plan) = successor();
    let node = Node { excluded: true, ..world.nodes[&owner].clone() };
    plan.apply_node(owner.as_str().into(), node);
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::Unusable(owner.into())));
}

#[test]
fn owner_without_an_interface_cannot_announce() {
    let (mut world, owner, mut plan) = successor();
    world.interfaces.insert(owner.clone(), "");
    world.set_interfaces(&mut plan);
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::NoInterface(owner.into())));
}

#[test]
fn preferred_node_takes_precedence() {
    let (world, owner, mut plan) = successor();
    let own = plan.own_node().unwrap().labels.clone();
    let own_name = world.nodes.iter().find(|(_, node)| node.labels == own).unwrap().0;
    let preferred_nodes = vec![(100, selector(&format!("name={own_name}")))];
    let world = world.l2(L2Advertisement { preferred_nodes, ..l2_advertisement("ad") });
    plan.set_config(&world.config);
    assert_eq!(takeovers(&mut plan), one(TakeoverCause::Preferred(owner.into())));
}

#[test]
fn sharing_services_are_taken_over_together() {
    let mut world = World::of(1).service("a", Cluster, A, "n1").service("b", Cluster, A, "n1");
    world = world.l2(l2_advertisement("ad"));
    let mut plan = Plan::new("n1");
    world.list_to(&mut plan);
    let expected = ["a", "b"].map(|name| format!("{} {A} {:?}", key(name), TakeoverCause::First));
    assert_eq!(takeovers(&mut plan), expected);
}
