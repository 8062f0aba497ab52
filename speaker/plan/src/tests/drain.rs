//! What a node announces while it is being drained.

use std::time::{Duration, Instant};

use super::*;
use crate::{DrainCause, DrainPhase};

/// Two nodes that announce 192.0.2.1 by L2 and by BGP. The owner is n1.
fn world() -> World {
    let preferred = (10, selector("name=n1"));
    World::of(2)
        .service("web", TrafficPolicy::Cluster, "192.0.2.1", "n1 n2")
        .l2(L2Advertisement { preferred_nodes: vec![preferred], ..l2_advertisement("l2") })
        .bgp(bgp_advertisement("ad"))
        .peer(peer("tor", "203.0.113.254"))
}

fn set_drain(plan: &mut Plan, name: &str, drain: Option<DrainCause>) {
    let node = Node { drain, ..world().nodes[name].clone() };
    plan.apply_node(name.into(), node);
}

/// A plan of n1 that announces, and its time.
struct Draining {
    plan: Plan,
    announced: Announced,
    now: Instant,
}

impl Draining {
    fn new() -> Self {
        let now = Instant::now();
        let mut plan = Plan::new("n1");
        plan.set_drain_wait(Duration::from_secs(2));
        plan.set_time(now);
        world().list_to(&mut plan);
        let mut draining = Self { plan, announced: Announced::default(), now };
        draining.changes();
        draining
    }

    fn changes(&mut self) -> Vec<AnnouncementChange> {
        self.plan.set_time(self.now);
        let changes = self.plan.changes();
        self.announced.carry_out(changes.clone());
        changes
    }

    fn wait_for_timeout(&mut self) -> Vec<AnnouncementChange> {
        self.now = self.plan.poll_timeout().unwrap();
        self.changes()
    }
}

#[test]
fn addresses_move_first_and_routes_after_the_wait() {
    let mut node = Draining::new();
    assert_eq!((node.announced.l2.len(), node.announced.routes.len()), (1, 1));
    set_drain(&mut node.plan, "n1", Some(DrainCause::Label));
    let start = node.now;
    let changes = node.changes();
    // The other node takes the address, and this one can still serve it.
    assert_eq!(
        changes,
        [
            AnnouncementChange::GracefulShutdown(true),
            AnnouncementChange::L2Withdraw { address: ip("192.0.2.1"), handover: true },
        ]
    );
    assert_eq!(node.plan.owner(ip("192.0.2.1")), Some("n2"));
    assert_eq!(node.announced.routes.len(), 1);
    assert_eq!(node.plan.node_reason(), Some(NotAnnouncedReason::NodeDraining));
    assert_eq!(node.plan.drain_phase(), DrainPhase::Deprioritized);

    let changes = node.wait_for_timeout();
    assert_eq!(node.now - start, Duration::from_secs(2));
    assert!(matches!(changes[..], [AnnouncementChange::RouteWithdraw { .. }]), "{changes:?}");
    assert_eq!(node.announced.peers.len(), 1, "the session remains");
    assert_eq!((node.plan.l2_announced(), node.plan.bgp_announced()), (0, 0));
    assert_eq!(node.plan.problems().len(), 0, "another node announces the address");
    assert_eq!(node.wait_for_timeout(), []);
    assert_eq!((node.plan.drain_phase(), node.plan.poll_timeout()), (DrainPhase::Drained, None));

    set_drain(&mut node.plan, "n1", None);
    let changes = node.changes();
    assert_eq!(changes[0], AnnouncementChange::GracefulShutdown(false));
    assert_eq!((node.announced.l2.len(), node.announced.routes.len()), (1, 1));
}

#[test]
fn drain_that_ends_during_the_wait_keeps_routes() {
    let mut node = Draining::new();
    set_drain(&mut node.plan, "n1", Some(DrainCause::Cordoned));
    node.changes();
    node.now += Duration::from_secs(1);
    set_drain(&mut node.plan, "n1", None);
    assert_eq!(
        node.changes(),
        [
            AnnouncementChange::GracefulShutdown(false),
            AnnouncementChange::L2Announce {
                address: ip("192.0.2.1"),
                interfaces: InterfaceSet::All,
                claim: fairlead_l2::Claim { is_planned: true, ..Default::default() },
            },
        ]
    );
    assert_eq!(node.plan.poll_timeout(), None);
}

#[test]
fn other_nodes_take_addresses_of_drained_node() {
    let (mut plan, mut announced) = world().plan_of("n2");
    assert!(announced.l2.is_empty());
    set_drain(&mut plan, "n1", Some(DrainCause::OutOfService));
    announced.carry_out(plan.changes());
    assert_eq!(announced.l2.len(), 1);
    // Another cause changes nothing.
    set_drain(&mut plan, "n1", Some(DrainCause::ShuttingDown));
    assert_eq!(plan.changes(), []);
}

#[test]
fn speaker_that_starts_on_drained_node_announces_nothing() {
    let mut plan = Plan::new("n1");
    plan.set_time(Instant::now());
    world().list_to(&mut plan);
    set_drain(&mut plan, "n1", Some(DrainCause::Label));
    let changes = plan.changes();
    let opened = |change: &AnnouncementChange| matches!(change, AnnouncementChange::PeerOpen(_));
    assert_eq!(changes[0], AnnouncementChange::GracefulShutdown(true));
    assert!(changes.len() == 2 && opened(&changes[1]), "{changes:?}");
    assert_eq!(plan.drain_phase(), DrainPhase::Withdrawn);
}
