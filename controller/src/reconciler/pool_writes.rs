//! The part of the task that is about configuration objects: taking them in, and writing their statuses and finalizers.

use std::time::Instant;

use fairlead_crds::resolve::{Kind, ObjectRef};
use fairlead_crds::store::ObjectChange;
use jiff::Timestamp;

use super::Task;
use crate::write_queue::{Write, WriteTarget};
use fairlead_allocator::reconcile::objects::{Configures, ObjectPatch, Part};
use fairlead_allocator::reconcile::pools::{POOL_STATUS_INTERVAL, RELEASED_INTERVAL};

impl Task {
    pub(super) fn objects<K: Configures>(&mut self, change: ObjectChange<K>, now: Timestamp) {
        let seen = match &change {
            ObjectChange::Apply(object) => vec![object.clone()],
            ObjectChange::Reset(objects) => objects.clone(),
            ObjectChange::Delete(_) => Vec::new(),
        };
        let names: Vec<String> = seen.iter().filter_map(|object| object.metadata().name.clone()).collect();
        if self.configuration.change(change) {
            if let Some(resolution) = self.configuration.resolve() {
                self.index.set_config(resolution.config.clone(), now);
                self.configured = true;
                self.write_configuration(now);
            }
        } else if K::is_pool() {
            self.pools_changed(names);
        } else if self.index.is_deciding() {
            // Its status changed: by us, or it is put right.
            for object in &seen {
                let patch = self.configuration.patch(object, now);
                self.write(object.reference(), Part::Status, patch);
            }
        }
    }

    /// Writes what has changed with the configuration as a whole.
    pub(super) fn write_configuration(&mut self, now: Timestamp) {
        self.pools_changed(self.configuration.pool_names().map(str::to_owned).collect());
        self.dirty_pools.extend(self.metrics.pools());
        if self.index.is_deciding() {
            for (object, patch) in self.configuration.patches(now) {
                self.write(object, Part::Status, patch);
            }
        }
    }

    /// Writes the finalizers of pools that changed, and their status, that not more often than the interval says.
    pub(super) fn write_pools(&mut self) {
        if !self.index.is_deciding() {
            return;
        }
        let touched = self.index.take_touched_pools();
        self.pools_changed(touched.iter().map(|name| name.to_string()).collect());
        self.pools_urgent |= self.index.take_newly_released();
        for name in std::mem::take(&mut self.unprotected_pools) {
            let patch = self.configuration.finalizer_patch(&name, self.index.ipam());
            let is_due = patch.is_some();
            self.write(pool_named(name.clone()), Part::Main, patch);
            if is_due && !self.queue.is_backing_off(&WriteTarget::ObjectFinalizers(pool_named(name.clone())))
            {
                // Its answer comes first: the status is decided on the version that it brings.
                self.dirty_pools.remove(&name);
            }
        }
        let now = Instant::now();
        if self.dirty_pools.is_empty() || self.pools_due().is_some_and(|due| now < due) {
            return;
        }
        self.pools_written = Some(now);
        self.pools_urgent = false;
        for name in std::mem::take(&mut self.dirty_pools) {
            self.metrics.pool(&self.index, &name);
            let patch = self.configuration.pool_patch(&name, self.index.ipam(), Timestamp::now());
            self.write(pool_named(name), Part::Status, patch);
        }
    }

    /// Something about these pools is different, or what is held of them.
    fn pools_changed(&mut self, names: Vec<String>) {
        self.unprotected_pools.extend(names.iter().cloned());
        self.dirty_pools.extend(names);
    }

    pub(super) fn pools_due(&self) -> Option<Instant> {
        let interval = if self.pools_urgent { RELEASED_INTERVAL } else { POOL_STATUS_INTERVAL };
        Some(self.pools_written? + interval)
    }

    /// What is to be written to a part of an object, or that nothing is (any more).
    fn write(&mut self, object: ObjectRef, part: Part, patch: Option<ObjectPatch>) {
        let target = match part {
            Part::Status => WriteTarget::ObjectStatus(object),
            Part::Main => WriteTarget::ObjectFinalizers(object),
        };
        self.queue.replace(target, patch.map(Write::from));
    }
}

fn pool_named(name: String) -> ObjectRef {
    ObjectRef { kind: Kind::IPAddressPool, name }
}
