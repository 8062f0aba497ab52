//! The whole: passes inputs to the parts, and lets them decide in the right order.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::config::Config;
use fairlead_crds::model::delta::ConfigDelta;
use fairlead_crds::model::service::ObjectKey;
use fairlead_l2::Conflict;
use jiff::Timestamp;

use fairlead_l2::ServedInterfaces;

use crate::announced_lists::AnnouncedList;
use crate::candidates::NodeInterfaces;
use crate::change::{AnnouncementChange, AnnouncementState, ChangeList};
use crate::config_diff::affected_pools;
use crate::conflicts::{AddressConflict, Conflicts};
use crate::data_path::ProbeAnswer;
use crate::dirty::DirtySet;
use crate::drain::{Drain, DrainPhase};
use crate::election::{Election, NewOwner};
use crate::endpoints::Endpoints;
use crate::input::{DrainCause, Node, NodeName, Service, Slice, SliceKey};
use crate::links::LinkNetworks;
use crate::nodes::Nodes;
use crate::reason::{NotAnnouncedReason, Protocol};
use crate::routes::Routes;
use crate::services::Services;
use crate::states::{AnnouncementStates, Problem};
use crate::takeover::Takeover;
use crate::turns::turn;
use crate::view::ClusterView;

/// The plan of one node.
#[derive(Debug)]
pub struct Plan {
    // Inputs.
    config: Config,
    nodes: Nodes,
    services: Services,
    endpoints: Endpoints,
    now: Option<Instant>,
    // Changes and outputs.
    dirty: DirtySet,
    drain: Drain,
    election: Election,
    routes: Routes,
    states: AnnouncementStates,
    takeovers: Vec<Takeover>,
    conflicts: Conflicts,
    #[cfg(test)]
    recomputed: Recomputed,
}

/// Number of things that were recomputed: an event costs what it changes.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recomputed {
    /// Services whose routes were computed.
    pub(crate) services: u64,
    /// Addresses whose owner was elected.
    pub(crate) elections: u64,
    /// Prefixes whose routes were merged.
    pub(crate) prefixes: u64,
}

impl Plan {
    /// Returns an empty plan of the node `own_name`: it announces nothing.
    pub fn new(own_name: impl Into<NodeName>) -> Self {
        let mut config = Config::default();
        config.index();
        Self {
            config,
            nodes: Nodes::new(own_name.into()),
            services: Services::default(),
            endpoints: Endpoints::default(),
            now: None,
            dirty: DirtySet::default(),
            drain: Drain::default(),
            election: Election::default(),
            routes: Routes::default(),
            states: AnnouncementStates::default(),
            takeovers: Vec::new(),
            conflicts: Conflicts::default(),
            #[cfg(test)]
            recomputed: Recomputed::default(),
        }
    }

    /// Adds or replaces a Service of our class.
    pub fn apply_service(&mut self, key: ObjectKey, service: Service) {
        if let Some(key) = self.services.apply(key, service, &mut self.dirty) {
            let service = self.services.get(&key);
            self.states.reset_service(&key, service.map(|s| s.addresses.as_slice()).unwrap_or_default());
        }
    }

    /// Removes a Service that was deleted or is no longer of our class.
    pub fn delete_service(&mut self, key: &ObjectKey) {
        self.services.delete(key, &mut self.dirty);
        self.states.delete_service(key);
        self.routes.release(key);
    }

    /// Replaces all Services of our class.
    pub fn reset_services(&mut self, all: Vec<(ObjectKey, Service)>) {
        let listed: BTreeSet<&ObjectKey> = all.iter().map(|(key, _)| key).collect();
        let deleted: Vec<_> =
            self.services.keys().filter(|key| !listed.contains(key.as_ref())).cloned().collect();
        deleted.iter().for_each(|key| self.delete_service(key));
        all.into_iter().for_each(|(key, service)| self.apply_service(key, service));
    }

    /// Adds or replaces an EndpointSlice.
    pub fn apply_slice(&mut self, key: SliceKey, slice: Slice) {
        let (services, dirty) = (&self.services, &mut self.dirty);
        self.endpoints.apply(key, slice, &mut |service| services.mark(service, dirty));
    }

    /// Removes an EndpointSlice.
    pub fn delete_slice(&mut self, key: &SliceKey) {
        let (services, dirty) = (&self.services, &mut self.dirty);
        self.endpoints.delete(key, &mut |service| services.mark(service, dirty));
    }

