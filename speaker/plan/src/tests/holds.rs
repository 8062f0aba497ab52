//! Addresses whose announcement waits: for the data path, and after a withdrawal.

use std::time::{Duration, Instant};

use fairlead_crds::model::config::AnnounceWhen;

use super::*;
use crate::{FamilyProgress, ProbeAnswer, ProxyProgress, WallClock};
use NotAnnouncedReason::{
    DataPathNotReady, DataPathPending, LocalEndpointsTerminating, NoLocalEndpoints, WithdrawnRecently,
};

const A: &str = "192.0.2.1";

/// The plan of n1 in simulated time. The Service `web` has the policy Local.
struct Speaker {
    world: World,
    plan: Plan,
    announced: Announced,
    start: Instant,
    now: Instant,
}

impl Speaker {
    /// Starts with endpoints on these nodes.
    fn new(ad: BgpAdvertisement, endpoints: &str) -> Self {
        Self::on_node_up_for(Duration::from_secs(3600), ad, endpoints)
    }

    /// Starts on a node that booted this long ago.
    fn on_node_up_for(uptime: Duration, ad: BgpAdvertisement, endpoints: &str) -> Self {
        let now = Instant::now() + Duration::from_secs(1000);
        let world = World::of(2)
            .peer(Peer { dual_stack_address_family: true, ..peer("tor", "203.0.113.254") })
            .bgp(ad);
        let world = world.service("web", TrafficPolicy::Local, A, endpoints);
        let mut plan = Plan::new("n1");
        plan.set_data_path_wait(Duration::from_secs(30), uptime);
        plan.set_time(now);
        world.list_to(&mut plan);
        let mut node = Self { world, plan, announced: Announced::default(), start: now, now };
        let _ = node.at(0);
        node
    }

    /// Lets time pass until `ms` after the start. Returns the state of the address.
    fn at(&mut self, ms: u64) -> Result<(), NotAnnouncedReason> {
        self.now = self.start + Duration::from_millis(ms);
        self.plan.set_time(self.now);
        self.announced.carry_out(self.plan.changes());
        let state = self.plan.state(&key("web"), ip(A), Protocol::Bgp).unwrap();
        assert_eq!(self.announced.routes.is_empty(), state != AnnouncementState::Announced, "at {ms} ms");
        match state {
            AnnouncementState::Announced => Ok(()),
            AnnouncementState::Not(reason) => Err(reason),
        }
    }

    /// Replaces the nodes with an endpoint.
    fn endpoints(&mut self, nodes: &str) {
        let nodes = nodes.split_whitespace().map(str::to_owned).collect();
        self.world.endpoints.insert("web".to_owned(), nodes);
        for (key, slice) in self.world.slices("web") {
            self.plan.apply_slice(key, slice);
        }
    }

    fn set_ad(&mut self, ad: BgpAdvertisement) {
        self.world.config.bgp_advertisements.insert(ad.name.clone(), ad);
        self.plan.set_config(&self.world.config);
    }

    /// Answers a probe at this time: when kube-proxy queued the last change and ended the last sync, in ms
    /// after the start.
    fn answer(&mut self, queued: u64, synced: u64) {
        let epoch = Duration::from_secs(1_764_000_000);
        let clock = WallClock { at: self.now, unix: epoch + (self.now - self.start) };
        let time = |ms| Some(epoch + Duration::from_millis(ms));
        let v4 = FamilyProgress { queued: time(queued), synced: time(synced) };
        let answer = ProbeAnswer::KubeProxy(ProxyProgress { clock, v4, v6: FamilyProgress::default() });
        self.plan.handle_probe(&answer);
    }

    /// Returns when the plan wants to be called again, in ms after the start.
    fn timeout(&self) -> Option<u128> {
        self.plan.poll_timeout().map(|at| at.duration_since(self.start).as_millis())
    }
}

fn data_path_ready() -> BgpAdvertisement {
    BgpAdvertisement { announce_when: AnnounceWhen::DataPathReady, ..bgp_advertisement("ad") }
}

fn reannounced_after(seconds: u64) -> BgpAdvertisement {
    BgpAdvertisement { reannounce_after: Duration::from_secs(seconds), ..bgp_advertisement("ad") }
}

