//! The objects of the cluster as the watches report them, and the plan computed from them. Contains no I/O.

mod departure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::{InForce, ObjectRef, ObjectVerdict, Resolution};
use fairlead_crds::store::{ConfigurationStore, ObjectChange};
use fairlead_crds::v1beta1;
use fairlead_l2::{Conflict, Mac};
use fairlead_plan::conflicts::AddressConflict;
use fairlead_plan::{
    AnnouncementChange, LinkNetworks, Node, NodeInterfaces, NodeName, Plan, ProbeAnswer, Protocol, Service,
    Slice, SliceKey, Takeover,
};
use jiff::Timestamp;
use kube::Resource;

use self::departure::DaemonSetState;
pub(crate) use self::departure::Departure;
use crate::deletions::Deletions;
use crate::tasks::mesh::MeshPeers;
use crate::trim::{MeshPeer, WatchedSpeaker};
use crate::watches::WatchEvent;

/// Watched kinds besides the configuration kinds, in the order of messages.
const KINDS: [&str; 4] = ["Service", "EndpointSlice", "Node", "Speaker"];

/// The state of the cluster, as far as this node has observed it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    node: String,
    /// Name of this node's Speaker object.
    own_object: String,
    /// The load balancer class of the instance.
    class: Option<String>,
    /// The speaker opens no BGP session.
    without_peers: bool,
    plan: Plan,
    configuration: ConfigurationStore,
    resolution: Resolution,
    configuration_changed: bool,
    deletions: Deletions,
    /// The speakers by name of their object; `None` for one that is no member of the mesh of this instance.
    speakers: BTreeMap<String, Option<MeshPeer>>,
    /// The link-layer addresses of the speakers, by name of their object.
    macs: BTreeMap<String, Vec<Mac>>,
    /// Those of the speakers of other nodes.
    speaker_macs: BTreeSet<Mac>,
    /// The speakers of other nodes that have a mesh address.
    mesh_peers: MeshPeers,
    own_object_deletions: u64,
    /// Number of changes of this node's Speaker object that say that this speaker does not respond.
    silence_reports: u64,
    daemon_set: DaemonSetState,
    node_uid: Option<String>,
    /// Kinds of [`KINDS`] without a complete list.
    unlisted: BTreeSet<&'static str>,
    /// True if the API server does not serve Speakers.
    speakers_missing: bool,
    /// The time at which the first EndpointSlice event since the last call of
    /// [`ClusterState::take_endpoint_event`] arrived.
    endpoint_event: Option<Instant>,
    /// True if another event since then can have changed routes.
    other_event: bool,
}

impl ClusterState {
    /// Creates the state of this node's speaker before the first list.
    pub(crate) fn new(node: &str, instance: &Instance) -> Self {
        Self {
            node: node.to_owned(),
            own_object: instance.speaker_name(node).into_owned(),
            class: instance.class.clone(),
            without_peers: false,
            plan: Plan::new(node),
            configuration: ConfigurationStore::default(),
            resolution: Resolution::default(),
            configuration_changed: false,
            deletions: Deletions::default(),
            speakers: BTreeMap::new(),
            macs: BTreeMap::new(),
            speaker_macs: BTreeSet::new(),
            mesh_peers: MeshPeers::default(),
            own_object_deletions: 0,
            silence_reports: 0,
            daemon_set: DaemonSetState::default(),
            node_uid: None,
            unlisted: KINDS.into(),
            speakers_missing: false,
            endpoint_event: None,
            other_event: false,
        }
    }

    /// Returns when the first EndpointSlice event since the last call arrived. `None` if other events since
    /// then can have changed routes too: which event caused which change is not known.
    pub(crate) fn take_endpoint_event(&mut self) -> Option<Instant> {
        let is_mixed = std::mem::take(&mut self.other_event);
        self.endpoint_event.take().filter(|_| !is_mixed)
    }

