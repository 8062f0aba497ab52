//! The objects of the cluster as the watches report them, and the plan computed from them. Contains no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::{Objects, Resolution, resolve};
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1;
use fairlead_plan::{AnnouncementChange, Node, NodeName, Plan, Service, Slice, SliceKey};
use kube::ResourceExt;

use crate::tasks::mesh::MeshPeers;
use crate::watches::WatchEvent;

/// Watched kinds, in the order of messages.
const KINDS: [&str; 10] = [
    "Services",
    "EndpointSlices",
    "Nodes",
    "Speakers",
    "IPAddressPools",
    "L2Advertisements",
    "BGPAdvertisements",
    "BGPPeers",
    "BFDProfiles",
    "Communities",
];

/// The state of the cluster, as far as this node has observed it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    node: String,
    plan: Plan,
    configuration: Configuration,
    configuration_changed: bool,
    /// Mesh address of each speaker, by node name.
    speakers: BTreeMap<String, Option<SocketAddr>>,
    /// The speakers of other nodes that have a mesh address.
    mesh_peers: MeshPeers,
    own_object_deletions: u64,
    node_uid: Option<String>,
    /// Kinds without a complete list.
    unlisted: BTreeSet<&'static str>,
}

/// Configuration objects, by name.
#[derive(Debug, Default)]
struct Configuration {
    pools: BTreeMap<String, v1beta1::IPAddressPool>,
    l2_advertisements: BTreeMap<String, v1beta1::L2Advertisement>,
    bgp_advertisements: BTreeMap<String, v1beta1::BGPAdvertisement>,
    peers: BTreeMap<String, v1beta1::BGPPeer>,
    bfd_profiles: BTreeMap<String, v1beta1::BFDProfile>,
    communities: BTreeMap<String, v1beta1::Community>,
}

