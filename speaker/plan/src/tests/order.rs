//! The order of changes: announcements come before withdrawals.

use TrafficPolicy::Cluster;

use super::*;

fn world() -> World {
    let world = World::of(1).peer(peer("tor", "203.0.113.1"));
    world.l2(l2_advertisement("l2")).bgp(bgp_advertisement("bgp")).service("web", Cluster, "192.0.2.1", "n1")
}

fn is_withdrawal(change: &AnnouncementChange) -> bool {
    matches!(change, AnnouncementChange::RouteWithdraw { .. } | AnnouncementChange::L2Withdraw { .. })
}

fn changes_after(edit: fn(&mut World)) -> Vec<AnnouncementChange> {
    let mut world = world();
    let (mut plan, _) = world.plan_of("n1");
    edit(&mut world);
    world.list_to(&mut plan);
    plan.changes()
}

#[test]
fn announcements_precede_withdrawals() {
    type Edit = fn(&mut World);
    let table: [(&str, Edit); 3] = [
        ("a Service with another address", |w| {
            w.services.get_mut("web").unwrap().addresses = vec![ip("192.0.2.2")];
        }),
        ("another aggregate", |w| {
            w.config.bgp_advertisements.get_mut("bgp").unwrap().aggregation_length = 24;
        }),
        ("one Service deleted, another added", |w| {
            let service = w.services.remove("web").unwrap();
            w.services.insert("mail".into(), Service { addresses: vec![ip("192.0.2.3")], ..service });
            w.endpoints.insert("mail".into(), vec!["n1".into()]);
        }),
    ];
    for (what, edit) in table {
        let changes = changes_after(edit);
        assert!(changes.iter().any(is_withdrawal), "{what}: {changes:?}");
        assert!(!changes.iter().all(is_withdrawal), "{what}: {changes:?}");
        assert!(changes.is_sorted_by_key(is_withdrawal), "{what}: {changes:?}");
    }
}

#[test]
fn address_moved_between_services_stays_announced() {
    let changes = changes_after(|w| {
        let service = w.services.remove("web").unwrap();
        w.services.insert("mail".into(), service);
        w.endpoints.insert("mail".into(), vec!["n1".into()]);
    });
    assert_eq!(changes, []);
}

#[test]
fn renamed_peer_with_another_port_is_closed_before_it_is_opened() {
    let changes = changes_after(|w| {
        let peer = w.config.peers.remove("tor").unwrap();
        w.config.peers.insert("leaf".into(), Peer { name: "leaf".into(), port: 1179, ..peer });
    });
    let at = |wanted: fn(&AnnouncementChange) -> bool| changes.iter().position(wanted).unwrap();
    assert!(
        at(|c| matches!(c, AnnouncementChange::PeerClose { .. }))
            < at(|c| matches!(c, AnnouncementChange::PeerOpen(_)))
    );
}

#[test]
fn replaced_peer_is_closed_after_the_new_one_has_routes() {
    let changes = changes_after(|w| {
        w.config.peers = [("leaf".into(), peer("leaf", "203.0.113.2"))].into();
    });
    let at = |wanted: fn(&AnnouncementChange) -> bool| changes.iter().position(wanted).unwrap();
    assert!(
        at(|c| matches!(c, AnnouncementChange::RouteAnnounce { .. }))
            < at(|c| matches!(c, AnnouncementChange::PeerClose { .. }))
    );
}