    /// Handles a change to the objects of one kind.
    pub(crate) fn handle_watch_event(&mut self, event: WatchEvent) {
        self.other_event |= match event {
            WatchEvent::Slices(..) | WatchEvent::Speakers(_) | WatchEvent::DaemonSet(_) => false,
            WatchEvent::Services(_) | WatchEvent::Nodes(_) | WatchEvent::Configuration(_) => true,
        };
        match event {
            WatchEvent::Services(change) => self.handle_services(change),
            WatchEvent::Slices(change, arrived) => {
                // The objects of a list need not have changed.
                if matches!(change, ObjectChange::Apply(_) | ObjectChange::Delete(_)) {
                    self.endpoint_event.get_or_insert(arrived);
                }
                self.handle_slices(change);
            }
            WatchEvent::Nodes(change) => self.handle_nodes(change),
            WatchEvent::Speakers(change) => self.handle_speakers(change),
            WatchEvent::DaemonSet(change) => self.daemon_set.handle_change(change),
            WatchEvent::Configuration(change) => {
                // The store knows whether it makes a difference. A status that the controller writes rarely
                // does: its condition can decide between two overlapping pools.
                if let Some(change) = self.deletions.handle_change(*change) {
                    self.configuration.handle_change(change);
                    self.configuration_changed = true;
                }
            }
        }
    }

    /// Sets that the speaker does not announce by this protocol; see [`Plan::disable`].
    pub(crate) fn disable(&mut self, protocol: Protocol) {
        self.plan.disable(protocol);
        self.without_peers |= protocol == Protocol::Bgp;
    }

    /// Sets the members of the mesh; see [`Plan::set_live`].
    pub(crate) fn set_live(&mut self, live: Option<&BTreeSet<NodeName>>) {
        self.plan.set_live(live);
    }

    /// Sets the speakers that left the mesh; see [`Plan::set_departed`].
    pub(crate) fn set_departed(&mut self, departed: &BTreeSet<NodeName>) {
        self.plan.set_departed(departed);
    }

    /// Sets whether this node may announce more L2 addresses; see [`Plan::set_may_claim`].
    pub(crate) fn set_may_claim(&mut self, may_claim: bool) {
        self.plan.set_may_claim(may_claim);
    }

    /// Notes that this node withdrew an L2 address; see [`Plan::yield_address`].
    pub(crate) fn yield_address(&mut self, address: IpAddr) {
        self.plan.yield_address(address);
    }

    /// Sets that this node probes an address before its first announcement; see [`Plan::enable_probes`].
    pub(crate) fn enable_probes(&mut self) {
        self.plan.enable_probes();
    }

    /// Handles a conflict about an address of this node; see [`Plan::handle_conflict`].
    pub(crate) fn handle_conflict(
        &mut self,
        now: Instant,
        at: Timestamp,
        conflict: Conflict,
    ) -> Option<(Vec<Arc<ObjectKey>>, AddressConflict)> {
        self.plan.handle_conflict(now, at, conflict)
    }

    /// Notes that no other host has an address; see [`Plan::confirm_address`].
    pub(crate) fn confirm_address(&mut self, address: IpAddr) {
        self.plan.confirm_address(address);
    }

    /// Returns the link-layer addresses of the speakers of other nodes.
    pub(crate) fn speaker_macs(&self) -> &BTreeSet<Mac> {
        &self.speaker_macs
    }

    /// Sets the duration of a phase; see [`Plan::set_drain_wait`].
    pub(crate) fn set_drain_wait(&mut self, wait: Duration) {
        self.plan.set_drain_wait(wait);
    }

    /// Sets the longest time for which an address waits for the data path; see [`Plan::set_data_path_wait`].
    pub(crate) fn set_data_path_wait(&mut self, wait: Duration, node_uptime: Duration) {
        self.plan.set_data_path_wait(wait, node_uptime);
    }

    /// Handles the answer of the data path; see [`Plan::handle_probe`].
    pub(crate) fn handle_probe(&mut self, answer: &ProbeAnswer) {
        self.plan.handle_probe(answer);
    }

    /// Takes the addresses that waited for too long; see [`Plan::take_unconfirmed`].
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<(Arc<ObjectKey>, IpAddr)> {
        self.plan.take_unconfirmed()
    }

    /// Sets the interfaces that can carry announcements; see [`Plan::set_links`].
    pub(crate) fn set_links(&mut self, links: LinkNetworks) {
        self.plan.set_links(links);
    }

