//! The writes that are decided, and their results.

use std::time::Instant;

use fairlead_allocator::ipam::Ipam;
use fairlead_allocator::reconcile::objects::{ObjectPart, ObjectPatch};
use fairlead_allocator::reconcile::write_conflicts::digest;
use fairlead_allocator::reconcile::{Decision, DepartedService, EventObject, ObjectEvent, ServiceEvent};
use fairlead_crds::resolve::{Kind, ObjectRef};
use jiff::Timestamp;

use super::ClusterState;
use crate::write_queue::{PatchBody, Write, WriteResult, WriteTarget};

/// The newest decision on an object: the write, or `None` if nothing is to be written.
pub(in crate::reconciler) type DesiredWrite = (WriteTarget, Option<Write>);

/// The decisions of a turn.
#[derive(Debug, Default)]
pub(in crate::reconciler) struct Decisions {
    /// In the order in which they were made.
    pub(in crate::reconciler) writes: Vec<DesiredWrite>,
    pub(in crate::reconciler) events: Vec<ServiceEvent>,
    /// Services that are no longer load balancers of this controller.
    pub(in crate::reconciler) departed: Vec<DepartedService>,
}

impl ClusterState {
    /// Handles the result of a write. The status of a pool waits for that of its finalizers.
    pub(in crate::reconciler) fn handle_write_result(
        &mut self,
        target: &WriteTarget,
        write: &Write,
        result: &WriteResult,
    ) {
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
    pub(in crate::reconciler) fn handle_finalizers_queued(&mut self, pool: &str, backing_off: bool) {
        self.pools.handle_finalizers_queued(pool, backing_off);
    }

    /// Takes the decisions on Services, claims and configuration objects except pools.
    pub(in crate::reconciler) fn take_decisions(&mut self, now: Timestamp) -> Decisions {
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
    pub(in crate::reconciler) fn poll_pool_finalizers(
        &mut self,
        now: Timestamp,
    ) -> Vec<(String, DesiredWrite)> {
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
    pub(in crate::reconciler) fn poll_pool_statuses(
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
    pub(in crate::reconciler) fn poll_cooldowns(&mut self, now: Instant) -> Vec<DesiredWrite> {
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

    /// Adds the writes of an object that is not a pool. Both would be decided on the same version, so one
    /// waits until the watch delivers the next one: finalizers for the status, but the status of an object
    /// that is being deleted for the removal of its finalizer. The deletion must not wait for a status that
    /// cannot be written.
    pub(super) fn push_object_writes(&mut self, object: ObjectRef, status: Option<ObjectPatch>) {
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
    pub(in crate::reconciler) fn take_object_events(&mut self) -> Vec<ObjectEvent> {
        std::mem::take(&mut self.object_events)
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
