//! Services and claims that lack an address, by the changes after which a retry may succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use crate::ipam::{Family, SharingGroup};

/// An object that waits for an address. At equal age, claims come before Services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiter {
    Claim(ObjectKey),
    Service(ObjectKey),
}

/// Creation time, in seconds since the epoch, and the object: the oldest object is reconciled first.
pub(super) type Priority = (i64, Waiter);

/// A change after which a retry may succeed, or be refused for another reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RetryTrigger {
    /// An address of this family becomes free in this pool.
    AddressFreed(Arc<str>, Family),
    /// Services of this group can join a shared address of this pool.
    AddressShared(Arc<str>, Arc<SharingGroup>),
    /// An address of this family becomes free in a pool that is open to all Services.
    OpenAddressFreed(Family),
    /// Services of this group can join a shared address of a pool that is open to all Services.
    OpenAddressShared(Arc<SharingGroup>),
    /// The pools have other shared addresses, or limit sharing in another way. For Services that share and
    /// name no pool.
    SharedAddressesChanged,
    /// The holders, the reservation or the pool of this address change.
    AddressChanged(IpAddr),
    /// The pool of this name is created, edited or deleted, or its acceptance changes.
    PoolChanged(Arc<str>),
    /// A pool that admits the Service changes. For Services that name no pool; `exhausted` if it was refused
    /// because pools are full.
    AnyPoolChanged { exhausted: bool },
    /// What messages say about refused pools changes.
    RefusedPoolsChanged,
    /// Any pool changes.
    PoolsChanged,
}

/// The waiting objects.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    waiters: BTreeMap<Waiter, (i64, Vec<RetryTrigger>)>,
    by_trigger: BTreeMap<RetryTrigger, BTreeSet<Priority>>,
    /// Number of Services among the waiters.
    services: usize,
}

impl WaitQueue {
    /// Returns the number of waiting Services.
    pub(super) fn services(&self) -> usize {
        self.services
    }

    /// Returns true if the object waits for any trigger.
    pub(super) fn contains(&self, waiter: &Waiter) -> bool {
        self.waiters.contains_key(waiter)
    }

    /// Sets the triggers that the object waits for. Without triggers, removes it.
    pub(super) fn set(&mut self, (created, waiter): Priority, triggers: Vec<RetryTrigger>) {
        self.remove(&waiter);
        if triggers.is_empty() {
            return;
        }
        for trigger in &triggers {
            self.by_trigger.entry(trigger.clone()).or_default().insert((created, waiter.clone()));
        }
        self.services += usize::from(matches!(waiter, Waiter::Service(_)));
        self.waiters.insert(waiter, (created, triggers));
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, waiter: &Waiter) {
        let Some((created, triggers)) = self.waiters.remove(waiter) else { return };
        self.services -= usize::from(matches!(waiter, Waiter::Service(_)));
        let priority = (created, waiter.clone());
        for trigger in triggers {
            if let Some(waiting) = self.by_trigger.get_mut(&trigger) {
                waiting.remove(&priority);
                if waiting.is_empty() {
                    self.by_trigger.remove(&trigger);
                }
            }
        }
    }

    /// Returns true if this object waits for this trigger.
    pub(super) fn waits_for(&self, trigger: &RetryTrigger, priority: &Priority) -> bool {
        self.by_trigger.get(trigger).is_some_and(|waiting| waiting.contains(priority))
    }

    /// Returns the objects that wait for a trigger, the oldest first.
    pub(super) fn waiting_for(&self, trigger: &RetryTrigger) -> impl Iterator<Item = &Priority> {
        self.by_trigger.get(trigger).into_iter().flatten()
    }

    /// Returns all objects that wait.
    pub(super) fn all(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.keys()
    }

    /// Returns the objects that wait for changes of addresses in a range.
    pub(super) fn waiting_for_addresses(&self, range: &IpRange) -> impl Iterator<Item = &Priority> {
        let [first, last] = [range.first(), range.last()].map(RetryTrigger::AddressChanged);
        self.by_trigger.range(first..=last).flat_map(|(_, waiting)| waiting)
    }

    /// Returns the oldest object that waits for a trigger and comes after `last`.
    pub(super) fn next_after(&self, trigger: &RetryTrigger, last: Option<&Priority>) -> Option<&Priority> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_trigger.get(trigger)?.range((from, Bound::Unbounded)).next()
    }
}
