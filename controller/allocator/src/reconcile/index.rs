//! The inputs and outputs of the allocator.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::{Config, Labels};
use fairlead_crds::model::delta::ConfigDelta;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::allocations::{Affected, Allocations, ClaimObservation};
use super::announcement::{ObservedSpeaker, PeerSessions, SpeakerChange};
use super::observed::ObservedService;
use super::outbox::{Counters, Decision};
use super::outcome::AllocationOutcome;
use super::pool_waiters::Woken;
use super::sync_state::{ListedKind, SyncState};
use crate::ipam::{Ipam, NodeNetwork, OtherService, Released};

/// The observed Services, claims, Namespaces and configuration, and the decisions on them.
///
/// See the [module](super) for the order of calls.
#[derive(Debug, Default)]
pub struct Index {
    sync: SyncState,
    allocations: Allocations,
}

// Term, timers and outputs.
impl Index {
    /// Begins a term of leadership: if every kind was listed, adopts all held addresses and reconciles all
    /// objects. `released` are the addresses in cool-down, by pool.
    pub fn begin(&mut self, released: Vec<(String, Released)>, now: Timestamp) {
        if self.sync.begin() {
            self.advance(now);
            self.allocations.begin(&released, now);
        }
    }

    /// Requires a new list of every kind before the next [`Index::begin`].
    pub fn forget_lists(&mut self) {
        self.sync.forget_lists();
    }

    /// Ends the term: forgets all decisions and only stores observations from now on. Writes in flight may
    /// still be applied.
    pub fn step_down(&mut self) {
        self.sync.step_down();
        self.allocations.forget_decisions();
    }

    /// Returns when to call [`Index::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let timeouts = [self.ipam().next_expiry(), self.allocations.next_conflict()];
        timeouts.into_iter().flatten().min().filter(|_| self.sync.is_deciding())
    }

    /// Offers the addresses whose cool-down has ended to the objects that wait for them, and writes statuses
    /// that were delayed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.sync.is_deciding() {
            self.advance(now);
            self.allocations.handle_conflicts(now);
            self.retry_waiters(now);
        }
    }

    /// Removes and returns the decisions since the last call, in order.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        let mut decisions = self.allocations.outbox_mut().take_decisions();
        if !self.sync.is_deciding() {
            // The leader cleans up, and lists what departed at the start of its term.
            decisions.retain(|decision| !matches!(decision, Decision::Departed(_)));
        }
        decisions
    }

    /// Removes and returns the pools whose counts may have changed since the last call.
    pub fn take_touched_pools(&mut self) -> BTreeSet<Arc<str>> {
        self.allocations.outbox_mut().take_touched_pools()
    }
}

// Observations.
impl Index {
    /// Handles a load balancer Service that was created or updated.
    pub fn service_applied(&mut self, observed: ObservedService, now: Timestamp) {
        let key = observed.balancer.key.clone();
        let old = self.allocations.services().get(&key);
        if old.is_some_and(|record| record.balancer().uid != observed.balancer.uid) {
            // Offer the addresses of the old Service to the waiting objects before the new Service is
            // reconciled.
            self.service_deleted(&key, now);
        }
        self.advance(now);
        // No retry before the Service is adopted: it may keep the addresses that another controller gave it.
        self.allocations.remove_other(&key);
        let is_new = !self.allocations.services().contains(&key);
        let writer = self.allocations.observe_service(observed);
        if self.sync.is_deciding() {
            self.allocations.adopt_service(&key);
            self.allocations.reserve_displayed(&key);
            if let Some(writer) = writer {
                self.allocations.resolve_external_write(&key, writer, now);
            }
            self.allocations.reconcile_service(&key, now);
            if is_new {
                self.allocations.publish_claims_of(&key, now);
            }
            self.retry_waiters(now);
        }
    }

    /// Handles that no write of this Service is queued, in flight or in doubt any more. Has no effect if the
    /// index has recorded no such write.
    pub fn write_resolved(&mut self, service: &ObjectKey, now: Timestamp) {
        self.advance(now);
        if self.allocations.resolve_writes(service) {
            self.retry_waiters(now);
        }
    }