#[test]
fn address_is_announced_when_the_proxy_has_applied_the_change() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    assert_eq!(node.at(1_000), Err(NoLocalEndpoints));
    assert!(!node.plan.awaits_data_path(), "nothing waits");
    assert_eq!(node.timeout(), None);
    node.endpoints("n1 n2");
    assert_eq!(node.at(2_000), Err(DataPathPending));
    assert!(node.plan.awaits_data_path());
    node.answer(2_005, 500);
    assert_eq!(node.at(3_900), Err(DataPathPending), "kube-proxy is late");
    node.answer(2_005, 4_000);
    assert_eq!(node.at(4_100), Err(DataPathPending), "the change may have arrived during the sync");
    node.at(5_500).unwrap_err();
    node.answer(2_005, 4_000);
    assert_eq!(node.at(5_500), Ok(()));
    assert!(!node.plan.awaits_data_path());
    assert_eq!(node.timeout(), None, "at rest");
    // No answer of the data path withdraws an announced address.
    node.plan.handle_probe(&ProbeAnswer::NotReady("503".to_owned()));
    assert_eq!(node.at(60_000), Ok(()));
}

#[test]
fn address_is_announced_after_the_longest_wait() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.endpoints("n1");
    assert_eq!(node.at(1_000), Err(DataPathPending));
    node.plan.handle_probe(&ProbeAnswer::NotReady("refused".to_owned()));
    assert_eq!(node.timeout(), Some(6_000));
    assert_eq!(node.at(30_999), Err(DataPathNotReady));
    assert_eq!(node.plan.take_unconfirmed(), []);
    assert_eq!(node.at(31_000), Ok(()));
    let unconfirmed = node.plan.take_unconfirmed();
    assert_eq!(
        unconfirmed.iter().map(|(key, ip)| (key.name.as_str(), *ip)).collect::<Vec<_>>(),
        [("web", ip(A))]
    );
    assert_eq!((node.plan.take_unconfirmed(), node.plan.awaits_data_path()), (vec![], false));
    assert_eq!(node.timeout(), None, "at rest");
}

#[test]
fn node_with_terminating_endpoints_announces_while_another_may_wait() {
    // (nodes with an endpoint at the end, the state)
    for (nodes, expected) in [("n2", NoLocalEndpoints), ("n1! n2", LocalEndpointsTerminating)] {
        let mut node = Speaker::new(data_path_ready(), "n1");
        assert_eq!(node.at(0), Ok(()));
        node.endpoints("n1!");
        assert_eq!(node.at(1_000), Ok(()));
        node.endpoints("n1! n2");
        assert_eq!(node.at(2_000), Ok(()), "n2 may wait for its data path");
        assert_eq!(node.timeout(), Some(32_000));
        assert_eq!(node.at(31_999), Ok(()));
        node.endpoints(nodes);
        let ms = if nodes == "n2" { 31_999 } else { 32_000 };
        assert_eq!(node.at(ms), Err(expected));
        assert_eq!(node.at(60_000), Err(expected), "the address does not return");
        assert_eq!(node.timeout(), None, "at rest");
    }
    // A node that does not announce the address does not begin with terminating endpoints.
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.endpoints("n1! n2");
    assert_eq!(node.at(1_000), Err(LocalEndpointsTerminating));
    // Without the option, the node withdraws at once.
    let mut node = Speaker::new(reannounced_after(10), "n1");
    node.endpoints("n1! n2");
    assert_eq!(node.at(1_000), Err(LocalEndpointsTerminating));
}

#[test]
fn restarted_speaker_announces_terminating_endpoints_again() {
    let mut node = Speaker::new(data_path_ready(), "n1! n2");
    assert_eq!(node.at(0), Ok(()));
    assert_eq!(node.timeout(), Some(30_000));
    assert_eq!(node.at(30_000), Err(LocalEndpointsTerminating));
}

