use fairlead_crds::kinds::{ConfigurationObject, Kind};
use fairlead_crds::model::family::Family;
use fairlead_crds::store::ConfigurationChange;
use fairlead_plan::{DrainCause, EndpointNodes};
use kube::core::ObjectMeta;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn cluster_key(name: &str) -> ObjectKey {
    ObjectKey { namespace: String::new(), name: name.to_owned() }
}

fn service() -> (ObjectKey, Option<Service>) {
    let service = Service { addresses: vec!["192.0.2.1".parse().unwrap()], ..Service::default() };
    (key("web"), Some(service))
}

fn slice(service: &str, node: &str) -> Slice {
    let ready = EndpointNodes::from_iter([Some(node)]);
    Slice { service: service.to_owned(), family: Family::V4, ready, terminating: Default::default() }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn list<K: ConfigurationObject>(objects: Vec<K>) -> WatchEvent
where
    ConfigurationChange: From<ObjectChange<K>>,
{
    WatchEvent::Configuration(Box::new(ObjectChange::Reset(objects).into()))
}

/// Returns the first list of every kind, in the order of [`KINDS`] and [`Kind::ALL`]: one Service that n1
/// announces by L2.
fn lists() -> Vec<WatchEvent> {
    let pool =
        v1beta1::IPAddressPoolSpec { addresses: vec!["192.0.2.0/24".to_owned()], ..Default::default() };
    let pool = v1beta1::IPAddressPool { metadata: named("pool"), spec: pool, status: None };
    let ad = v1beta1::L2Advertisement { metadata: named("ad"), spec: Default::default(), status: None };
    vec![
        WatchEvent::Services(ObjectChange::Reset(vec![service()])),
        WatchEvent::Slices(
            ObjectChange::Reset(vec![(key("web-1"), Some(slice("web", "n1")))]),
            Instant::now(),
        ),
        WatchEvent::Nodes(ObjectChange::Reset(vec![("n1".into(), Node::default(), "uid-1".to_owned())])),
        WatchEvent::Speakers(ObjectChange::Reset(Vec::new())),
        list(vec![pool]),
        list(vec![ad]),
        list::<v1beta1::BGPAdvertisement>(Vec::new()),
        list::<v1beta1::BGPPeer>(Vec::new()),
        list::<v1beta1::BFDProfile>(Vec::new()),
        list::<v1beta1::Community>(Vec::new()),
    ]
}

fn listed_state() -> ClusterState {
    let mut state = ClusterState::new("n1", &Instance::default());
    state.set_live(Some(&BTreeSet::new()));
    lists().into_iter().for_each(|list| state.handle_watch_event(list));
    state
}

#[test]
fn state_without_every_list_has_no_changes() {
    let kinds = KINDS.iter().map(ToString::to_string).chain(Kind::ALL.iter().map(ToString::to_string));
    for (missing, kind) in kinds.enumerate() {
        let mut state = ClusterState::new("n1", &Instance::default());
        state.set_live(Some(&BTreeSet::new()));
        let mut lists = lists();
        let last = lists.remove(missing);
        lists.into_iter().for_each(|list| state.handle_watch_event(list));
        assert!(state.waiting_for().unwrap().ends_with(&kind), "{:?}", state.waiting_for());
        assert_eq!(state.changes().0, []);
        state.handle_watch_event(last);
        assert_eq!(state.waiting_for(), None);
        assert_eq!(state.changes().0.len(), 1);
    }
}

#[test]
fn equal_relist_changes_nothing_and_empty_one_withdraws() {
    let mut state = listed_state();
    assert_eq!(state.changes().0.len(), 1);
    lists().into_iter().for_each(|list| state.handle_watch_event(list));
    assert_eq!(state.changes().0, []);
    state.handle_watch_event(WatchEvent::Services(ObjectChange::Reset(Vec::new())));
    assert!(matches!(state.changes().0[..], [AnnouncementChange::L2Withdraw { .. }]));
}

#[test]
fn service_that_leaves_the_class_is_withdrawn() {
    let mut state = listed_state();
    state.changes();
    state.handle_watch_event(WatchEvent::Services(ObjectChange::Apply((key("web"), None))));
    assert!(matches!(state.changes().0[..], [AnnouncementChange::L2Withdraw { .. }]));
}

#[test]
fn configuration_is_resolved_only_after_a_change() {
    let mut state = listed_state();
    assert_eq!(state.changes().1.len(), 2, "a pool and an advertisement");
    state.handle_watch_event(WatchEvent::Services(ObjectChange::Delete(service().0)));
    assert_eq!(state.changes().1.len(), 0);
    state.handle_watch_event(list::<v1beta1::IPAddressPool>(Vec::new()));
    assert_eq!(state.changes().1.len(), 1);
}

#[test]
fn speaker_opens_sessions_with_the_peers_of_its_class() {
    let peer = |name: &str, class: Option<&str>, address: &str| v1beta1::BGPPeer {
        metadata: named(name),
        spec: v1beta1::BGPPeerSpec {
            my_asn: 64513,
            peer_asn: Some(64512),
            peer_address: Some(address.to_owned()),
            load_balancer_class: class.map(str::to_owned),
            ..Default::default()
        },
        status: None,
    };
    let other = "example.org/x";
    for (class, opened, moved) in [(None, "plain", true), (Some(other), "classed", false)] {
        let instance = Instance { class: class.map(str::to_owned), namespace: "fairlead".to_owned() };
        let mut state = ClusterState::new("n1", &instance);
        state.set_live(Some(&BTreeSet::new()));
        lists().into_iter().for_each(|list| state.handle_watch_event(list));
        let peers = [peer("plain", None, "192.0.2.1"), peer("classed", Some(other), "192.0.2.9")];
        state.handle_watch_event(list(peers.to_vec()));
        let mut open = BTreeSet::new();
        let mut follow = |state: &mut ClusterState| {
            for change in state.changes().0 {
                match change {
                    AnnouncementChange::PeerOpen(peer) => drop(open.insert(peer.name.clone())),
                    AnnouncementChange::PeerClose { peer } => drop(open.remove(&*peer)),
                    _ => {}
                }
            }
            open.clone()
        };
        assert_eq!(follow(&mut state), [opened.to_owned()].into(), "{class:?}");
        // The peer of the other instance changes to this one, or the reverse.
        let peers = [peer("plain", None, "192.0.2.1"), peer("classed", None, "192.0.2.9")];
        state.handle_watch_event(list(peers.to_vec()));
        let expected: &[&str] = if moved { &["classed", "plain"] } else { &[] };
        assert!(follow(&mut state).iter().eq(expected), "{class:?}");
    }
}

/// Returns the Speaker object of a node, with its address in the mesh.
fn speaker(node: &str, address: Option<&str>) -> WatchedSpeaker {
    let address = address.map(|address| address.parse().unwrap());
    let peer = Some((node.to_owned(), address));
    WatchedSpeaker { name: node.to_owned(), peer, ..WatchedSpeaker::default() }
}

#[test]
fn reports_about_own_object_are_counted() {
    let mut state = listed_state();
    let reported = |node| WatchedSpeaker { is_reported: true, ..speaker(node, None) };
    for (change, reports) in [
        (ObjectChange::Apply(speaker("n1", None)), 0),
        (ObjectChange::Apply(reported("n2")), 0),
        (ObjectChange::Apply(reported("n1")), 1),
        (ObjectChange::Apply(speaker("n1", None)), 1),
        (ObjectChange::Reset(vec![reported("n1"), reported("n2")]), 2),
    ] {
        state.handle_watch_event(WatchEvent::Speakers(change));
        assert_eq!(state.silence_reports(), reports);
    }
}

#[test]
fn deletion_of_own_object_is_counted_once() {
    let mut state = listed_state();
    let own = || WatchedSpeaker { name: "n1".to_owned(), ..WatchedSpeaker::default() };
    let other = || speaker("n2", Some("192.0.2.2:7947"));
    for (change, deletions) in [
        (ObjectChange::Reset(vec![]), 0),
        (ObjectChange::Apply(own()), 0),
        (ObjectChange::Apply(other()), 0),
        (ObjectChange::Delete(cluster_key("n2")), 0),
        (ObjectChange::Delete(cluster_key("n1")), 1),
        (ObjectChange::Delete(cluster_key("n1")), 1),
        (ObjectChange::Reset(vec![own(), other()]), 1),
        (ObjectChange::Reset(vec![other()]), 2),
    ] {
        state.handle_watch_event(WatchEvent::Speakers(change));
        assert_eq!(state.own_object_deletions(), deletions);
    }
    let others: Vec<String> = state.mesh_peers().unwrap().keys().cloned().collect();
    assert_eq!(others, ["n2"]);
}

#[test]
fn speaker_without_mesh_address_is_expected_but_no_peer() {
    let mut state = ClusterState::new("n1", &Instance::default());
    assert_eq!(state.expected_members(), None, "Speakers were not listed");
    let speakers = vec![
        speaker("n1", None),
        speaker("n2", Some("192.0.2.2:7947")),
        speaker("n3", None),
        WatchedSpeaker { name: "n4.other".to_owned(), ..WatchedSpeaker::default() },
    ];
    state.handle_watch_event(WatchEvent::Speakers(ObjectChange::Reset(speakers)));
    assert_eq!(state.expected_members(), Some(["n2".to_owned(), "n3".to_owned()].into()));
    let peers: Vec<String> = state.mesh_peers().unwrap().keys().cloned().collect();
    assert_eq!(peers, ["n2"]);
}

#[test]
fn departure_follows_node_and_daemon_set() {
    let mut state = listed_state();
    assert_eq!(state.departure(), None);
    let daemon_set = |state: &mut ClusterState, change| {
        state.handle_watch_event(WatchEvent::DaemonSet(change));
        state.departure()
    };
    let deleted = Some(Departure::DaemonSetDeleted);
    assert_eq!(daemon_set(&mut state, ObjectChange::Reset(vec![])), None, "the speakers run without it");
    assert_eq!(daemon_set(&mut state, ObjectChange::Apply(false)), None);
    assert_eq!(daemon_set(&mut state, ObjectChange::Apply(true)), deleted);
    assert_eq!(daemon_set(&mut state, ObjectChange::Reset(vec![false])), None, "created again");
    assert_eq!(daemon_set(&mut state, ObjectChange::Reset(vec![])), deleted);
    daemon_set(&mut state, ObjectChange::Apply(false));
    assert_eq!(daemon_set(&mut state, ObjectChange::Delete(cluster_key("speaker"))), deleted);

    let node = Node { drain: Some(DrainCause::Label), ..Node::default() };
    let change = ObjectChange::Apply(("n1".into(), node, "uid-1".to_owned()));
    state.handle_watch_event(WatchEvent::Nodes(change));
    assert_eq!(state.departure(), Some(Departure::Node(DrainCause::Label)));
}

#[test]
fn node_uid_follows_own_node_only() {
    let mut state = listed_state();
    assert_eq!(state.node_uid(), Some("uid-1"));
    state.handle_watch_event(WatchEvent::Nodes(ObjectChange::Apply((
        "n2".into(),
        Node::default(),
        "uid-2".to_owned(),
    ))));
    assert_eq!(state.node_uid(), Some("uid-1"));
    state.handle_watch_event(WatchEvent::Nodes(ObjectChange::Delete(cluster_key("n1"))));
    assert_eq!(state.node_uid(), None);
}