impl ClusterState {
    /// Creates the state of this node's speaker before the first list.
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            plan: Plan::new(node),
            configuration: Configuration::default(),
            configuration_changed: false,
            speakers: BTreeMap::new(),
            mesh_peers: MeshPeers::default(),
            own_object_deletions: 0,
            node_uid: None,
            unlisted: KINDS.into(),
        }
    }

    /// Handles a change to the objects of one kind.
    pub(crate) fn handle_watch_event(&mut self, event: WatchEvent) {
        let configuration = &mut self.configuration;
        match event {
            WatchEvent::Services(change) => self.handle_services(change),
            WatchEvent::Slices(change) => self.handle_slices(change),
            WatchEvent::Nodes(change) => self.handle_nodes(change),
            WatchEvent::Speakers(change) => self.handle_speakers(change),
            WatchEvent::Pools(change) => {
                apply_change(&mut configuration.pools, change);
                self.handle_configuration_change("IPAddressPools");
            }
            WatchEvent::L2Advertisements(change) => {
                apply_change(&mut configuration.l2_advertisements, change);
                self.handle_configuration_change("L2Advertisements");
            }
            WatchEvent::BgpAdvertisements(change) => {
                apply_change(&mut configuration.bgp_advertisements, change);
                self.handle_configuration_change("BGPAdvertisements");
            }
            WatchEvent::Peers(change) => {
                apply_change(&mut configuration.peers, change);
                self.handle_configuration_change("BGPPeers");
            }
            WatchEvent::BfdProfiles(change) => {
                apply_change(&mut configuration.bfd_profiles, change);
                self.handle_configuration_change("BFDProfiles");
            }
            WatchEvent::Communities(change) => {
                apply_change(&mut configuration.communities, change);
                self.handle_configuration_change("Communities");
            }
        }
    }

    /// Sets the members of the mesh; see [`Plan::set_live`].
    pub(crate) fn set_live(&mut self, live: Option<&BTreeSet<NodeName>>) {
        self.plan.set_live(live);
    }

    /// Sets the interfaces that can carry announcements; see [`Plan::set_links`].
    pub(crate) fn set_links(&mut self, links: BTreeSet<String>) {
        self.plan.set_links(links);
    }

    /// Returns which first lists are missing, as a text. A plan from a part of the objects would withdraw
    /// valid announcements.
    pub(crate) fn waiting_for(&self) -> Option<String> {
        if self.unlisted.is_empty() {
            return None;
        }
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| self.unlisted.contains(kind)).collect();
        Some(format!("the first list of {}", kinds.join(", ")))
    }

    /// Returns the changes of the plan since the last call, in order, and the resolution of the configuration
    /// if that was resolved again. Returns nothing before every kind was listed.
    pub(crate) fn changes(&mut self) -> (Vec<AnnouncementChange>, Option<Resolution>) {
        if !self.unlisted.is_empty() {
            return (Vec::new(), None);
        }
        let resolution = std::mem::take(&mut self.configuration_changed).then(|| {
            let mut resolution = resolve(&self.configuration.objects());
            self.plan.set_config(std::mem::take(&mut resolution.config));
            resolution
        });
        (self.plan.changes(), resolution)
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the UID of this node's Node object; `None` if there is none.
    pub(crate) fn node_uid(&self) -> Option<&str> {
        self.node_uid.as_deref()
    }

    /// Returns the InternalIP addresses of this node.
    pub(crate) fn node_addresses(&self) -> &[IpAddr] {
        self.plan.own_node().map(|node| node.internal_ips.as_slice()).unwrap_or_default()
    }

    /// Returns the speakers of other nodes that have a mesh address; `None` before Speakers were listed.
    pub(crate) fn mesh_peers(&self) -> Option<MeshPeers> {
        (!self.unlisted.contains("Speakers")).then(|| self.mesh_peers.clone())
    }

    /// Returns how often this node's Speaker object was deleted. When it grows, the object must be written
    /// again.
    pub(crate) fn own_object_deletions(&self) -> u64 {
        self.own_object_deletions
    }

    fn handle_services(&mut self, change: ObjectChange<(ObjectKey, Option<Service>)>) {
        match change {
            ObjectChange::Apply((key, Some(service))) => self.plan.apply_service(key, service),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete((key, _)) => {
                self.plan.delete_service(&key)
            }
            ObjectChange::Reset(all) => {
                let served = all.into_iter().filter_map(|(key, service)| Some((key, service?)));
                self.plan.reset_services(served.collect());
                self.unlisted.remove("Services");
            }
        }
    }

    fn handle_slices(&mut self, change: ObjectChange<(SliceKey, Option<Slice>)>) {
        match change {
            ObjectChange::Apply((key, Some(slice))) => self.plan.apply_slice(key, slice),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete((key, _)) => self.plan.delete_slice(&key),
            ObjectChange::Reset(all) => {
                let owned = all.into_iter().filter_map(|(key, slice)| Some((key, slice?)));
                self.plan.reset_slices(owned.collect());
                self.unlisted.remove("EndpointSlices");
            }
        }
    }

    fn handle_nodes(&mut self, change: ObjectChange<(NodeName, Node, String)>) {
        match change {
            ObjectChange::Apply((name, node, uid)) => {
                if *name == *self.node {
                    self.node_uid = Some(uid);
                }
                self.plan.apply_node(name, node);
            }
            ObjectChange::Delete((name, ..)) => {
                if *name == *self.node {
                    self.node_uid = None;
                }
                self.plan.delete_node(&name);
            }
            ObjectChange::Reset(all) => {
                let own = all.iter().find(|(name, ..)| **name == *self.node);
                self.node_uid = own.map(|(_, _, uid)| uid.clone());
                self.plan.reset_nodes(all.into_iter().map(|(name, node, _)| (name, node)).collect());
                self.unlisted.remove("Nodes");
            }
        }
    }

    fn handle_speakers(&mut self, change: ObjectChange<(String, Option<SocketAddr>)>) {
        let had = self.speakers.contains_key(&self.node);
        match change {
            ObjectChange::Apply((name, address)) => {
                self.speakers.insert(name, address);
            }
            ObjectChange::Delete((name, _)) => {
                self.speakers.remove(&name);
            }
            ObjectChange::Reset(all) => {
                self.speakers = all.into_iter().collect();
                self.unlisted.remove("Speakers");
            }
        }
        self.own_object_deletions += u64::from(had && !self.speakers.contains_key(&self.node));
        let others = self.speakers.iter().filter(|(name, _)| **name != self.node);
        self.mesh_peers = Arc::new(others.filter_map(|(name, at)| Some((name.clone(), (*at)?))).collect());
    }

    fn handle_configuration_change(&mut self, kind: &'static str) {
        // The first event of a watch is always a complete list.
        self.unlisted.remove(kind);
        self.configuration_changed = true;
    }
}

impl Configuration {
    fn objects(&self) -> Objects {
        Objects {
            pools: self.pools.values().cloned().collect(),
            l2_advertisements: self.l2_advertisements.values().cloned().collect(),
            bgp_advertisements: self.bgp_advertisements.values().cloned().collect(),
            peers: self.peers.values().cloned().collect(),
            bfd_profiles: self.bfd_profiles.values().cloned().collect(),
            communities: self.communities.values().cloned().collect(),
        }
    }
}