    /// Handles a Service that was deleted or is no longer a load balancer of this controller's class.
    pub fn service_deleted(&mut self, key: &ObjectKey, now: Timestamp) {
        // No retry before the Service is removed: it must not get an address.
        self.allocations.advance(now);
        self.allocations.remove_service(key);
        self.allocations.remove_other(key);
        self.retry_waiters(now);
        if self.sync.is_deciding() {
            self.allocations.publish_claims_of(key, now);
            self.retry_waiters(now);
        }
    }

    /// Handles a load balancer Service of another class that was created or updated: the addresses that it
    /// shows are taken.
    pub fn other_applied(&mut self, other: OtherService, now: Timestamp) {
        self.allocations.advance(now);
        let key = other.key.clone();
        self.allocations.observe_other(other);
        if self.sync.is_deciding() {
            // No retry before: the Service still shows the addresses that it held.
            self.allocations.take_other(&key);
            self.allocations.publish_claims_of(&key, now);
        }
        self.retry_waiters(now);
    }

    /// Handles a list of all load balancer Services of other classes. To be called before
    /// [`Index::services_reset`] with the others of the same list, which retries the waiting objects.
    pub fn others_reset(&mut self, list: Vec<OtherService>, now: Timestamp) {
        self.allocations.advance(now);
        let listed: BTreeSet<ObjectKey> = list.iter().map(|other| other.key.clone()).collect();
        let gone: Vec<ObjectKey> =
            self.allocations.others().filter(|key| !listed.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.allocations.remove_other(key));
        for other in list {
            self.allocations.observe_other(other);
        }
        if self.sync.is_deciding() {
            listed.iter().for_each(|key| self.allocations.take_other(key));
        }
    }

    /// Handles a list of all load balancer Services of this controller's class.
    pub fn services_reset(&mut self, list: Vec<ObservedService>, now: Timestamp) {
        self.sync.set_listed(ListedKind::Services);
        self.allocations.advance(now);
        let listed: BTreeSet<&ObjectKey> = list.iter().map(|observed| &observed.balancer.key).collect();
        let known = self.allocations.services().keys();
        let deleted: Vec<ObjectKey> = known.filter(|key| !listed.contains(key)).cloned().collect();
        for key in &deleted {
            self.allocations.remove_service(key);
        }
        let keys: Vec<ObjectKey> = list.iter().map(|observed| observed.balancer.key.clone()).collect();
        let mut external = Vec::new();
        for observed in list {
            let key = observed.balancer.key.clone();
            if let Some(writer) = self.allocations.observe_service(observed) {
                external.push((key, writer));
            }
        }
        if self.sync.is_deciding() {
            self.allocations.adopt_services(&keys);
            for (key, writer) in external {
                self.allocations.resolve_external_write(&key, writer, now);
            }
            for key in &deleted {
                self.allocations.publish_claims_of(key, now);
            }
            // Waiting claims may get the addresses of deleted Services.
            let claims = self.allocations.claims().refused();
            self.allocations.reconcile_all(keys, &claims, now);
        }
    }

    /// Handles a claim that was created or updated.
    pub fn claim_applied(&mut self, claim: Claim, now: Timestamp) {
        self.advance(now);
        let key = claim.key.clone();
        let ClaimObservation { is_external, former_service } = self.allocations.observe_claim(claim);
        if self.sync.is_deciding() {
            if let Some(service) = former_service {
                self.allocations.reconcile_if_waiting(&service, now);
            }
            if is_external {
                self.allocations.resolve_external_claim_write(&key, now);
            } else {
                self.allocations.reconcile_claim(&key, now);
            }
            self.retry_waiters(now);
        }
    }

