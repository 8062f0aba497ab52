//! Each address of a dual-stack Service follows the endpoints of its own family.

use TrafficPolicy::{Cluster, Local};

use super::*;

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

/// Three nodes that announce a dual-stack Service by L2 and BGP; L2 prefers n1, then n2.
fn world(policy: TrafficPolicy, endpoints: &str) -> World {
    let mut tor = peer("tor", "203.0.113.1");
    tor.dual_stack_address_family = true;
    let preferred_nodes = vec![(90, selector("name=n1")), (50, selector("name=n2"))];
    World::of(3)
        .peer(tor)
        .l2(L2Advertisement { preferred_nodes, ..l2_advertisement("ad") })
        .bgp(bgp_advertisement("ad"))
        .service("web", policy, &format!("{V4} {V6}"), endpoints)
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Given a policy and the nodes with endpoints: for each family, the L2 owner and the nodes that announce by
/// BGP.
#[test]
fn each_family_follows_its_own_endpoints() {
    let table = [
        (Cluster, "n3", ("n1", "n1 n2 n3"), ("n1", "n1 n2 n3")),
        (Cluster, "n3/v4", ("n1", "n1 n2 n3"), ("", "")),
        (Cluster, "n3/v6", ("", ""), ("n1", "n1 n2 n3")),
        (Cluster, "n3/v4!", ("n1", "n1 n2 n3"), ("", "")),
        (Cluster, "", ("", ""), ("", "")),
        (Local, "n3/v4 n2/v6", ("n3", "n3"), ("n2", "n2")),
        (Local, "n1/v6 n2 n3/v4", ("n2", "n2 n3"), ("n1", "n1 n2")),
        (Local, "n1/v4", ("n1", "n1"), ("", "")),
        // Endpoints that are terminating count only while no other one is ready.
        (Local, "n1! n2", ("n2", "n2"), ("n2", "n2")),
        (Local, "n1! n3", ("n3", "n3"), ("n3", "n3")),
        (Local, "n1! n3!", ("n1", "n1 n3"), ("n1", "n1 n3")),
        (Local, "n1! n1 n2", ("n1", "n1 n2"), ("n1", "n1 n2")),
        (Local, "n1! n2/v4", ("n2", "n2"), ("n1", "n1")),
        (Cluster, "n1! n2", ("n1", "n1 n2 n3"), ("n1", "n1 n2 n3")),
    ];
    for (policy, endpoints, v4, v6) in table {
        let world = world(policy, endpoints);
        for (address, prefix, (owner, announcing)) in [(V4, "192.0.2.1/32", v4), (V6, "2001:db8::1/128", v6)]
        {
            let what = format!("{policy:?}, endpoints on {endpoints:?}: {address}");
            assert_eq!(world.l2_nodes(address), words(owner), "{what} by L2");
            assert_eq!(world.bgp_nodes("tor", prefix), words(announcing), "{what} by BGP");
        }
    }
}

#[test]
fn family_without_endpoints_is_a_problem_of_its_address() {
    let (plan, announced) = world(Cluster, "n1/v4").plan_of("n1");
    assert_eq!(announced.l2.keys().copied().collect::<Vec<_>>(), [ip(V4)]);
    let problems: Vec<_> = plan.problems().map(|p| (p.address, p.protocol, p.reason)).collect();
    assert_eq!(problems, [(ip(V6), None, NotAnnouncedReason::NoEndpointsOfFamily)]);
}

#[test]
fn node_with_terminating_endpoints_hands_over() {
    let mut world = world(Local, "n1!");
    let (mut plan, announced) = world.plan_of("n1");
    assert_eq!((announced.l2.len(), announced.routes.len()), (2, 2), "nothing else can serve");
    world.endpoints.insert("web".into(), vec!["n1!".into(), "n2".into()]);
    world.list_to(&mut plan);
    let changes = plan.changes();
    let handed_over =
        changes.iter().filter(|c| matches!(c, AnnouncementChange::L2Withdraw { handover: true, .. }));
    assert_eq!(handed_over.count(), 2, "{changes:?}");
}

#[test]
fn ready_endpoint_on_an_ineligible_node_moves_nothing_by_l2() {
    let mut world = world(Local, "n1! n2");
    world.nodes.get_mut("n2").unwrap().excluded = true;
    assert_eq!(world.l2_nodes(V4), ["n1"]);
    world.live.as_mut().unwrap().remove("n2");
    world.nodes.get_mut("n2").unwrap().excluded = false;
    assert!(world.plan_of("n1").1.l2.contains_key(&ip(V4)));
}

#[test]
fn services_on_one_address_outrank_ready_endpoints() {
    let world = world(Local, "n1! n2!").service("mail", Local, V4, "n1! n3");
    assert_eq!(world.l2_nodes(V4), ["n1"], "serves both Services");
}
