//! Part of [`Pools`](super::pools::Pools): the pools that are open to every Service that names no pool, as
//! one group. A Service that waits for an address of any of them waits once, not once for each.

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::family::Family;

use super::pool_set::{PoolSet, Position};
use super::pool_state::PoolState;

/// The open pools: those with automatic assignment and without `serviceAllocation` that are not closed.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenPools {
    pools: PoolSet,
    /// Number of open pools with addresses of IPv4 and of IPv6.
    with_family: [usize; 2],
}

/// The families of the addresses of the open pools, regardless of their holders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFamilies {
    /// True if there is an open pool.
    pub(super) any: bool,
    families: [bool; 2],
}

impl OpenFamilies {
    /// Returns true if an open pool has addresses of this family, free or not.
    pub(super) fn has(self, family: Family) -> bool {
        self.families[index(family)]
    }
}

impl OpenPools {
    /// Adds an open pool.
    pub(super) fn insert(&mut self, position: &Position, state: &PoolState) {
        self.pools.insert(position, state);
        for family in Family::BOTH {
            self.with_family[index(family)] += usize::from(!state.space(family).is_empty());
        }
    }

    /// Reverts [`OpenPools::insert`].
    pub(super) fn remove(&mut self, position: &Position, state: &PoolState) {
        self.pools.remove(position);
        for family in Family::BOTH {
            self.with_family[index(family)] -= usize::from(!state.space(family).is_empty());
        }
    }

    /// Records for which families an open pool has free addresses.
    pub(super) fn set_free(&mut self, position: &Position, state: &PoolState) {
        self.pools.set_free(position, state);
    }

    /// Returns the open pools.
    pub(super) fn pools(&self) -> &PoolSet {
        &self.pools
    }

    /// Returns true if an open pool has a free address of this family.
    pub(super) fn has_free(&self, family: Family) -> bool {
        !self.pools.with_free(&[family]).is_empty()
    }

    /// Returns the families of the addresses of the open pools.
    pub(super) fn families(&self) -> OpenFamilies {
        OpenFamilies { any: !self.pools.is_empty(), families: self.with_family.map(|count| count > 0) }
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