#[test]
fn address_without_advertisement_or_pool_does_not_wait() {
    let edits: [fn(&mut Config); 2] =
        [|config| config.bgp_advertisements.clear(), |config| config.pools.clear()];
    for edit in edits {
        let mut node = Speaker::new(data_path_ready(), "n2");
        node.endpoints("n1");
        assert_eq!(node.at(1_000), Err(DataPathPending));
        let config = node.world.config.clone();
        edit(&mut node.world.config);
        node.plan.set_config(&node.world.config);
        node.at(2_000).unwrap_err();
        assert!(!node.plan.awaits_data_path());
        node.plan.set_config(&config);
        assert_eq!(node.at(60_000), Err(DataPathPending), "it waits again");
    }
}

#[test]
fn speaker_that_starts_waits_only_on_a_node_that_booted_recently() {
    // (uptime of the node in seconds, the state)
    for (uptime, expected) in [(0, Err(DataPathPending)), (149, Err(DataPathPending)), (150, Ok(()))] {
        let mut node = Speaker::on_node_up_for(Duration::from_secs(uptime), data_path_ready(), "n1");
        assert_eq!(node.at(0), expected, "{uptime} s");
        assert_eq!(node.plan.awaits_data_path(), expected.is_err());
        // A failed probe withdraws nothing.
        node.plan.handle_probe(&ProbeAnswer::NotReady("refused".to_owned()));
        assert_eq!(node.at(1_000), expected, "{uptime} s");
        assert_eq!(node.at(30_000), Ok(()));
    }
}

#[test]
fn edit_of_the_advertisement_withdraws_nothing() {
    let mut node = Speaker::new(bgp_advertisement("ad"), "n1");
    assert_eq!(node.at(0), Ok(()));
    node.set_ad(data_path_ready());
    assert_eq!(node.at(1_000), Ok(()));
    node.set_ad(reannounced_after(10));
    assert_eq!(node.at(2_000), Ok(()));
    assert!(!node.plan.awaits_data_path());
    // An address that waits is announced when the advertisement no longer asks for that.
    node.set_ad(data_path_ready());
    node.endpoints("n2");
    assert_eq!(node.at(3_000), Err(NoLocalEndpoints));
    node.endpoints("n1");
    assert_eq!(node.at(4_000), Err(DataPathPending));
    node.set_ad(bgp_advertisement("ad"));
    assert_eq!(node.at(4_001), Ok(()));
    assert!(!node.plan.awaits_data_path());
}

#[test]
fn another_advertisement_announces_without_waiting() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.set_ad(BgpAdvertisement { med: Some(7), ..bgp_advertisement("other") });
    node.endpoints("n1");
    assert_eq!(node.at(1_000), Ok(()));
    assert!(node.plan.awaits_data_path(), "the attributes of the first advertisement follow");
}

#[test]
fn flapping_endpoint_is_announced_again_after_the_time() {
    let mut node = Speaker::new(reannounced_after(10), "n1");
    assert_eq!(node.at(0), Ok(()));
    // (ms, nodes with an endpoint, state)
    for (ms, nodes, expected) in [
        (1_000, "n2", Err(NoLocalEndpoints)),
        (2_000, "n1", Err(WithdrawnRecently)),
        (3_000, "n2", Err(NoLocalEndpoints)),
        (4_000, "n1", Err(WithdrawnRecently)),
        (10_999, "n1", Err(WithdrawnRecently)),
        (11_000, "n1", Ok(())),
        (90_000, "n2", Err(NoLocalEndpoints)),
        (200_000, "n1", Ok(())),
    ] {
        node.endpoints(nodes);
        assert_eq!(node.at(ms), expected, "at {ms} ms");
    }
    node.endpoints("n2");
    node.at(300_000).unwrap_err();
    node.endpoints("n1");
    node.at(300_001).unwrap_err();
    assert_eq!(node.timeout(), Some(310_000), "without an event");
    assert_eq!(node.at(310_000), Ok(()));
}

#[test]
fn withdrawal_for_another_cause_is_not_delayed() {
    let mut node = Speaker::new(reannounced_after(10), "n1");
    let excluded = Node { excluded: true, ..node.world.nodes["n1"].clone() };
    node.plan.apply_node("n1".into(), excluded);
    assert_eq!(node.at(1_000), Err(NotAnnouncedReason::NodeExcluded));
    node.plan.apply_node("n1".into(), node.world.nodes["n1"].clone());
    assert_eq!(node.at(2_000), Ok(()));
}