fn apply_change<K: ResourceExt>(objects: &mut BTreeMap<String, K>, change: ObjectChange<K>) {
    let trimmed = |mut object: K| {
        // Not used, and often larger than the rest of the object.
        object.managed_fields_mut().clear();
        object.annotations_mut().clear();
        (object.name_any(), object)
    };
    match change {
        ObjectChange::Apply(object) => objects.extend([trimmed(object)]),
        ObjectChange::Delete(object) => drop(objects.remove(&object.name_any())),
        ObjectChange::Reset(all) => *objects = all.into_iter().map(trimmed).collect(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn service() -> (ObjectKey, Option<Service>) {
        let service = Service { addresses: vec!["192.0.2.1".parse().unwrap()], ..Service::default() };
        (key("web"), Some(service))
    }

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
    }

    /// Returns the first list of every kind, in the order of [`KINDS`]: one Service that n1 announces by L2.
    fn lists() -> Vec<WatchEvent> {
        let pool =
            v1beta1::IPAddressPoolSpec { addresses: vec!["192.0.2.0/24".to_owned()], ..Default::default() };
        let pool = v1beta1::IPAddressPool { metadata: named("pool"), spec: pool, status: None };
        let ad = v1beta1::L2Advertisement { metadata: named("ad"), spec: Default::default(), status: None };
        vec![
            WatchEvent::Services(ObjectChange::Reset(vec![service()])),
            WatchEvent::Slices(ObjectChange::Reset(vec![(
                key("web-1"),
                Some(Slice::new("web", [Some("n1".into())])),
            )])),
            WatchEvent::Nodes(ObjectChange::Reset(vec![("n1".into(), Node::default(), "uid-1".to_owned())])),
            WatchEvent::Speakers(ObjectChange::Reset(Vec::new())),
            WatchEvent::Pools(ObjectChange::Reset(vec![pool])),
            WatchEvent::L2Advertisements(ObjectChange::Reset(vec![ad])),
            WatchEvent::BgpAdvertisements(ObjectChange::Reset(Vec::new())),
            WatchEvent::Peers(ObjectChange::Reset(Vec::new())),
            WatchEvent::BfdProfiles(ObjectChange::Reset(Vec::new())),
            WatchEvent::Communities(ObjectChange::Reset(Vec::new())),
        ]
    }

    fn listed_state() -> ClusterState {
        let mut state = ClusterState::new("n1");
        state.set_live(Some(&BTreeSet::new()));
        lists().into_iter().for_each(|list| state.handle_watch_event(list));
        state
    }

    #[test]
    fn state_without_every_list_has_no_changes() {
        for (missing, kind) in KINDS.into_iter().enumerate() {
            let mut state = ClusterState::new("n1");
            state.set_live(Some(&BTreeSet::new()));
            let mut lists = lists();
            let last = lists.remove(missing);
            lists.into_iter().for_each(|list| state.handle_watch_event(list));
            assert!(state.waiting_for().unwrap().ends_with(kind), "{:?}", state.waiting_for());
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
        assert!(state.changes().1.is_some());
        state.handle_watch_event(WatchEvent::Services(ObjectChange::Delete(service())));
        assert!(state.changes().1.is_none());
        state.handle_watch_event(WatchEvent::Pools(ObjectChange::Reset(Vec::new())));
        assert!(state.changes().1.is_some());
    }

    #[test]
    fn deletion_of_own_object_is_counted_once() {
        let mut state = listed_state();
        let own = || ("n1".to_owned(), None);
        let other = || ("n2".to_owned(), Some("192.0.2.2:7946".parse().unwrap()));
        for (change, deletions) in [
            (ObjectChange::Reset(vec![]), 0),
            (ObjectChange::Apply(own()), 0),
            (ObjectChange::Apply(other()), 0),
            (ObjectChange::Delete(other()), 0),
            (ObjectChange::Delete(own()), 1),
            (ObjectChange::Delete(own()), 1),
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
    fn node_uid_follows_own_node_only() {
        let mut state = listed_state();
        assert_eq!(state.node_uid(), Some("uid-1"));
        state.handle_watch_event(WatchEvent::Nodes(ObjectChange::Apply((
            "n2".into(),
            Node::default(),
            "uid-2".to_owned(),
        ))));
        assert_eq!(state.node_uid(), Some("uid-1"));
        state.handle_watch_event(WatchEvent::Nodes(ObjectChange::Delete((
            "n1".into(),
            Node::default(),
            "uid-1".to_owned(),
        ))));
        assert_eq!(state.node_uid(), None);
    }
}