    /// Decides on the status of a claim again, although nothing changed.
    pub fn publish_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        if self.sync.is_deciding() {
            self.allocations.publish_claim(key, now);
        }
    }

    /// Handles a claim that was deleted.
    pub fn claim_deleted(&mut self, key: &ObjectKey, now: Timestamp) {
        self.advance(now);
        let service = self.allocations.remove_claim(key);
        if self.sync.is_deciding()
            && let Some(service) = service
        {
            self.allocations.reconcile_if_waiting(&service, now);
        }
        self.retry_waiters(now);
    }

    /// Handles a list of all claims.
    pub fn claims_reset(&mut self, list: Vec<Claim>, now: Timestamp) {
        self.sync.set_listed(ListedKind::Claims);
        self.advance(now);
        let listed: BTreeSet<&ObjectKey> = list.iter().map(|claim| &claim.key).collect();
        let known = self.allocations.claims().keys();
        let deleted: Vec<ObjectKey> = known.filter(|key| !listed.contains(key)).cloned().collect();
        for key in deleted {
            self.claim_deleted(&key, now);
        }
        let keys: Vec<ObjectKey> = list.iter().map(|claim| claim.key.clone()).collect();
        let (mut external, mut former_services) = (Vec::new(), Vec::new());
        for claim in list {
            let key = claim.key.clone();
            let ClaimObservation { is_external, former_service } = self.allocations.observe_claim(claim);
            former_services.extend(former_service);
            if is_external {
                external.push(key);
            }
        }
        if self.sync.is_deciding() {
            for service in former_services {
                self.allocations.reconcile_if_waiting(&service, now);
            }
            for key in external {
                self.allocations.resolve_external_claim_write(&key, now);
            }
            self.allocations.reconcile_all(Vec::new(), &keys, now);
        }
    }

    /// Handles a Namespace that was created or updated.
    pub fn namespace_applied(&mut self, name: String, labels: Labels, now: Timestamp) {
        self.advance(now);
        let affected = self.allocations.observe_namespace(name, labels);
        if self.sync.is_deciding()
            && let Some(Affected { services, claims }) = affected
        {
            self.allocations.reconcile_all(services, &claims, now);
        }
    }

    /// Handles a Namespace that was deleted. Its Services were deleted before.
    pub fn namespace_deleted(&mut self, name: &str) {
        self.allocations.remove_namespace(name);
    }

    /// Handles a list of all Namespaces.
    pub fn namespaces_reset(&mut self, list: Vec<(String, Labels)>, now: Timestamp) {
        self.sync.set_listed(ListedKind::Namespaces);
        let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        self.allocations.retain_namespaces(&listed);
        for (name, labels) in list {
            if self.allocations.namespaces().labels(&name) != Some(&labels) {
                self.namespace_applied(name, labels, now);
            }
        }
    }

    /// Handles a Node that was created or updated; the default network if it was deleted.
    pub fn node_applied(&mut self, name: &str, network: NodeNetwork, now: Timestamp) {
        self.advance(now);
        let holders = self.allocations.observe_node(name, network);
        if self.sync.is_deciding() {
            self.allocations.reconcile_all(holders, &[], now);
        } else {
            self.allocations.discard_changes();
        }
    }

    /// Handles a list of all Nodes. Without it, Services may get the addresses of Nodes.
    pub fn nodes_reset(&mut self, list: Vec<(String, NodeNetwork)>, now: Timestamp) {
        let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        let known = self.ipam().nodes();
        let deleted: Vec<Arc<str>> = known.filter(|name| !listed.contains(&***name)).cloned().collect();
        for name in deleted {
            self.node_applied(&name, NodeNetwork::default(), now);
        }
        for (name, network) in list {
            self.node_applied(&name, network, now);
        }
    }

    /// Handles a ServiceCIDR that was created or updated; no ranges if it was deleted. The pools that overlap
    /// its ranges are touched; no decision depends on them.
    pub fn service_ranges_applied(&mut self, name: &str, ranges: BTreeSet<IpRange>) {
        self.allocations.observe_service_ranges(name, ranges);
    }

    /// Handles a list of all ServiceCIDRs.
    pub fn service_ranges_reset(&mut self, list: Vec<(String, BTreeSet<IpRange>)>) {
        let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        let known = self.ipam().service_cidrs();
        let deleted: Vec<Arc<str>> = known.filter(|name| !listed.contains(&***name)).cloned().collect();
        for name in deleted {
            self.service_ranges_applied(&name, BTreeSet::new());
        }
        for (name, ranges) in list {
            self.service_ranges_applied(&name, ranges);
        }
    }

    /// Handles a `Speaker` that was created or updated; `None` if it was deleted or belongs to another
    /// instance. Returns the BGPPeers whose sessions differ.
    pub fn speaker_applied(
        &mut self,
        name: &str,
        speaker: Option<ObservedSpeaker>,
        now: Timestamp,
    ) -> BTreeSet<Box<str>> {
        let change = self.allocations.speakers_mut().apply(name, speaker);
        self.handle_speaker_change(change, now)
    }

    /// Handles a list of all `Speaker` objects of this instance. Returns the BGPPeers whose sessions differ.
    pub fn speakers_reset(
        &mut self,
        list: Vec<(String, ObservedSpeaker)>,
        now: Timestamp,
    ) -> BTreeSet<Box<str>> {
        let change = self.allocations.speakers_mut().reset(list);
        self.handle_speaker_change(change, now)
    }

    fn handle_speaker_change(&mut self, change: SpeakerChange, now: Timestamp) -> BTreeSet<Box<str>> {
        if self.sync.is_deciding() {
            self.allocations.handle_speaker_change(&change, now);
        }
        change.peers
    }

    /// Handles a new configuration. See [`Index::change_config`].
    pub fn set_config(&mut self, config: &Config, now: Timestamp) {
        self.sync.set_listed(ListedKind::Configuration);
        self.advance(now);
        let (affected, woken) = self.allocations.observe_config(config);
        self.reconcile_config(affected, woken, now);
    }

    /// Handles a change of the configuration. The cost depends on the holders of pools that differ, and on
    /// the waiting objects that these pools may serve.
    pub fn change_config(&mut self, delta: ConfigDelta, now: Timestamp) {
        self.sync.set_listed(ListedKind::Configuration);
        self.advance(now);
        let (affected, woken) = self.allocations.observe_config_change(delta);
        self.reconcile_config(affected, woken, now);
    }

    fn reconcile_config(&mut self, affected: Affected, woken: Woken, now: Timestamp) {
        let Affected { services, claims } = affected;
        if self.sync.is_deciding() {
            self.allocations.reconcile_and_wake(services, &claims, woken, now);
        } else {
            self.allocations.discard_changes();
        }
    }
}

