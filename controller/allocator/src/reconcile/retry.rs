//! The order in which waiting objects are reconciled again after addresses or pools changed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::pool_waiters::Woken;
use super::wait_queue::{Priority, RetryTrigger, WaitQueue, Waiter};
use crate::ipam::{AddressChange, Family, Ipam};

/// Free addresses, and the objects that wait for them.
#[derive(Debug)]
struct Offer {
    supply: Supply,
    waiters: Waiters,
}

/// Addresses that may have become free.
#[derive(Debug)]
enum Supply {
    /// Of this family, in this pool.
    Pool(Arc<str>, Family),
    /// Of any family, in this pool.
    NewPool(Arc<str>),
    /// Of this family, in any pool that is open to all Services.
    OpenPools(Family),
}

/// The objects that wait for an offer, the oldest first.
#[derive(Debug)]
enum Waiters {
    Of(RetryTrigger),
    Listed(VecDeque<Priority>),
}

/// The objects to reconcile again, the oldest first, each once.
///
/// Only the oldest waiter of each offer is in the queue. The next one enters after it, if there still is a
/// free address. So one free address costs one reconciliation, however many objects wait for it.
#[derive(Debug)]
pub(super) struct RetryQueue {
    /// Objects, each with the index of the offer that it is the oldest waiter of.
    queue: BTreeSet<(Priority, Option<usize>)>,
    offers: Vec<Offer>,
    /// The object returned last, and the offer whose next waiter comes after it.
    successor: Option<(Priority, usize)>,
    last: Option<Priority>,
}

impl RetryQueue {
    /// Returns the queue for these changes. `service_waiters` returns a Service and the claims for it.
    pub(super) fn new(
        changes: Vec<AddressChange>,
        woken: Woken,
        waiting: &WaitQueue,
        ipam: &Ipam,
        service_waiters: impl Fn(&ObjectKey) -> Vec<Priority>,
    ) -> Self {
        let Woken { mut again, offered } = woken;
        let mut freed: BTreeSet<(Arc<str>, Family)> = BTreeSet::new();
        let mut freed_openly: BTreeSet<Family> = BTreeSet::new();
        for AddressChange { address, pool, free, reserved_for, shared } in changes {
            let family = Family::of(address);
            let is_open = ipam.is_open_to_all(&pool);
            again.extend(waiting.waiting_for(&RetryTrigger::AddressChanged(address)).cloned());
            if let Some(group) = shared {
                if is_open {
                    let trigger = RetryTrigger::OpenAddressShared(group.clone());
                    again.extend(waiting.waiting_for(&trigger).cloned());
                }
                let trigger = RetryTrigger::AddressShared(pool.clone(), group);
                again.extend(waiting.waiting_for(&trigger).cloned());
            }
            if let Some(service) = &reserved_for {
                let mut triggers = vec![RetryTrigger::AddressFreed(pool.clone(), family)];
                triggers.extend(is_open.then_some(RetryTrigger::OpenAddressFreed(family)));
                let waits =
                    |priority: &Priority| triggers.iter().any(|trigger| waiting.waits_for(trigger, priority));
                again.extend(service_waiters(service).into_iter().filter(waits));
            }
            if free {
                freed_openly.extend(is_open.then_some(family));
                freed.insert((pool, family));
            }
        }
        let queue = again.into_iter().map(|priority| (priority, None)).collect();
        let mut this = Self { queue, offers: Vec::new(), successor: None, last: None };
        for (pool, family) in freed {
            let waiters = Waiters::Of(RetryTrigger::AddressFreed(pool.clone(), family));
            this.offer(Supply::Pool(pool, family), waiters, waiting);
        }
        for family in freed_openly {
            let waiters = Waiters::Of(RetryTrigger::OpenAddressFreed(family));
            this.offer(Supply::OpenPools(family), waiters, waiting);
        }
        for (pool, waiters) in offered {
            this.offer(Supply::NewPool(pool), Waiters::Listed(waiters.into()), waiting);
        }
        this
    }

    /// Returns the next object to reconcile. The caller reconciles it before the next call.
    pub(super) fn next(&mut self, waiting: &WaitQueue, ipam: &Ipam) -> Option<Waiter> {
        loop {
            if let Some((priority, offer)) = self.successor.take() {
                self.push_next(offer, Some(&priority), waiting);
            }
            let (priority, offer) = self.queue.pop_first()?;
            if let Some(offer) = offer {
                let Some(Offer { supply, waiters }) = self.offers.get(offer) else { continue };
                if !supply.is_available(ipam) {
                    continue;
                }
                self.successor = Some((priority.clone(), offer));
                if matches!(waiters, Waiters::Listed(_)) && !waiting.contains(&priority.1) {
                    continue;
                }
            }
            if self.last.as_ref() != Some(&priority) {
                self.last = Some(priority.clone());
                return Some(priority.1);
            }
        }
    }

    fn offer(&mut self, supply: Supply, waiters: Waiters, waiting: &WaitQueue) {
        self.offers.push(Offer { supply, waiters });
        self.push_next(self.offers.len() - 1, None, waiting);
    }

    /// Adds the next waiter of an offer, the one after `last`.
    fn push_next(&mut self, offer: usize, last: Option<&Priority>, waiting: &WaitQueue) {
        let next = self.offers.get_mut(offer).and_then(|Offer { waiters, .. }| match waiters {
            Waiters::Of(trigger) => waiting.next_after(trigger, last).cloned(),
            Waiters::Listed(list) => list.pop_front(),
        });
        self.queue.extend(next.map(|priority| (priority, Some(offer))));
    }
}

impl Supply {
    fn is_available(&self, ipam: &Ipam) -> bool {
        let has = |pool: &str, family: Family| ipam.counts(pool, family).available > 0;
        match self {
            Self::Pool(pool, family) => has(pool, *family),
            Self::NewPool(pool) => Family::BOTH.into_iter().any(|family| has(pool, family)),
            Self::OpenPools(family) => ipam.has_open_address(*family),
        }
    }
}