    /// Sets the interfaces of other nodes; see [`Plan::set_interfaces`].
    pub(crate) fn set_interfaces(&mut self, interfaces: &NodeInterfaces) {
        self.plan.set_interfaces(interfaces);
    }

    /// Returns whether any interface can carry announcements.
    pub(crate) fn has_links(&self) -> bool {
        self.plan.has_links()
    }

    /// Returns which first lists are missing, as a text. A plan from a part of the objects would withdraw
    /// valid announcements.
    pub(crate) fn waiting_for(&self) -> Option<String> {
        let mut kinds: Vec<String> = KINDS
            .into_iter()
            .filter(|kind| self.unlisted.contains(kind))
            .map(str::to_owned)
            .chain(self.configuration.unlisted().map(|kind| kind.to_string()))
            .collect();
        let last = kinds.pop()?;
        let others = if kinds.is_empty() { String::new() } else { format!("{} and ", kinds.join(", ")) };
        Some(format!("the first list of {others}{last}"))
    }

    /// Returns the kinds, in plural, that the API server does not serve.
    pub(crate) fn missing_kinds(&self) -> impl Iterator<Item = String> {
        let speakers = self.speakers_missing.then(|| v1beta1::Speaker::plural(&()).into_owned());
        self.configuration.missing().map(|kind| kind.plural().into_owned()).chain(speakers)
    }

    /// Sets the time; see [`Plan::set_time`].
    pub(crate) fn set_time(&mut self, now: Instant) {
        self.plan.set_time(now);
        for deletion in self.deletions.take_due(now) {
            self.configuration.handle_change(deletion);
            self.configuration_changed = true;
        }
    }

    /// Returns when to call [`ClusterState::set_time`] and [`ClusterState::changes`] although nothing else
    /// changes.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.plan.poll_timeout(), self.deletions.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns the changes of the plan since the last call, in order, and the configuration objects whose
    /// verdicts may differ. Returns nothing before every kind was listed.
    pub(crate) fn changes(&mut self) -> (Vec<AnnouncementChange>, BTreeSet<ObjectRef>) {
        if !self.unlisted.is_empty() || !self.configuration.is_listed() {
            return (Vec::new(), BTreeSet::new());
        }
        let mut objects = BTreeSet::new();
        if std::mem::take(&mut self.configuration_changed)
            && let Some(mut change) = self.configuration.update(&mut self.resolution, InForce::ByConditions)
        {
            change.delta.keep_peers(self.class.as_deref());
            if self.without_peers {
                change.delta.peers.values_mut().for_each(|peer| *peer = None);
            }
            self.plan.change_config(change.delta);
            objects = change.objects;
        }
        (self.plan.changes(), objects)
    }

    /// Takes the L2 addresses that this node begins to announce; see [`Plan::take_takeovers`].
    pub(crate) fn take_takeovers(&mut self) -> Vec<Takeover> {
        self.plan.take_takeovers()
    }

    /// Returns the verdict on a configuration object; `None` if it does not exist.
    pub(crate) fn verdict(&self, object: &ObjectRef) -> Option<&ObjectVerdict> {
        self.resolution.verdicts.get(object)
    }

    /// Describes which form of a refused object is in force; `None` if no form is.
    pub(crate) fn kept_message(&self, object: &ObjectRef) -> Option<String> {
        self.resolution.kept_message(object)
    }

    /// Returns why this node remains without a speaker after this one has stopped; `None` if it probably
    /// restarts. Routers with graceful restart retain routes only for a restart.
    pub(crate) fn departure(&self) -> Option<Departure> {
        match self.plan.drain_cause() {
            Some(cause) => Some(Departure::Node(cause)),
            None => (self.daemon_set == DaemonSetState::Deleted).then_some(Departure::DaemonSetDeleted),
        }
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
        (!self.unlisted.contains("Speaker")).then(|| self.mesh_peers.clone())
    }