#[test]
fn address_that_this_node_cannot_announce_does_not_wait() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.endpoints("n1");
    let excluded = Node { excluded: true, ..node.world.nodes["n1"].clone() };
    node.plan.apply_node("n1".into(), excluded);
    assert_eq!(node.at(10), Err(NotAnnouncedReason::NodeExcluded));
    assert!(!node.plan.awaits_data_path());
    assert_eq!(node.at(60_000), Err(NotAnnouncedReason::NodeExcluded));
    assert_eq!(node.plan.take_unconfirmed(), []);
    node.plan.apply_node("n1".into(), node.world.nodes["n1"].clone());
    assert_eq!(node.at(60_001), Err(DataPathPending));
    assert!(node.plan.awaits_data_path());
    assert_eq!(node.timeout(), Some(65_001));
    assert_eq!(node.at(65_001), Err(DataPathNotReady));
    assert_eq!(node.timeout(), Some(90_001), "it has its full time");
    node.world.config.peers.clear();
    node.plan.set_config(&node.world.config);
    assert_eq!(node.at(65_002), Err(NotAnnouncedReason::NoPeer));
    assert!(!node.plan.awaits_data_path());
}

#[test]
fn wait_is_reported_after_five_seconds() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.endpoints("n1");
    for (ms, state, problems) in [
        (1_000, DataPathPending, vec![]),
        (5_999, DataPathPending, vec![]),
        (6_000, DataPathNotReady, vec![DataPathNotReady]),
        (30_999, DataPathNotReady, vec![DataPathNotReady]),
    ] {
        assert_eq!(node.at(ms), Err(state), "at {ms} ms");
        let reported: Vec<_> = node.plan.problems().map(|problem| problem.reason).collect();
        assert_eq!(reported, problems, "at {ms} ms");
        assert_eq!(node.timeout(), Some(if ms < 6_000 { 6_000 } else { 31_000 }), "at {ms} ms");
    }
    assert_eq!(node.at(31_000), Ok(()));
    assert_eq!(node.plan.problems().count(), 0);
}

#[test]
fn families_wait_separately() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    let v6 = "2001:db8::1";
    node.world = node.world.clone().service("web", TrafficPolicy::Local, &format!("{A} {v6}"), "n1");
    node.world.list_to(&mut node.plan);
    assert_eq!(node.at(1_000), Err(DataPathPending));
    // kube-proxy applies no change in IPv6.
    node.at(4_000).unwrap_err();
    node.answer(1_005, 1_050);
    node.plan.set_time(node.now);
    node.announced.carry_out(node.plan.changes());
    let state = |node: &Speaker, address| node.plan.state(&key("web"), ip(address), Protocol::Bgp).unwrap();
    let waits = AnnouncementState::Not(DataPathPending);
    assert_eq!((state(&node, A), state(&node, v6)), (AnnouncementState::Announced, waits));
    assert_eq!(node.at(30_999), Ok(()));
    assert_eq!(state(&node, v6), AnnouncementState::Not(DataPathNotReady));
    assert_eq!(node.timeout(), Some(31_000));
    assert_eq!(node.at(31_000), Ok(()));
    assert_eq!(state(&node, v6), AnnouncementState::Announced);
    let unconfirmed = node.plan.take_unconfirmed();
    assert_eq!(unconfirmed.iter().map(|(_, address)| *address).collect::<Vec<_>>(), [ip(v6)]);
    assert_eq!(node.timeout(), None, "at rest");
}

#[test]
fn deleted_service_leaves_nothing_behind() {
    let mut node = Speaker::new(data_path_ready(), "n2");
    node.endpoints("n1");
    node.at(1_000).unwrap_err();
    node.plan.delete_service(&key("web"));
    node.plan.changes();
    assert!(!node.plan.awaits_data_path());
    node.plan.set_time(node.start + Duration::from_secs(60));
    assert_eq!((node.plan.changes(), node.plan.take_unconfirmed()), (vec![], vec![]));
    assert_eq!(node.timeout(), None);
}
