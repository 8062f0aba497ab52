//! Which waiting objects a change of pools concerns.
//!
//! A new pool with one address must not cost an evaluation of every waiting Service. Those that may only get
//! one of its addresses are *offered* the pool: the oldest first, as long as it has free addresses.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::config::{Pool, Reclaim};
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use super::wait_queue::{Priority, RetryTrigger, WaitQueue, Waiter};
use crate::ipam::{Ipam, PoolChanges};

/// The waiting objects to reconcile after a change of pools.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// Objects to reconcile in any case.
    pub(super) again: BTreeSet<Priority>,
    /// Pools, and the objects that may get an address of them, the oldest first.
    pub(super) offered: Vec<(Arc<str>, Vec<Priority>)>,
}

impl Woken {
    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.offered.is_empty()
    }
}

/// Returns true if a change of pools concerns all waiting objects: messages name the pools, or holders move
/// and must get new addresses in the order of all objects that need one. `named` is true if messages named
/// the pools before the change.
pub(super) fn concerns_all(changes: &PoolChanges, ipam: &Ipam, named: bool) -> bool {
    let reassigns = || {
        let previous = changes.previous.iter().any(|pool| pool.reclaim == Reclaim::Reassign);
        previous || changes.names.iter().any(|name| ipam.reclaim(name) == Some(Reclaim::Reassign))
    };
    named || ipam.names_pools() || !changes.evicted.is_empty() || (!changes.kept.is_empty() && reassigns())
}

/// Returns the waiting objects that a change of pools concerns. `admits` returns whether a pool admits a
/// Service. `refused_differ` is true if the messages about refused pools differ.
pub(super) fn woken(
    changes: &PoolChanges,
    waiting: &WaitQueue,
    ipam: &Ipam,
    admits: impl Fn(&Pool, &ObjectKey) -> bool,
    refused_differ: bool,
) -> Woken {
    let mut woken = Woken::default();
    let Woken { again, offered } = &mut woken;
    again.extend(waiting.waiting_for(&RetryTrigger::PoolsChanged).cloned());
    for name in &changes.names {
        again.extend(waiting.waiting_for(&RetryTrigger::PoolChanged(name.clone())).cloned());
    }
    let current = || changes.current.iter().filter_map(|name| Some((name, ipam.pool(name)?)));
    let pools = changes.previous.iter().chain(current().map(|(_, pool)| pool));
    let ranges: BTreeSet<&IpRange> = pools.flat_map(|pool| &pool.ranges).collect();
    for range in ranges {
        again.extend(waiting.waiting_for_addresses(range).cloned());
    }
    if refused_differ {
        again.extend(waiting.waiting_for(&RetryTrigger::RefusedPoolsChanged).cloned());
    }
    let [not_exhausted, exhausted] =
        [false, true].map(|exhausted| RetryTrigger::AnyPoolChanged { exhausted });
    let any = |is_exhausted| waiting.waiting_for(if is_exhausted { &exhausted } else { &not_exhausted });
    if changes.open_families_differ {
        again.extend(any(false).chain(any(true)).cloned());
        return woken;
    }
    let admitted = |pool: &Pool, priority: &Priority| {
        let Waiter::Service(service) = &priority.1 else { return false };
        pool.auto_assign && pool.closed.is_none() && admits(pool, service)
    };
    let is_restricted = |pool: &&Pool| pool.allocation.is_some();
    let previous_of = |name: &str| changes.previous.iter().find(|pool| pool.name == name);
    for pool in changes.previous.iter().filter(is_restricted) {
        again.extend(any(false).chain(any(true)).filter(|waiter| admitted(pool, waiter)).cloned());
    }
    for (name, pool) in current().filter(|(_, pool)| is_restricted(pool)) {
        again.extend(any(false).filter(|waiter| admitted(pool, waiter)).cloned());
        let oldest_first: Vec<Priority> =
            any(true).filter(|waiter| admitted(pool, waiter)).cloned().collect();
        offered.push((name.clone(), oldest_first));
    }
    let shares_otherwise = |(name, pool): (&Arc<str>, &Pool)| {
        let before = previous_of(name).map(|previous| previous.sharing);
        ipam.has_shared_addresses(name) || before.is_some_and(|before| before != pool.sharing)
    };
    if current().any(shares_otherwise) {
        again.extend(waiting.waiting_for(&RetryTrigger::SharedAddressesChanged).cloned());
    }
    woken
}