    /// Replaces all EndpointSlices.
    pub fn reset_slices(&mut self, all: Vec<(SliceKey, Slice)>) {
        let (services, dirty) = (&self.services, &mut self.dirty);
        self.endpoints.reset(all, &mut |service| services.mark(service, dirty));
    }

    /// Adds or replaces a Node.
    pub fn apply_node(&mut self, name: NodeName, node: Node) {
        self.nodes.apply(name, node, &mut self.dirty);
    }

    /// Removes a Node.
    pub fn delete_node(&mut self, name: &str) {
        self.nodes.delete(name, &mut self.dirty);
    }

    /// Replaces all Nodes.
    pub fn reset_nodes(&mut self, all: Vec<(NodeName, Node)>) {
        self.nodes.reset(all, &mut self.dirty);
    }

    /// Replaces the configuration.
    pub fn set_config(&mut self, new: &Config) {
        self.change_config(ConfigDelta::between(&self.config, new));
    }

    /// Changes the configuration. The cost depends on what differs.
    pub fn change_config(&mut self, delta: ConfigDelta) {
        let previous = self.config.apply(delta);
        if !previous.peers.is_empty() {
            self.dirty.mark_peers();
        }
        if !previous.l2_advertisements.is_empty() {
            self.dirty.mark_candidates();
        }
        let affected = affected_pools(&previous, &self.config);
        affected.ranges.iter().for_each(|range| self.services.mark_range(range, &mut self.dirty));
        for name in affected.names {
            self.services.mark_allocated_from(name, &mut self.dirty);
        }
        if !previous.bgp_advertisements.is_empty() {
            self.routes.drop_unused_attributes();
        }
    }

    /// Returns how long after an event that all nodes see this one replaces a session: its turn among the
    /// live speakers, or among all nodes while these are unknown.
    #[must_use]
    pub fn turn(&self) -> std::time::Duration {
        let own = self.nodes.own_name();
        match self.election.live() {
            Some(live) => turn(own, live.iter().map(|name| &**name)),
            None => turn(own, self.nodes.all().map(|(name, _)| &**name)),
        }
    }

    /// Replaces the speakers that the mesh lists as live; this one always counts as live. With `None`, no
    /// node owns an L2 address.
    pub fn set_live(&mut self, live: Option<&BTreeSet<NodeName>>) {
        self.election.set_live(self.nodes.own_name(), live, &mut self.dirty);
    }

    /// Replaces the speakers that announced that they leave the mesh, and have not joined again. To call
    /// before [`Plan::set_live`].
    pub fn set_departed(&mut self, departed: &BTreeSet<NodeName>) {
        self.election.set_departed(departed);
    }

