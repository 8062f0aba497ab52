//! The state of the cluster as the watches report it, and the writes that follow from it. Pure: no I/O and no
//! clock.
//!
//! Inputs are watch events, resolved and finished writes, the start and end of a term, and timeouts.
//! Outputs are writes and events. All inputs of a turn are handled before its outputs are taken.

mod changes;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fairlead_allocator::reconcile::announcement::SessionReports;
use fairlead_allocator::reconcile::objects::Configuration;
use fairlead_allocator::reconcile::pool_status_schedule::PoolStatusSchedule;
use fairlead_allocator::reconcile::write_conflicts::{Replacement, WriteConflicts};
use fairlead_allocator::reconcile::{DepartedService, Index, MarkedService, ObjectEvent, ReportedProblems};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::{InForce, Kind, ObjectRef};
use fairlead_crds::v1beta1::IPClaim;
use jiff::Timestamp;
use kube::Resource;

pub(super) use self::writes::DesiredWrite;
use crate::run::Scope;
use crate::write_queue::WriteTarget;

use super::unstored::UnstoredStatuses;

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
