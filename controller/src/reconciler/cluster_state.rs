//! The state of the cluster as the watches report it, and the writes that follow from it. Pure: no I/O and no
//! clock.
//!
//! Inputs are watch events, resolved and finished writes, the start and end of a term, and timeouts.
//! Outputs are writes and events. All inputs of a turn are handled before its outputs are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fairlead_allocator::ipam::{Ipam, NodeNetwork};
use fairlead_allocator::reconcile::announcement::{ObservedSpeaker, SessionReports};
use fairlead_allocator::reconcile::objects::{AppliedChange, Configuration, ObjectPart, ObjectPatch};
use fairlead_allocator::reconcile::pool_status_schedule::PoolStatusSchedule;
use fairlead_allocator::reconcile::write_conflicts::{Replacement, WriteConflicts, digest};
use fairlead_allocator::reconcile::{
    Decision, DepartedService, EventObject, Index, MarkedService, ObjectEvent, Removal, ReportedProblems,
    ServiceEvent,
};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::{InForce, Kind, ObjectRef};
use fairlead_crds::store::{ConfigurationChange, ObjectChange};
use fairlead_crds::v1beta1::IPClaim;
use jiff::Timestamp;
use kube::Resource;

use crate::run::Scope;
use crate::watches::{ClusterChange, WatchedNamespace, WatchedService};
use crate::write_queue::{PatchBody, Write, WriteResult, WriteTarget};

use super::unstored::UnstoredStatuses;

/// The newest decision on an object: the write, or `None` if nothing is to be written.
pub(super) type DesiredWrite = (WriteTarget, Option<Write>);

/// The state of the cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    /// The namespace of this instance.
    namespace: String,
    /// The load balancer class of this instance.
    class: Option<String>,
    index: Index,
    configuration: Configuration,
    /// True if the configuration must be resolved again. A burst of changes is resolved once.
    unresolved: bool,
    /// Number of resolutions of the configuration since the process started.
    resolutions: u64,
    /// Configuration objects that were observed since the configuration was resolved.
    observed_objects: BTreeSet<ObjectRef>,
    /// True if the configuration was resolved since the last [`ClusterState::forget_lists`].
    configured: bool,
    /// True if the Nodes were listed since then: without them, Services could get the addresses of Nodes.
    nodes_listed: bool,
    /// True if the API server does not serve IPClaims.
    claims_missing: bool,
    /// Load balancers of other classes that carry a status of Fairlead.
    marked: BTreeMap<ObjectKey, MarkedService>,
    pools: PoolStatusSchedule,
    /// Pools whose status was decided in this term and that existed then.
    counted_pools: BTreeSet<String>,
    /// Decisions on configuration objects, except pools, that were not taken yet.
    object_writes: Vec<DesiredWrite>,
    /// The writes of this term, except those of Services, that other programs may replace.
    conflicts: WriteConflicts<WriteTarget>,
    unstored: UnstoredStatuses,
    /// The BGPPeers whose sessions differ from those in their statuses.
    session_reports: SessionReports,
    reported_problems: ReportedProblems,
    /// Events about objects other than Services that were not taken yet.
    object_events: Vec<ObjectEvent>,
}

/// The decisions of a turn.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// In the order in which they were made.
    pub(super) writes: Vec<DesiredWrite>,
    pub(super) events: Vec<ServiceEvent>,
    /// Services that are no longer load balancers of this controller.
    pub(super) departed: Vec<DepartedService>,
}

impl ClusterState {
    /// Returns the state before any object was observed.
    pub(super) fn new(scope: &Scope) -> Self {
        Self {
            namespace: scope.namespace.clone(),
            class: scope.class.clone(),
            configuration: Configuration::new(scope.class.as_deref()),
            ..Self::default()
        }
    }

    /// Returns the Services and the allocator, for metrics and logs.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns whether every kind was listed and the configuration was resolved.
    pub(super) fn is_synced(&self) -> bool {
        self.configured && self.nodes_listed && self.index.is_listed() && self.configuration.has_cooldowns()
    }

    /// Returns the number of resolutions of the configuration since the process started.
    pub(super) fn resolutions(&self) -> u64 {
        self.resolutions
    }

    /// Returns the kinds, in plural, that the API server does not serve.
    pub(super) fn missing_kinds(&self) -> impl Iterator<Item = String> {
        let claims = self.claims_missing.then(|| IPClaim::plural(&()).into_owned());
        self.configuration.missing().map(|kind| kind.plural().into_owned()).chain(claims)
    }

