//! Edits of peers: the open session remains, and each node replaces it in its turn.

use std::time::Duration;

use TrafficPolicy::Cluster;

use super::*;

fn world(nodes: usize) -> World {
    World::of(nodes)
        .peer(peer("tor", "203.0.113.1"))
        .peer(peer("other", "203.0.113.2"))
        .service("web", Cluster, "192.0.2.1", "n1")
        .bgp(bgp_advertisement("ad"))
}

/// Returns the changes of one node after an edit, which must lead to the same as a fresh start.
fn changes_of(node: &str, world: &World, edit: impl Fn(&mut World)) -> Vec<AnnouncementChange> {
    let (mut plan, mut announced) = world.plan_of(node);
    let mut edited = world.clone();
    edit(&mut edited);
    edited.list_to(&mut plan);
    let changes = plan.changes();
    announced.carry_out(changes.clone());
    assert_eq!(announced, edited.plan_of(node).1);
    edited.list_to(&mut plan);
    assert_eq!(plan.changes(), []);
    changes
}

fn edit_tor(edit: impl Fn(&mut Peer)) -> impl Fn(&mut World) {
    move |world| edit(world.config.peers.get_mut("tor").unwrap())
}

fn update(name: &str, wanted: Peer, delay: u64) -> AnnouncementChange {
    let delay = Duration::from_secs(delay);
    AnnouncementChange::PeerUpdate { peer: name.into(), wanted: Box::new(wanted), delay }
}

#[test]
fn live_parameter_is_updated_on_all_nodes_at_once() {
    let edit = |tor: &mut Peer| tor.connect_time = Duration::from_secs(7);
    for node in ["n1", "n2", "n3"] {
        let mut wanted = peer("tor", "203.0.113.1");
        edit(&mut wanted);
        assert_eq!(changes_of(node, &world(3), edit_tor(edit)), [update("tor", wanted, 0)]);
    }
}

#[test]
fn edit_that_needs_a_new_session_keeps_the_routes_and_takes_turns() {
    let edit = |tor: &mut Peer| tor.hold_time = Duration::from_secs(30);
    for (node, delay) in [("n1", 0), ("n2", 2), ("n3", 4)] {
        let mut wanted = peer("tor", "203.0.113.1");
        edit(&mut wanted);
        assert_eq!(changes_of(node, &world(3), edit_tor(edit)), [update("tor", wanted, delay)]);
    }
}

/// Given live nodes and the nodes that a peer selects: the turn of n3.
#[test]
fn only_live_nodes_with_the_session_take_turns() {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    for (live, selected, delay) in [
        (names(&["n1", "n2", "n3"]), vec![], 4),
        (names(&["n2", "n3"]), vec![], 2),
        (names(&["n1", "n2", "n3"]), vec!["name=n1", "name=n3"], 2),
        (names(&["n1", "n2", "n3"]), vec!["name=n3"], 0),
        (names(&[]), vec![], 0),
        // Without the mesh, every Node counts.
        (None, vec![], 4),
    ] {
        let mut world = world(3);
        world.live = live.clone();
        let tor = world.config.peers.get_mut("tor").unwrap();
        tor.node_selectors = selected.iter().map(|text| selector(text)).collect();
        let changes = changes_of("n3", &world, edit_tor(|tor| tor.port = 1179));
        let [AnnouncementChange::PeerUpdate { delay: seen, .. }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!(seen.as_secs(), delay, "{live:?}, {selected:?}");
    }
}

#[test]
fn renamed_peer_keeps_its_session_and_routes() {
    let rename = |world: &mut World| {
        let tor = world.config.peers.remove("tor").unwrap();
        world.config.peers.insert("leaf".into(), Peer { name: "leaf".into(), ..tor });
    };
    let wanted = peer("leaf", "203.0.113.1");
    assert_eq!(changes_of("n2", &world(3), rename), [update("tor", wanted, 0)]);
}

#[test]
fn renamed_peer_with_another_hold_time_waits_for_its_turn() {
    let rename = |world: &mut World| {
        let tor = world.config.peers.remove("tor").unwrap();
        let hold_time = Duration::from_secs(30);
        world.config.peers.insert("leaf".into(), Peer { name: "leaf".into(), hold_time, ..tor });
    };
    let wanted = Peer { hold_time: Duration::from_secs(30), ..peer("leaf", "203.0.113.1") };
    assert_eq!(changes_of("n2", &world(3), rename), [update("tor", wanted, 2)]);
}

#[test]
fn renamed_peer_loses_the_routes_of_advertisements_that_list_the_old_name() {
    let mut world = world(1);
    world.config.bgp_advertisements.get_mut("ad").unwrap().peers = ["tor".to_owned()].into();
    let changes = changes_of("n1", &world, |world| {
        let tor = world.config.peers.remove("tor").unwrap();
        world.config.peers.insert("leaf".into(), Peer { name: "leaf".into(), ..tor });
    });
    let [AnnouncementChange::PeerUpdate { .. }, AnnouncementChange::RouteWithdraw { peer, .. }] =
        &changes[..]
    else {
        panic!("{changes:?}")
    };
    assert_eq!(&**peer, "leaf");
}

#[test]
fn changed_families_announce_and_withdraw_over_the_open_session() {
    let world = World::of(1)
        .peer(peer("tor", "203.0.113.1"))
        .service("web", Cluster, "192.0.2.1 2001:db8::1", "n1")
        .bgp(bgp_advertisement("ad"));
    let changes = changes_of("n1", &world, edit_tor(|tor| tor.dual_stack_address_family = true));
    let [AnnouncementChange::PeerUpdate { .. }, AnnouncementChange::RouteAnnounce { prefix, .. }] =
        &changes[..]
    else {
        panic!("{changes:?}")
    };
    assert_eq!(prefix.to_string(), "2001:db8::1/128");
}
