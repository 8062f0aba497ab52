//! Properties of the election of L2 owners: even shares, few moves, no dependence on order.

use std::net::{Ipv4Addr, Ipv6Addr};

use TrafficPolicy::Cluster;

use super::*;

/// Neighboring addresses of both families, as pools offer them.
fn addresses(count: u32) -> Vec<IpAddr> {
    let v4 = (0..count).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0xc0a8_0000 + n)));
    let v6 = (0..u128::from(count)).map(|n| IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + n)));
    v4.chain(v6).collect()
}

/// `nodes` live nodes and one Service for each of the addresses, all announced by L2.
fn world(nodes: usize, addresses: &[IpAddr]) -> World {
    let world = World::of(nodes)
        .pool("large", &["192.168.0.0-192.168.255.255", "fd00::-fd00::ffff"])
        .l2(l2_advertisement("ad"));
    addresses.iter().enumerate().fold(world, |world, (n, address)| {
        world.service(&format!("s{n}"), Cluster, &address.to_string(), "n1")
    })
}

/// The plan of an observer that can announce nothing itself.
fn observer(world: &World) -> Plan {
    let mut plan = Plan::new("observer");
    world.list_to(&mut plan);
    plan.changes();
    plan
}

fn owners(plan: &Plan, addresses: &[IpAddr]) -> Vec<Option<String>> {
    addresses.iter().map(|address| plan.owner(*address).map(str::to_owned)).collect()
}

#[test]
fn every_node_owns_its_share() {
    let addresses = addresses(2_000);
    for count in [2, 3, 5, 50] {
        let plan = observer(&world(count, &addresses));
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for owner in owners(&plan, &addresses) {
            *shares.entry(owner.unwrap()).or_default() += 1;
        }
        let fair = addresses.len() as f64 / count as f64;
        assert_eq!(shares.len(), count);
        for (node, share) in shares {
            // Six standard deviations of a binomial distribution.
            let off = (share as f64 - fair).abs();
            assert!(off < 6.0 * fair.sqrt(), "{node} of {count} owns {share}, the fair share is {fair}");
        }
    }
}

#[test]
fn lost_node_moves_only_its_own_addresses() {
    let addresses = addresses(2_000);
    let all = world(5, &addresses);
    let before = owners(&observer(&all), &addresses);
    for lost in all.nodes.keys() {
        for by_mesh in [true, false] {
            let mut rest = all.clone();
            if by_mesh {
                rest.live.as_mut().unwrap().remove(lost);
            } else {
                rest.nodes.remove(lost);
            }
            // From scratch, and as the difference that a running speaker computes.
            let mut running = observer(&all);
            rest.list_to(&mut running);
            running.changes();
            for plan in [observer(&rest), running] {
                for (before, after) in before.iter().zip(owners(&plan, &addresses)) {
                    assert!(after.is_some() && after.as_ref() != Some(lost), "{lost} is lost");
                    assert!(before.as_ref() == Some(lost) || *before == after, "{before:?} -> {after:?}");
                }
            }
        }
    }
}

#[test]
fn preference_outranks_hash_in_any_order_of_nodes() {
    let addresses = addresses(50);
    let mut world = world(4, &addresses);
    let weights = [(30, selector("name=n2")), (30, selector("name=n3")), (10, selector("name=n4"))];
    world.config.l2_advertisements.get_mut("ad").unwrap().preferred_nodes = weights.into();
    let forwards = owners(&observer(&world), &addresses);
    assert!(forwards.iter().all(|owner| matches!(owner.as_deref(), Some("n2" | "n3"))), "{forwards:?}");

    let mut plan = Plan::new("observer");
    world.list_to(&mut plan);
    plan.reset_nodes(Vec::new());
    plan.changes();
    assert_eq!(owners(&plan, &addresses), vec![None; addresses.len()], "without candidates");
    for (name, node) in world.nodes.iter().rev() {
        plan.apply_node(name.as_str().into(), node.clone());
        plan.changes();
    }
    assert_eq!(owners(&plan, &addresses), forwards);
}

#[test]
fn owner_order_is_the_order_of_succession() {
    let addresses = addresses(10);
    let all = world(4, &addresses);
    for address in &addresses {
        let order = observer(&all).owner_order(*address);
        assert_eq!(order.len(), 4, "{address}");
        let mut rest = all.clone();
        for next in &order {
            assert_eq!(observer(&rest).owner(*address), Some(&**next), "{address}");
            rest.live.as_mut().unwrap().remove(&**next);
        }
    }
}

#[test]
fn inability_does_not_depend_on_the_owner() {
    let mut world = world(3, &addresses(1));
    world.config.l2_advertisements.get_mut("ad").unwrap().node_selectors = vec![selector("name=n2")];
    let address = addresses(1)[0];
    let inability = |node: &str| {
        let (plan, _) = world.plan_of(node);
        plan.l2_inability(&key("s0"), address)
    };
    assert_eq!(inability("n2"), None);
    assert_eq!(inability("n1"), Some(NotAnnouncedReason::NodeNotSelected));
}