    /// Returns whether decisions are made: from [`ClusterState::begin`] to [`ClusterState::step_down`].
    pub(super) fn is_deciding(&self) -> bool {
        self.index.is_deciding()
    }

    /// Begins to decide: evaluates all objects. The state must be synced.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.index.begin(self.configuration.released(), now);
        self.evaluate_objects(now);
    }

    /// Ends the term: forgets all decisions and only stores the state of the objects from now on.
    pub(super) fn step_down(&mut self) {
        self.index.step_down();
        self.pools.skip_interval();
        self.counted_pools.clear();
        self.object_writes.clear();
        self.conflicts = WriteConflicts::default();
        self.unstored = UnstoredStatuses::default();
        self.reported_problems = ReportedProblems::default();
        self.object_events.clear();
    }

    /// Requires a new list of every kind before the next term: the watches may lag behind earlier writes.
    pub(super) fn forget_lists(&mut self) {
        self.index.forget_lists();
        self.configuration.forget_lists();
        self.configured = false;
        self.nodes_listed = false;
    }

    /// Handles a change that a watch reported.
    pub(super) fn handle_change(&mut self, change: ClusterChange, now: Timestamp) {
        if !matches!(change, ClusterChange::Configuration(_)) {
            self.resolve_configuration(now);
        }
        match change {
            ClusterChange::Services(change) => self.handle_services(change, now),
            ClusterChange::Claims(ObjectChange::Apply(claim)) if claim.class == self.class => {
                self.index.claim_applied(*claim, now)
            }
            // Another instance handles its class.
            ClusterChange::Claims(ObjectChange::Apply(claim)) => self.index.claim_deleted(&claim.key, now),
            ClusterChange::Claims(ObjectChange::Delete(key)) => self.index.claim_deleted(&key, now),
            ClusterChange::Claims(ObjectChange::Reset(list)) => {
                self.claims_missing = false;
                let own = list.into_iter().map(|claim| *claim).filter(|claim| claim.class == self.class);
                self.index.claims_reset(own.collect(), now);
            }
            ClusterChange::Claims(ObjectChange::Missing) => self.claims_missing = true,
            ClusterChange::Namespaces(change) => self.handle_namespaces(change, now),
            ClusterChange::Definition(kind, change) => {
                let is_deleted = match change {
                    ObjectChange::Apply(is_terminating) => is_terminating,
                    ObjectChange::Delete(_) => false,
                    ObjectChange::Reset(list) => list.into_iter().any(|is_terminating| is_terminating),
                    // Every API server serves CustomResourceDefinitions.
                    ObjectChange::Missing => return,
                };
                self.set_removal(self.configuration.removal().with_definition(kind, is_deleted));
                // The definition of this version may be installed now.
                self.observed_objects.extend(self.unstored.take());
                if kind == Kind::IPAddressPool && self.configured {
                    self.index.set_config(&self.configuration.config(), now);
                }
            }
            ClusterChange::Nodes(ObjectChange::Apply(node)) => {
                self.index.node_applied(&node.name, node.network, now);
            }
            ClusterChange::Nodes(ObjectChange::Delete(key)) => {
                self.index.node_applied(&key.name, NodeNetwork::default(), now);
            }
            // Every API server serves Nodes.
            ClusterChange::Nodes(ObjectChange::Missing) => {}
            ClusterChange::Nodes(ObjectChange::Reset(list)) => {
                self.nodes_listed = true;
                let networks = list.into_iter().map(|node| (node.name, node.network));
                self.index.nodes_reset(networks.collect(), now);
            }
            // Only the reports of silent speakers depend on them.
            ClusterChange::SpeakerEndpoints(_) => {}
            ClusterChange::ServiceCidrs(change) => match change {
                ObjectChange::Apply((name, ranges)) => self.index.service_ranges_applied(&name, ranges),
                ObjectChange::Delete(key) => self.index.service_ranges_applied(&key.name, BTreeSet::new()),
                ObjectChange::Reset(list) => self.index.service_ranges_reset(list),
                ObjectChange::Missing => self.index.service_ranges_reset(Vec::new()),
            },
            ClusterChange::Speakers(change) => self.handle_speakers(change, now),
            ClusterChange::Configuration(change) => self.handle_configuration(*change),
            ClusterChange::Cooldowns(list) => self.configuration.cooldowns_listed(list),
        }
    }

    /// Returns the load balancers of classes without pools and peers that carry a status of Fairlead. If the
    /// class has no instance either, this controller wrote it before they changed their class.
    pub(super) fn unserved(&self) -> Vec<DepartedService> {
        let served = self.configuration.served_classes();
        self.marked.values().filter_map(|service| service.departed(&served)).collect()
    }

    /// Handles that no write of this Service is pending, in flight or in doubt any more.
    pub(super) fn handle_write_resolved(&mut self, service: &ObjectKey, now: Timestamp) {
        self.index.write_resolved(service, now);
    }

    /// Handles the result of a write. The status of a pool waits for that of its finalizers.
    pub(super) fn handle_write_result(&mut self, target: &WriteTarget, write: &Write, result: &WriteResult) {
        if matches!(result, WriteResult::Written(_)) {
            self.conflicts.handle_written(target);
        }
        if let WriteTarget::PoolCooldown(pool) = target {
            if let (PatchBody::Json(body), WriteResult::Written(_)) = (&*write.body, result) {
                self.configuration.cooldown_written(pool, body);
                self.pools.handle_cooldown_written(pool);
            }
            return;
        }
        if let (WriteTarget::ObjectStatus(object), WriteResult::Written(version)) = (target, result)
            && object.kind != Kind::IPAddressPool
            && *version == write.resource_version
        {
            self.unstored.handle_unstored(object, version);
            // The watch delivers nothing, and finalizers wait for the status.
            self.observed_objects.insert(object.clone());
        }
        let WriteTarget::ObjectFinalizers(pool) = target else { return };
        if pool.kind != Kind::IPAddressPool {
            // The watch delivers the new version.
            return;
        }
        if let (PatchBody::Json(body), WriteResult::Written(version)) = (&*write.body, result) {
            self.configuration.finalizers_written(&pool.name, body, version);
        }
        self.pools.handle_finalizers_result(&pool.name);
        self.schedule_verdict(&pool.name);
    }

    /// Handles that a write of a pool's finalizers is in the write queue, where it may wait after a failure.
    pub(super) fn handle_finalizers_queued(&mut self, pool: &str, backing_off: bool) {
        self.pools.handle_finalizers_queued(pool, backing_off);
    }

    /// Handles that time has passed.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.index.poll_timeout().is_some_and(|due| due <= now) {
            self.index.handle_timeout(now);
        }
        for target in self.conflicts.take_due(now) {
            match target {
                WriteTarget::ObjectStatus(pool) if pool.kind == Kind::IPAddressPool => {
                    self.pools.handle_verdict(pool.name);
                }
                WriteTarget::ObjectFinalizers(pool) if pool.kind == Kind::IPAddressPool => {
                    self.pools.handle_changed_pools([pool.name]);
                }
                WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => {
                    self.evaluate_object(object, now);
                }
                WriteTarget::ClaimStatus(claim) => self.index.publish_claim(&claim, now),
                WriteTarget::ServiceStatus(_) | WriteTarget::PoolCooldown(_) => {}
            }
        }
    }

    /// Returns when to call [`ClusterState::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let timeouts =
            [self.index.poll_timeout(), self.conflicts.next_due(), self.session_reports.poll_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Removes and returns the writes that other programs replaced since the last call, except those of
    /// Services.
    pub(super) fn take_replacements(&mut self) -> Vec<Replacement<WriteTarget>> {
        self.conflicts.take_replacements()
    }

    /// Returns when to call [`ClusterState::poll_pool_statuses`].
    pub(super) fn poll_pool_timeout(&self) -> Option<Instant> {
        if self.is_deciding() { self.pools.poll_timeout() } else { None }
    }

    /// Makes the statuses of all changed pools due at once.
    pub(super) fn skip_pool_interval(&mut self) {
        self.pools.skip_interval();
    }

    /// Takes the decisions on Services, claims and configuration objects except pools.
    pub(super) fn take_decisions(&mut self, now: Timestamp) -> Decisions {
        let mut decisions = Decisions::default();
        for (target, write) in std::mem::take(&mut self.object_writes) {
            decisions.writes.push(self.admit(target, write, now));
        }
        for decision in self.index.take_decisions() {
            match decision {
                Decision::Status { service, patch } => {
                    decisions.writes.push((WriteTarget::ServiceStatus(service), patch.map(Write::from)));
                }
                Decision::Claim { claim, patch } => {
                    if let Some(patch) = &patch {
                        self.report_problems(patch.problems.clone());
                    }
                    let write = self.admit(WriteTarget::ClaimStatus(claim), patch.map(Write::from), now);
                    decisions.writes.push(write);
                }
                Decision::Departed(departed) => decisions.departed.push(*departed),
                Decision::Event(event) => decisions.events.push(*event),
            }
        }
        decisions
    }

    /// Returns the desired writes of the finalizers of changed pools, by pool.
    pub(super) fn poll_pool_finalizers(&mut self, now: Timestamp) -> Vec<(String, DesiredWrite)> {
        if !self.is_deciding() {
            return Vec::new();
        }
        let touched = self.index.take_touched_pools();
        self.pools.handle_changed_pools(touched.iter().map(ToString::to_string));
        let pools = self.pools.poll_finalizers().into_iter();
        let desired = pools.map(|name| {
            let patch = self.configuration.finalizer_patch(&name, self.index.ipam());
            let (target, write) = desired(pool_reference(&name), ObjectPart::Finalizers, patch);
            let write = self.admit(target, write, now);
            (name, write)
        });
        desired.collect()
    }

    /// Returns the desired writes of the statuses of changed pools, by pool, if the batch is due.
    pub(super) fn poll_pool_statuses(
        &mut self,
        now: Instant,
        time: Timestamp,
    ) -> Vec<(String, DesiredWrite)> {
        if !self.is_deciding() {
            return Vec::new();
        }
        let mut writes = Vec::new();
        for name in self.pools.poll_statuses(now) {
            if exists(self.index.ipam(), &name) {
                self.counted_pools.insert(name.clone());
            } else {
                self.counted_pools.remove(&name);
            }
            let patch = self.configuration.pool_status_patch(&name, self.index.ipam(), time);
            self.report_problems_of(patch.as_ref());
            let (target, write) = desired(pool_reference(&name), ObjectPart::Status, patch);
            let write = self.admit(target, write, time);
            writes.push((name, write));
        }
        writes
    }

    /// Returns the write, or nothing to write for now if another program replaces it again and again.
    fn admit(&mut self, target: WriteTarget, write: Option<Write>, now: Timestamp) -> DesiredWrite {
        let is_admitted = match write.as_ref().map(|write| (&*write.body, &write.resource_version)) {
            Some((PatchBody::Json(body), version)) => {
                self.conflicts.may_write(&target, digest(body), version, now)
            }
            // The index handles conflicts about Services.
            Some((PatchBody::ServiceStatus(_), _)) => true,
            None => {
                self.conflicts.handle_settled(&target);
                true
            }
        };
        (target, write.filter(|_| is_admitted))
    }

    /// Returns the desired writes of the cool-downs of changed pools, if the batch is due.
    pub(super) fn poll_cooldowns(&mut self, now: Instant) -> Vec<DesiredWrite> {
        if !self.is_deciding() {
            return Vec::new();
        }
        let pools = self.pools.poll_cooldowns(now).into_iter();
        let desired = pools.map(|name| {
            let patch = self.configuration.cooldown_patch(&name, self.index.ipam());
            (WriteTarget::PoolCooldown(name), patch.map(Write::apply))
        });
        desired.collect()
    }

    /// Returns the resourceVersion of an object as last observed; `None` if it does not exist.
    pub(super) fn resource_version(&self, target: &WriteTarget) -> Option<&str> {
        match target {
            WriteTarget::ServiceStatus(service) => self.index.version_of_service(service),
            WriteTarget::ClaimStatus(claim) => self.index.version_of_claim(claim),
            // Not watched. The version of `Write::apply`: a write is in doubt until it can no longer be
            // applied.
            WriteTarget::PoolCooldown(_) => Some(""),
            WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => {
                self.configuration.resource_version(object)
            }
        }
    }

    fn handle_speakers(&mut self, change: ObjectChange<(String, Option<ObservedSpeaker>)>, now: Timestamp) {
        let peers = match change {
            ObjectChange::Apply((name, speaker)) => self.index.speaker_applied(&name, speaker, now),
            ObjectChange::Delete(key) => self.index.speaker_applied(&key.name, None, now),
            ObjectChange::Reset(list) => {
                let own = list.into_iter().filter_map(|(name, speaker)| Some((name, speaker?)));
                self.list_speakers(own.collect(), now)
            }
            // Without their definition, there are no speakers.
            ObjectChange::Missing => self.list_speakers(Vec::new(), now),
        };
        self.session_reports.handle_changed(peers);
    }

    fn list_speakers(&mut self, list: Vec<(String, ObservedSpeaker)>, now: Timestamp) -> BTreeSet<Box<str>> {
        let peers = self.index.speakers_reset(list, now);
        self.configuration.set_speakers_listed();
        self.observed_objects.extend(self.configuration.peers());
        peers
    }

    /// Evaluates the BGPPeers whose sessions differ.
    fn report_sessions(&mut self, now: Timestamp) {
        for peer in self.session_reports.take_due(now) {
            if let Some(sessions) = self.index.peer_sessions(&peer) {
                self.configuration.set_peer_sessions(&peer, sessions);
                self.observed_objects.insert(ObjectRef { kind: Kind::BGPPeer, name: peer.into() });
            }
        }
    }

    fn handle_namespaces(&mut self, change: ObjectChange<WatchedNamespace>, now: Timestamp) {
        let list = match &change {
            ObjectChange::Apply(namespace) => std::slice::from_ref(namespace),
            ObjectChange::Delete(_) | ObjectChange::Missing => &[],
            ObjectChange::Reset(list) => list,
        };
        if let Some(own) = list.iter().find(|namespace| namespace.name == self.namespace) {
            let removal = Removal { namespace: own.is_terminating, ..self.configuration.removal() };
            self.set_removal(removal);
        }
        match change {
            ObjectChange::Apply(WatchedNamespace { name, labels, .. }) => {
                self.index.namespace_applied(name, labels, now);
            }
            ObjectChange::Delete(key) => self.index.namespace_deleted(&key.name),
            ObjectChange::Reset(list) => {
                let list = list.into_iter().map(|namespace| (namespace.name, namespace.labels));
                self.index.namespaces_reset(list.collect(), now);
            }
            // Every API server serves Namespaces.
            ObjectChange::Missing => {}
        }
    }

    fn set_removal(&mut self, removal: Removal) {
        if self.configuration.set_removal(removal) {
            tracing::info!(being_deleted = %removal, "the parts of Fairlead that are being deleted changed");
            self.pools.handle_changed_pools(self.configuration.pool_names().map(str::to_owned));
            self.observed_objects.extend(self.configuration.referable());
        }
    }

    fn handle_services(&mut self, mut change: ObjectChange<WatchedService>, now: Timestamp) {
        match &mut change {
            ObjectChange::Apply(service) => {
                self.marked.remove(&service.key);
                self.marked.extend(service.marked.take().map(|marked| (service.key.clone(), *marked)));
            }
            ObjectChange::Delete(key) => drop(self.marked.remove(key)),
            ObjectChange::Reset(list) => {
                let marked = list.iter_mut().filter_map(|service| service.marked.take());
                self.marked = marked.map(|marked| (marked.key.clone(), *marked)).collect();
            }
            ObjectChange::Missing => {}
        }
        match change {
            ObjectChange::Apply(WatchedService { observed: Some(service), .. }) => {
                self.index.service_applied(*service, now);
            }
            ObjectChange::Apply(WatchedService { other: Some(other), .. }) => {
                self.index.other_applied(*other, now)
            }
            ObjectChange::Apply(WatchedService { key, .. }) | ObjectChange::Delete(key) => {
                self.index.service_deleted(&key, now)
            }
            ObjectChange::Reset(list) => {
                let (mut own, mut others) = (Vec::new(), Vec::new());
                for WatchedService { observed, other, .. } in list {
                    own.extend(observed.map(|service| *service));
                    others.extend(other.map(|other| *other));
                }
                self.index.others_reset(others, now);
                self.index.services_reset(own, now);
            }
            // Every API server serves Services.
            ObjectChange::Missing => {}
        }
    }

    fn handle_configuration(&mut self, change: ConfigurationChange) {
        let AppliedChange { differs, objects } = self.configuration.apply(change);
        self.unresolved |= differs;
        // Statuses may differ too: this controller wrote them, or they must be corrected.
        self.observed_objects.extend(objects);
    }

    /// Resolves the configuration if it changed since the last call. Must be called before other changes are
    /// handled and before outputs are taken.
    pub(super) fn resolve_configuration(&mut self, now: Timestamp) {
        self.report_sessions(now);
        let mut objects = std::mem::take(&mut self.observed_objects);
        if std::mem::take(&mut self.unresolved) {
            let in_force = match self.is_deciding() {
                true => InForce::ByResolution,
                // Another controller may lead: the conditions say what it has accepted.
                false => InForce::ByConditions,
            };
            if let Some(change) = self.configuration.resolve(in_force) {
                self.resolutions += 1;
                let refers =
                    |object: &ObjectRef| matches!(object.kind, Kind::BGPPeer | Kind::BGPAdvertisement);
                if !change.delta.peers.is_empty() || change.objects.iter().any(refers) {
                    objects.extend(self.configuration.referable());
                }
                self.index.change_config(change.delta, now);
                self.configured = true;
                objects.extend(change.objects);
            }
        }
        for object in objects {
            self.evaluate_object(object, now);
        }
    }

    /// Evaluates the status of a configuration object, which may have been deleted.
    fn evaluate_object(&mut self, object: ObjectRef, now: Timestamp) {
        if object.kind == Kind::IPAddressPool {
            self.schedule_verdict(&object.name);
            self.pools.handle_changed_pools([object.name]);
        } else if self.is_deciding() {
            let patch = self.configuration.status_patch(&object, now);
            self.push_object_writes(object, patch);
        }
    }

    /// Adds the writes of an object that is not a pool. Both would be decided on the same version, so one
    /// waits until the watch delivers the next one: finalizers for the status, but the status of an object
    /// that is being deleted for the removal of its finalizer. The deletion must not wait for a status that
    /// cannot be written.
    fn push_object_writes(&mut self, object: ObjectRef, status: Option<ObjectPatch>) {
        let mut status = self.unstored.filter(&object, status);
        if object.kind.finalizer().is_some() {
            let mut finalizers = self.configuration.reference_patch(&object);
            if finalizers.is_some() && self.configuration.is_being_deleted(&object) {
                status = None;
            } else if status.is_some() {
                finalizers = None;
            }
            self.object_writes.push(desired(object.clone(), ObjectPart::Finalizers, finalizers));
        }
        self.report_problems_of(status.as_ref());
        self.object_writes.push(desired(object, ObjectPart::Status, status));
    }

    fn report_problems_of(&mut self, patch: Option<&ObjectPatch>) {
        if let Some(problems) = patch.and_then(|patch| patch.problems.clone()) {
            self.report_problems(problems);
        }
    }

    /// Adds Events about the problems that a status write begins to show.
    fn report_problems(&mut self, (object, problems): (EventObject, Vec<ObjectEvent>)) {
        self.object_events.extend(self.reported_problems.take_new(&object, problems));
    }

    /// Takes the Events about objects other than Services.
    pub(super) fn take_object_events(&mut self) -> Vec<ObjectEvent> {
        std::mem::take(&mut self.object_events)
    }

    /// Schedules the status of a pool at once if it lacks the verdict on the pool.
    fn schedule_verdict(&mut self, pool: &str) {
        if self.is_deciding() && self.configuration.lacks_verdict(pool) {
            self.pools.handle_verdict(pool.to_owned());
        }
    }

    /// Evaluates the status of every configuration object.
    fn evaluate_objects(&mut self, now: Timestamp) {
        self.pools.handle_changed_pools(self.configuration.pool_names().map(str::to_owned));
        self.pools.handle_counted_pools(self.counted_pools.iter().cloned());
        if self.is_deciding() {
            let pools = self.configuration.pool_names().filter(|name| self.configuration.lacks_verdict(name));
            pools.for_each(|name| self.pools.handle_verdict(name.to_owned()));
            for (object, patch) in self.configuration.status_patches(now) {
                self.push_object_writes(object, patch);
            }
        }
    }
}

fn exists(ipam: &Ipam, pool: &str) -> bool {
    ipam.pool(pool).is_some() || ipam.is_refused(pool)
}

fn pool_reference(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() }
}

fn desired(object: ObjectRef, part: ObjectPart, patch: Option<ObjectPatch>) -> DesiredWrite {
    let target = match part {
        ObjectPart::Status => WriteTarget::ObjectStatus(object),
        ObjectPart::Finalizers => WriteTarget::ObjectFinalizers(object),
    };
    (target, patch.map(Write::from))
}
