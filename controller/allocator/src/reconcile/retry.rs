//! The order in which waiting objects are reconciled again after addresses changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::wait_queue::{Priority, RetryTrigger, WaitQueue, Waiter};
use crate::ipam::{AddressChange, Family, Ipam};

/// A pool in which an address of this family became free.
type FreedPool = (Arc<str>, Family);

/// The objects to reconcile again, the oldest first, each once.
///
/// Only the oldest waiter of each pool with free addresses is in the queue. The next one enters after it, if
/// the pool still has a free address. So one free address costs one reconciliation, however many objects wait
/// for it.
#[derive(Debug)]
pub(super) struct RetryQueue {
    queue: BTreeSet<(Priority, Option<FreedPool>)>,
    /// The object returned last, and the pool whose next waiter comes after it.
    successor: Option<(Priority, FreedPool)>,
    last: Option<Priority>,
}

impl RetryQueue {
    /// Returns the queue for these changes. `service_waiters` returns a Service and the claims for it.
    pub(super) fn new(
        changes: Vec<AddressChange>,
        waiting: &WaitQueue,
        service_waiters: impl Fn(&ObjectKey) -> Vec<Priority>,
    ) -> Self {
        let mut again: BTreeSet<Priority> = BTreeSet::new();
        let mut freed: BTreeSet<FreedPool> = BTreeSet::new();
        for AddressChange { address, pool, free, reserved_for, shared } in changes {
            let family = Family::of(address);
            again.extend(waiting.waiting_for(&RetryTrigger::AddressChanged(address)).cloned());
            if let Some(group) = shared {
                let trigger = RetryTrigger::AddressShared(pool.clone(), group);
                again.extend(waiting.waiting_for(&trigger).cloned());
            }
            if let Some(service) = &reserved_for {
                let trigger = RetryTrigger::AddressFreed(pool.clone(), family);
                let waiters = service_waiters(service).into_iter();
                again.extend(waiters.filter(|priority| waiting.waits_for(&trigger, priority)));
            }
            if free {
                freed.insert((pool, family));
            }
        }
        let queue = again.into_iter().map(|priority| (priority, None)).collect();
        let mut this = Self { queue, successor: None, last: None };
        for pool in freed {
            this.push_next(pool, None, waiting);
        }
        this
    }

    /// Returns the next object to reconcile. The caller reconciles it before the next call.
    pub(super) fn next(&mut self, waiting: &WaitQueue, ipam: &Ipam) -> Option<Waiter> {
        loop {
            if let Some((priority, pool)) = self.successor.take() {
                self.push_next(pool, Some(&priority), waiting);
            }
            let (priority, freed) = self.queue.pop_first()?;
            if freed.as_ref().is_some_and(|(pool, family)| ipam.counts(pool, *family).available == 0) {
                continue;
            }
            self.successor = freed.map(|pool| (priority.clone(), pool));
            if self.last.as_ref() != Some(&priority) {
                self.last = Some(priority.clone());
                return Some(priority.1);
            }
        }
    }

    fn push_next(&mut self, (pool, family): FreedPool, last: Option<&Priority>, waiting: &WaitQueue) {
        let trigger = RetryTrigger::AddressFreed(pool.clone(), family);
        let next = waiting.next_after(&trigger, last);
        self.queue.extend(next.map(|priority| (priority.clone(), Some((pool, family)))));
    }
}
