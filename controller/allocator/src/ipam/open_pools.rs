//! Part of [`Pools`](super::pools::Pools): the pools that are open to every Service that names no pool, as
//! one group. A Service that waits for an address of any of them waits once, not once for each.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::family::Family;

use super::pool_state::PoolState;

/// The open pools: those with automatic assignment and without `serviceAllocation` that are not closed.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenPools {
    count: usize,
    /// Number of open pools with addresses of IPv4 and of IPv6.
    with_family: [usize; 2],
    /// Open pools with free addresses of IPv4 and of IPv6.
    with_free: [BTreeSet<Arc<str>>; 2],
}

/// What the open pools can offer, regardless of their holders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFamilies {
    any: bool,
    families: [bool; 2],
}

impl OpenPools {
    /// Adds a pool if it is open.
    pub(super) fn add(&mut self, name: &Arc<str>, state: &PoolState) {
        if !is_open_to_all(state.pool()) {
            return;
        }
        self.count += 1;
        for family in Family::BOTH {
            self.with_family[index(family)] += usize::from(!state.space(family).is_empty());
            self.set_free(name, state, family);
        }
    }

    /// Reverts [`OpenPools::add`].
    pub(super) fn remove(&mut self, name: &str, state: &PoolState) {
        if !is_open_to_all(state.pool()) {
            return;
        }
        self.count -= 1;
        for family in Family::BOTH {
            self.with_family[index(family)] -= usize::from(!state.space(family).is_empty());
            self.with_free[index(family)].remove(name);
        }
    }

    /// Records whether a pool has free addresses of a family, if it is open.
    pub(super) fn set_free(&mut self, name: &Arc<str>, state: &PoolState, family: Family) {
        if !is_open_to_all(state.pool()) {
            return;
        }
        let free = &mut self.with_free[index(family)];
        if state.space(family).first_free().is_some() {
            free.insert(name.clone());
        } else {
            free.remove(name);
        }
    }

    /// Returns true if an open pool has a free address of this family.
    pub(super) fn has_free(&self, family: Family) -> bool {
        !self.with_free[index(family)].is_empty()
    }

    /// Returns what the open pools can offer.
    pub(super) fn families(&self) -> OpenFamilies {
        OpenFamilies { any: self.count > 0, families: self.with_family.map(|count| count > 0) }
    }
}

/// Returns true if a pool is open to every Service that names none.
pub(super) fn is_open_to_all(pool: &Pool) -> bool {
    pool.allocation.is_none() && pool.auto_assign && pool.closed.is_none()
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