    /// Sets that the speaker does not announce by this protocol. To call before anything is announced:
    /// without members ([`Plan::set_live`]) or without peers, nothing is.
    pub fn disable(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::L2 => self.election.disable(),
            Protocol::Bgp => self.routes.disable(),
        }
    }

    /// Sets whether this node may announce L2 addresses that it does not announce yet. A node that may be cut
    /// off keeps what it has, because the other nodes may own the rest.
    pub fn set_may_claim(&mut self, may_claim: bool) {
        self.election.set_may_claim(may_claim, &mut self.dirty);
    }

    /// Notes that this node has stopped announcing an L2 address while it is isolated, because another host
    /// announces it. This node announces the address again when it may claim addresses and owns it.
    pub fn yield_address(&mut self, address: IpAddr) {
        self.election.yield_address(address, &mut self.dirty);
    }

    /// Sets that this node probes an address before its first announcement. To call before anything is
    /// announced.
    pub fn enable_probes(&mut self) {
        self.election.enable_probes();
    }

    /// Handles a conflict about an address of this node, seen at `now`, which is `at` by the clock. Returns
    /// the Services that have the address if the conflict is new.
    pub fn handle_conflict(
        &mut self,
        now: Instant,
        at: Timestamp,
        conflict: Conflict,
    ) -> Option<(Vec<Arc<ObjectKey>>, AddressConflict)> {
        let (address, is_left) = (conflict.address, conflict.is_left);
        // Withdrawn meanwhile.
        if !self.election.claims(address) {
            return None;
        }
        if is_left {
            self.election.leave_address(address, &mut self.dirty);
        }
        let new = self.conflicts.handle(now, at, conflict)?;
        Some((self.services.holders(address).to_vec(), new))
    }

    /// Notes that no other host has an address that this node has probed.
    pub fn confirm_address(&mut self, address: IpAddr) {
        self.conflicts.remove(address);
        self.election.confirm_address(address, &mut self.dirty);
    }

    /// Returns the conflicts about addresses of this node.
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// Replaces the interfaces that can announce. Before the first call, every interface counts as present.
    pub fn set_links(&mut self, links: LinkNetworks) {
        self.election.set_links(links, &mut self.dirty);
    }

    /// Replaces the interfaces that the speakers of other nodes reported. A node without an entry counts as
    /// able to announce on every interface; so does this one before the first [`Plan::set_links`], unless it
    /// has an entry.
    pub fn set_interfaces(&mut self, interfaces: &NodeInterfaces) {
        self.election.set_interfaces(interfaces, &mut self.dirty);
    }

    /// Returns the interfaces on which this node can announce by L2; `None` before the first
    /// [`Plan::set_links`], and if it does not announce by L2.
    pub fn own_interfaces(&self) -> Option<&ServedInterfaces> {
        self.election.own_interfaces()
    }

    /// Returns whether any interface can announce; false before the first [`Plan::set_links`].
    pub fn has_links(&self) -> bool {
        self.election.has_links()
    }

    /// Sets how long a drained node asks the peers to prefer other paths before it withdraws its routes.
    pub fn set_drain_wait(&mut self, wait: Duration) {
        self.drain.set_wait(wait);
    }

    /// Sets the time. Before the first call, nothing waits for time to pass.
    pub fn set_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Sets the longest time for which an address waits for the data path, and how long the node had been up
    /// when the speaker started. Unless the node has booted recently, addresses that endpoints can serve at
    /// the start do not wait.
    pub fn set_data_path_wait(&mut self, wait: Duration, node_uptime: Duration) {
        self.routes.holds.set_wait(wait, node_uptime);
    }

    /// Handles the answer of the data path to a probe.
    pub fn handle_probe(&mut self, answer: &ProbeAnswer) {
        let dirty = &mut self.dirty;
        self.routes.handle_probe(answer, &mut |service| dirty.mark_service(service));
    }

    /// Returns true if an address waits for the data path, so that probes are needed. Current after
    /// [`Plan::changes`].
    pub fn awaits_data_path(&self) -> bool {
        self.routes.holds.awaits_data_path()
    }

    /// Takes the addresses that this node begins to announce although the data path has not become ready in
    /// time.
    pub fn take_unconfirmed(&mut self) -> Vec<(Arc<ObjectKey>, IpAddr)> {
        self.routes.holds.take_unconfirmed()
    }

    /// Returns when to call [`Plan::set_time`] and [`Plan::changes`] although nothing else changes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.routes.poll_timeout(), self.drain.poll_timeout(), self.conflicts.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Recomputes what changed since the last call. Returns the changes to carry out, in order.
    pub fn changes(&mut self) -> Vec<AnnouncementChange> {
        let mut changes = ChangeList::default();
        self.takeovers.clear();
        self.update_drain(&mut changes);
        if let Some(now) = self.now {
            self.conflicts.handle_timeout(now);
            self.routes.holds.take_due(now).for_each(|service| self.dirty.mark_service(&service));
        }
        let view = ClusterView {
            config: &self.config,
            nodes: &self.nodes,
            services: &self.services,
            endpoints: &self.endpoints,
        };
        if self.dirty.take_candidates() {
            self.election.find_candidates(view, &mut self.dirty);
        }
        let live = self.election.live();
        if self.dirty.take_peers() && self.routes.select_peers(view, live, &mut changes) {
            self.dirty.mark_all_services();
        }
        for key in self.dirty.take_services(self.services.keys()) {
            #[cfg(test)]
            {
                self.recomputed.services += 1;
            }
            let Some(service) = self.services.get(&key) else { continue };
            for (address, state) in self.routes.request(&key, service, view, self.now) {
                self.states.set(&key, address, Protocol::Bgp, state);
            }
        }
        self.routes.holds.handle_computed();
        for prefix in self.routes.take_changed(self.now) {
            #[cfg(test)]
            {
                self.recomputed.prefixes += 1;
            }
            self.routes.merge(prefix, view, self.now, &mut changes);
        }
        for address in self.dirty.take_addresses(self.services.addresses()) {
            #[cfg(test)]
            {
                self.recomputed.elections += 1;
            }
            let result = self.election.elect(address, view);
            for (key, state) in result.states {
                self.states.set(&key, address, Protocol::L2, state);
            }
            if let Some(NewOwner { services, interfaces, cause }) = result.takeover {
                self.takeovers.extend(services.into_iter().map(|service| {
                    let (interfaces, cause) = (interfaces.clone(), cause.clone());
                    Takeover { service, address, interfaces, cause }
                }));
            }
            if matches!(result.change, Some(AnnouncementChange::L2Withdraw { .. })) {
                self.conflicts.remove(address);
            }
            result.change.into_iter().for_each(|change| changes.push(change));
        }
        changes.into_ordered()
    }

    /// Takes the L2 addresses that this node begins to announce with the last [`Plan::changes`].
    pub fn take_takeovers(&mut self) -> Vec<Takeover> {
        std::mem::take(&mut self.takeovers)
    }

    /// Returns the addresses that this node should announce and does not, the most important first. Current
    /// after [`Plan::changes`].
    pub fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.states.problems()
    }

    /// Returns the nodes that can announce an L2 address: the owner, then the others in the order in which
    /// they become the owner if those before them fail. Current after [`Plan::changes`].
    pub fn owner_order(&self, address: IpAddr) -> Vec<NodeName> {
        self.election.order(address, self.view())
    }

    /// Returns why this node cannot announce an address of a Service by L2, whichever node owns it; `None`
    /// if it can. Current after [`Plan::changes`].
    pub fn l2_inability(&self, service: &ObjectKey, address: IpAddr) -> Option<NotAnnouncedReason> {
        self.election.inability(service, address, self.view())
    }

    /// Returns the state of an address of a Service by one protocol; `None` if the Service does not hold the
    /// address. Current after [`Plan::changes`].
    pub fn state(
        &self,
        service: &ObjectKey,
        address: IpAddr,
        protocol: Protocol,
    ) -> Option<AnnouncementState> {
        self.states.get(service, address, protocol)
    }

    /// Returns the number of addresses that this node announces by L2.
    pub fn l2_announced(&self) -> usize {
        self.election.announced()
    }

    /// Returns the number of prefixes that this node announces to at least one peer.
    pub fn bgp_announced(&self) -> usize {
        self.routes.announced()
    }

    /// Returns a number that grows whenever [`Plan::announced_list`] may differ.
    pub fn announced_version(&self) -> u64 {
        self.election.version() + self.routes.version() + self.states.version()
    }

    /// Returns all addresses that this node announces. Current after [`Plan::changes`].
    pub fn announced_list(&self) -> AnnouncedList {
        let by_peers = self.routes.announced_addresses(self.states.announced(Protocol::Bgp));
        AnnouncedList {
            l2: self.election.announced_addresses().collect(),
            l2_count: self.l2_announced(),
            bgp: by_peers
                .into_iter()
                .map(|(peers, addresses)| (peers, addresses.into_iter().collect()))
                .collect(),
            bgp_count: self.bgp_announced(),
        }
    }

    /// Returns the Node object of this node.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.own()
    }

    /// Returns why this node announces nothing at all; `None` if it is eligible.
    pub fn node_reason(&self) -> Option<NotAnnouncedReason> {
        // The routes of a node that is being drained remain for a moment.
        let draining = || self.drain_cause().map(|_| NotAnnouncedReason::NodeDraining);
        self.nodes.own_reason().or_else(draining)
    }

    /// Returns why this node is being drained; `None` if it is not.
    pub fn drain_cause(&self) -> Option<DrainCause> {
        self.nodes.own().and_then(|node| node.drain)
    }

    /// Returns the phase of the drain of this node. Current after [`Plan::changes`].
    pub fn drain_phase(&self) -> DrainPhase {
        self.drain.phase()
    }

    fn view(&self) -> ClusterView<'_> {
        ClusterView {
            config: &self.config,
            nodes: &self.nodes,
            services: &self.services,
            endpoints: &self.endpoints,
        }
    }

    fn update_drain(&mut self, changes: &mut ChangeList) {
        let Some(node) = self.nodes.own() else { return };
        let before = self.drain.phase();
        if !self.drain.update(self.now, node.drain.is_some()) {
            return;
        }
        let after = self.drain.phase();
        let asks = after != DrainPhase::Serving;
        if asks != (before != DrainPhase::Serving) {
            changes.push(AnnouncementChange::GracefulShutdown(asks));
        }
        self.nodes.set_withdrawn(after >= DrainPhase::Withdrawn, &mut self.dirty);
    }
}

#[cfg(test)]
impl Plan {
    pub(crate) fn own_name(&self) -> &NodeName {
        self.nodes.own_name()
    }

    pub(crate) fn owner(&self, address: std::net::IpAddr) -> Option<&str> {
        self.election.owner(address)
    }

    pub(crate) fn recomputed(&self) -> Recomputed {
        self.recomputed
    }
}
