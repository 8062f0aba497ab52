//! The interfaces of the nodes take part in the election.

use TrafficPolicy::Cluster;

use super::*;

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

fn listing(name: &str, interfaces: &[&str]) -> L2Advertisement {
    let interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
    L2Advertisement { interfaces, ..l2_advertisement(name) }
}

/// Three nodes with these interfaces (`?` if unknown), and a Service with an address of each family.
fn world(interfaces: [&'static str; 3], ads: &[L2Advertisement]) -> World {
    let mut world = World::of(3).service("web", Cluster, &format!("{V4} {V6}"), "n1");
    for (node, interfaces) in ["n1", "n2", "n3"].into_iter().zip(interfaces) {
        if interfaces != "?" {
            world.interfaces.insert(node.to_owned(), interfaces);
        }
    }
    ads.iter().cloned().fold(world, World::l2)
}

/// Given the interfaces of three nodes and the interfaces that advertisements list: the nodes among which the
/// owner is, for each family. All nodes agree, and exactly one announces.
#[test]
fn owner_has_a_listed_interface_of_the_family() {
    let all = "n1 n2 n3";
    let one = |interfaces: &[&str]| vec![listing("a", interfaces)];
    let two = vec![listing("a", &["eth1"]), listing("b", &["eth2"])];
    let table = [
        (["eth0", "eth0", "eth0"], one(&[]), all, all),
        (["eth0", "eth0 eth1", "eth0"], one(&["eth1"]), "n2", "n2"),
        (["eth0", "eth0 eth1", "eth1"], one(&["eth1"]), "n2 n3", "n2 n3"),
        (["eth0", "eth0", "eth0"], one(&["eth1"]), "", ""),
        (["eth0/v4", "eth0", "eth0/v6"], one(&[]), "n1 n2", "n2 n3"),
        (["eth0/v4", "eth0/v4", "eth0/v4"], one(&[]), all, ""),
        (["", "eth0", ""], one(&[]), "n2", "n2"),
        (["eth1", "eth2", "eth0"], two.clone(), "n1 n2", "n1 n2"),
        (["eth1/v4", "eth2/v6", "eth0"], two, "n1", "n2"),
        // A node of which nothing is known counts as able on every interface.
        (["eth0", "?", "eth0"], one(&["eth1"]), "n2", "n2"),
        (["?", "?", "?"], one(&["eth1"]), all, all),
    ];
    for (interfaces, ads, v4, v6) in table {
        let world = world(interfaces, &ads);
        for (address, among) in [(V4, v4), (V6, v6)] {
            let what = format!("{interfaces:?} {address}");
            let nodes = world.l2_nodes(address);
            assert_eq!(nodes.len(), usize::from(!among.is_empty()), "{what}: {nodes:?}");
            assert!(nodes.iter().all(|node| among.split(' ').any(|name| name == node)), "{what}: {nodes:?}");
            for node in ["n1", "n2", "n3"] {
                let (plan, _) = world.plan_of(node);
                assert_eq!(plan.owner(ip(address)), nodes.first().map(String::as_str), "{what}");
                let order: BTreeSet<String> =
                    plan.owner_order(ip(address)).iter().map(ToString::to_string).collect();
                assert_eq!(order, among.split_whitespace().map(str::to_owned).collect(), "{what}");
            }
        }
    }
}

#[test]
fn lost_interface_moves_the_address_and_its_return_moves_it_back() {
    let mut world = world(["eth0 eth1"; 3], &[listing("a", &["eth1"])]);
    let owner = world.l2_nodes(V4).remove(0);
    let mut plans: Vec<_> = ["n1", "n2", "n3"].iter().map(|node| world.plan_of(node)).collect();
    let mut announcing = |world: &World| {
        let mut nodes = Vec::new();
        for (plan, announced) in &mut plans {
            world.set_interfaces(plan);
            announced.carry_out(plan.changes());
            if announced.l2.contains_key(&ip(V4)) {
                nodes.push(plan.own_name().to_string());
            }
        }
        nodes
    };
    assert_eq!(announcing(&world), [owner.as_str()]);
    world.interfaces.insert(owner.clone(), "eth0");
    let moved = announcing(&world);
    assert!(moved.len() == 1 && moved[0] != owner, "{moved:?}");
    world.interfaces.insert(owner.clone(), "eth0 eth1");
    assert_eq!(announcing(&world), [owner]);
}

/// A node without the interface is no problem while another one announces the address.
#[test]
fn missing_interface_is_a_problem_only_without_an_owner() {
    let state = |interfaces, node: &str| {
        let (plan, _) = world(interfaces, &[listing("a", &["eth1"])]).plan_of(node);
        let inability = plan.l2_inability(&key("web"), ip(V4));
        (plan.state(&key("web"), ip(V4), Protocol::L2), inability, plan.problems().len())
    };
    let not = AnnouncementState::Not;
    let missing = Some(NotAnnouncedReason::NoMatchingInterface);
    assert_eq!(state(["eth0", "eth1", "eth0"], "n1"), (Some(not(NotAnnouncedReason::NotOwner)), missing, 0));
    assert_eq!(state(["eth0", "eth1", "eth0"], "n2"), (Some(AnnouncementState::Announced), None, 0));
    assert_eq!(
        state(["eth0"; 3], "n1"),
        (Some(not(NotAnnouncedReason::NoMatchingInterface)), missing, 2),
        "both families"
    );
}