    /// Returns the other nodes with a speaker that takes part in the mesh or is about to; `None` before
    /// Speakers were listed. A speaker that has just started has no mesh address yet. In a cluster that
    /// starts, every speaker would own every address if it did not wait for those.
    pub(crate) fn expected_members(&self) -> Option<BTreeSet<String>> {
        let listed = !self.unlisted.contains("Speaker");
        listed.then(|| self.other_speakers().map(|(node, _)| node.clone()).collect())
    }

    /// Returns how often this node's Speaker object said that this speaker does not respond. When it grows,
    /// the status must be written again.
    pub(crate) fn silence_reports(&self) -> u64 {
        self.silence_reports
    }

    /// Returns how often this node's Speaker object was deleted. When it grows, the object must be written
    /// again.
    pub(crate) fn own_object_deletions(&self) -> u64 {
        self.own_object_deletions
    }

    fn handle_services(&mut self, change: ObjectChange<(ObjectKey, Option<Service>)>) {
        match change {
            ObjectChange::Apply((key, Some(service))) => self.plan.apply_service(key, service),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete(key) => self.plan.delete_service(&key),
            ObjectChange::Reset(all) => {
                let served = all.into_iter().filter_map(|(key, service)| Some((key, service?)));
                self.plan.reset_services(served.collect());
                self.unlisted.remove("Service");
            }
            // Every API server serves Services, EndpointSlices and Nodes.
            ObjectChange::Missing => {}
        }
    }

    fn handle_slices(&mut self, change: ObjectChange<(SliceKey, Option<Slice>)>) {
        match change {
            ObjectChange::Apply((key, Some(slice))) => self.plan.apply_slice(key, slice),
            ObjectChange::Apply((key, None)) | ObjectChange::Delete(key) => self.plan.delete_slice(&key),
            ObjectChange::Reset(all) => {
                let owned = all.into_iter().filter_map(|(key, slice)| Some((key, slice?)));
                self.plan.reset_slices(owned.collect());
                self.unlisted.remove("EndpointSlice");
            }
            ObjectChange::Missing => {}
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
            ObjectChange::Delete(key) => {
                if key.name == self.node {
                    self.node_uid = None;
                }
                self.plan.delete_node(&key.name);
            }
            ObjectChange::Reset(all) => {
                let own = all.iter().find(|(name, ..)| **name == *self.node);
                self.node_uid = own.map(|(_, _, uid)| uid.clone());
                self.plan.reset_nodes(all.into_iter().map(|(name, node, _)| (name, node)).collect());
                self.unlisted.remove("Node");
            }
            ObjectChange::Missing => {}
        }
    }

    fn handle_speakers(&mut self, change: ObjectChange<WatchedSpeaker>) {
        let had = self.speakers.contains_key(&self.own_object);
        match change {
            ObjectChange::Apply(speaker) => self.insert_speaker(speaker),
            ObjectChange::Delete(key) => {
                self.speakers.remove(&key.name);
                self.macs.remove(&key.name);
            }
            ObjectChange::Reset(all) => {
                self.speakers.clear();
                self.macs.clear();
                all.into_iter().for_each(|speaker| self.insert_speaker(speaker));
                self.unlisted.remove("Speaker");
                self.speakers_missing = false;
            }
            ObjectChange::Missing => self.speakers_missing = true,
        }
        self.own_object_deletions += u64::from(had && !self.speakers.contains_key(&self.own_object));
        let addressed = self.other_speakers().filter_map(|(node, address)| Some((node.clone(), (*address)?)));
        self.mesh_peers = Arc::new(addressed.collect());
        let others = self.macs.iter().filter(|(name, _)| **name != self.own_object);
        self.speaker_macs = others.flat_map(|(_, macs)| macs).copied().collect();
    }

    fn insert_speaker(&mut self, WatchedSpeaker { name, peer, macs, is_reported }: WatchedSpeaker) {
        self.silence_reports += u64::from(is_reported && name == self.own_object);
        self.macs.insert(name.clone(), macs);
        self.speakers.insert(name, peer);
    }

    /// Returns the speakers of this instance on other nodes.
    fn other_speakers(&self) -> impl Iterator<Item = &MeshPeer> {
        self.speakers.values().flatten().filter(|(node, _)| *node != self.node)
    }
}