// Reading.
impl Index {
    /// Returns true if every kind was listed.
    pub fn is_listed(&self) -> bool {
        self.sync.is_listed()
    }

    /// Returns true between [`Index::begin`] and [`Index::step_down`].
    pub fn is_deciding(&self) -> bool {
        self.sync.is_deciding()
    }

    /// Returns the allocator: pools, holders and reservations.
    pub fn ipam(&self) -> &Ipam {
        self.allocations.ipam()
    }

    /// Returns the sessions with a BGPPeer, as the speakers report them; `None` before they were listed.
    pub fn peer_sessions(&self, peer: &str) -> Option<PeerSessions> {
        let speakers = self.allocations.speakers();
        speakers.is_listed().then(|| speakers.peer(peer))
    }

    /// Returns the counters since the start of the process.
    pub fn counters(&self) -> &Counters {
        self.allocations.outbox().counters()
    }

    /// Returns the number of Services, and how many of them wait for an address.
    pub fn service_counts(&self) -> (usize, usize) {
        (self.allocations.services().len(), self.allocations.waiting_services())
    }

    /// Returns the resourceVersion of a Service as last observed.
    pub fn version_of_service(&self, service: &ObjectKey) -> Option<&str> {
        self.allocations.services().get(service).map(|record| &*record.balancer().resource_version)
    }

    /// Returns the resourceVersion of a claim as last observed.
    pub fn version_of_claim(&self, claim: &ObjectKey) -> Option<&str> {
        self.allocations.claims().get(claim).map(|record| &*record.claim().resource_version)
    }

    /// Returns the last decision on a Service.
    pub fn outcome(&self, service: &ObjectKey) -> Option<&AllocationOutcome> {
        self.allocations.services().get(service).map(|record| record.outcome())
    }

    /// Returns the state, for [`crate::explain`].
    pub(crate) fn allocations(&self) -> &Allocations {
        &self.allocations
    }
}

impl Index {
    /// Advances the clock before the input itself is handled, so that addresses whose cool-down has ended go
    /// to the objects that wait for them.
    fn advance(&mut self, now: Timestamp) {
        if self.allocations.advance(now) {
            self.retry_waiters(now);
        }
    }

    fn retry_waiters(&mut self, now: Timestamp) {
        if self.sync.is_deciding() {
            self.allocations.retry_waiters(now);
        } else {
            self.allocations.discard_changes();
        }
    }
}
