//! Part of [`Ipam`](super::Ipam): the pools in force, the refused pools, and the order in which pools are
//! tried.
//!
//! Pools in force do not overlap, because `fairlead_crds::resolve` refuses the younger of two that do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Closed, Pool};
use fairlead_crds::model::delta::Differing;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;

use super::open_pools::{OpenFamilies, OpenPools, is_open_to_all};
use super::pool_state::PoolState;

/// The pools, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    in_force: BTreeMap<Arc<str>, PoolState>,
    /// Pools that exist but are refused.
    refused: BTreeMap<Arc<str>, Pool>,
    /// First address of each range in force, with its pool.
    starts: BTreeMap<IpAddr, Arc<str>>,
    /// Pools with a `serviceAllocation` and automatic assignment, by priority (0 last) and name.
    pinned: BTreeSet<(u32, Arc<str>)>,
    /// The other pools with automatic assignment, by name.
    unpinned: BTreeSet<Arc<str>>,
    open: OpenPools,
}

/// The difference between the pools and a new configuration.
#[derive(Debug, Default)]
pub(super) struct PoolDifference {
    /// Pools in force that were edited, deleted or refused.
    pub(super) removed: Vec<Arc<str>>,
    /// Pools that are new in force or were edited.
    pub(super) added: Vec<Pool>,
    /// Pools that became refused, or refused pools that were edited, deleted or accepted.
    pub(super) refused_changed: Vec<Arc<str>>,
    /// The new versions of these, `None` for those that are not refused any more.
    refused: Vec<(Arc<str>, Option<Pool>)>,
}

impl PoolDifference {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.refused_changed.is_empty()
    }
}

impl Pools {
    /// Returns a pool in force.
    pub(super) fn state(&self, name: &str) -> Option<&PoolState> {
        self.in_force.get(name)
    }

    pub(super) fn state_mut(&mut self, name: &str) -> Option<&mut PoolState> {
        self.in_force.get_mut(name)
    }

    /// Returns a pool in force with its shared name.
    pub(super) fn named_state(&self, name: &str) -> Option<(&Arc<str>, &PoolState)> {
        self.in_force.get_key_value(name)
    }

    /// Returns all pools in force.
    #[cfg(test)]
    pub(super) fn states(&self) -> impl Iterator<Item = (&Arc<str>, &PoolState)> {
        self.in_force.iter()
    }

    /// Returns a refused pool with its shared name.
    pub(super) fn refused(&self, name: &str) -> Option<(&Arc<str>, &Pool)> {
        self.refused.get_key_value(name)
    }

    pub(super) fn refused_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.refused.keys()
    }

    /// Returns the shared name of a pool, in force or refused.
    pub(super) fn name(&self, name: &str) -> Option<&Arc<str>> {
        let in_force = self.in_force.get_key_value(name).map(|(name, _)| name);
        in_force.or_else(|| self.refused.get_key_value(name).map(|(name, _)| name))
    }

    /// Returns true if there is no pool, not even a refused one.
    pub(super) fn is_empty(&self) -> bool {
        self.in_force.is_empty() && self.refused.is_empty()
    }

    /// Returns the number of pools, in force or refused.
    pub(super) fn len(&self) -> usize {
        self.in_force.len() + self.refused.len()
    }

    /// Returns true if no pool exists that is not being deleted.
    pub(super) fn none_stays(&self) -> bool {
        let in_force = self.in_force.values().map(PoolState::pool);
        in_force.chain(self.refused.values()).all(|pool| pool.closed == Some(Closed::Deleting))
    }

    pub(super) fn pinned(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.pinned.iter().map(|(_, name)| name)
    }

    pub(super) fn unpinned(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.unpinned.iter()
    }

    /// Returns true if the pool is in force and open to every Service that names no pool.
    pub(super) fn is_open_to_all(&self, name: &str) -> bool {
        self.in_force.get(name).is_some_and(|state| is_open_to_all(state.pool()))
    }

    /// Returns true if a pool that is open to all has a free address of this family.
    pub(super) fn has_open_address(&self, family: Family) -> bool {
        self.open.has_free(family)
    }

    /// Returns what the pools that are open to all can offer, regardless of their holders.
    pub(super) fn open_families(&self) -> OpenFamilies {
        self.open.families()
    }

    /// Returns the pools in force in the order in which they are tried for a Service that names none; pools
    /// without automatic assignment come last.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Arc<str>> {
        let manual = self.in_force.iter().filter(|(_, state)| !state.pool().auto_assign);
        self.pinned().chain(&self.unpinned).chain(manual.map(|(name, _)| name))
    }

    /// Returns the pool that contains `ip` and may allocate it.
    pub(super) fn containing(&self, ip: IpAddr) -> Option<&Arc<str>> {
        let (_, name) = self.starts.range(..=ip).next_back()?;
        let state = self.in_force.get(name)?;
        state.space(Family::of(ip)).slot(ip).map(|_| name)
    }

    /// Returns the pools in force that overlap a range, one for each common part.
    pub(super) fn overlapping(&self, range: &IpRange) -> impl Iterator<Item = Arc<str>> {
        let before = self.starts.range(..range.first()).next_back().map(|(_, name)| name);
        let reaches_into = |name: &&Arc<str>| {
            let ranges = self.in_force.get(*name).map(|state| &state.pool().ranges);
            ranges.into_iter().flatten().any(|other| other.overlaps(range))
        };
        let within = self.starts.range(range.first()..=range.last()).map(|(_, name)| name);
        before.filter(reaches_into).into_iter().chain(within).cloned()
    }

    /// Marks an address as taken in the pool that contains it.
    pub(super) fn take(&mut self, ip: IpAddr) {
        self.change(ip, |state| state.take(ip));
    }

    /// Marks an address as free in the pool that contains it.
    pub(super) fn free(&mut self, ip: IpAddr) {
        self.change(ip, |state| state.free(ip));
    }

    fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut PoolState)) {
        let Some(name) = self.containing(ip).cloned() else { return };
        let Some(state) = self.in_force.get_mut(&name) else { return };
        let family = Family::of(ip);
        let had_free = state.space(family).first_free().is_some();
        change(state);
        if state.space(family).first_free().is_some() != had_free {
            self.open.set_free(&name, state, family);
        }
    }

    /// Compares with a new configuration.
    pub(super) fn compare(
        &self,
        pools: &BTreeMap<String, Pool>,
        refused: &BTreeMap<String, Pool>,
    ) -> PoolDifference {
        let removed = self.in_force.iter().filter(|(name, state)| pools.get(&***name) != Some(state.pool()));
        let added = pools
            .iter()
            .filter(|(name, pool)| self.in_force.get(name.as_str()).map(PoolState::pool) != Some(*pool));
        let gone = self.refused.keys().filter(|name| !refused.contains_key(&***name));
        let new = refused.iter().filter(|(name, pool)| self.refused.get(name.as_str()) != Some(*pool));
        let new = new.map(|(name, pool)| (name.as_str().into(), Some(pool.clone())));
        let refused: Vec<(Arc<str>, Option<Pool>)> =
            gone.map(|name| (name.clone(), None)).chain(new).collect();
        PoolDifference {
            removed: removed.map(|(name, _)| name.clone()).collect(),
            added: added.map(|(_, pool)| pool.clone()).collect(),
            refused_changed: refused.iter().map(|(name, _)| name.clone()).collect(),
            refused,
        }
    }

    /// Compares with the new versions of some pools.
    pub(super) fn compare_some(&self, pools: &Differing<Pool>, refused: &Differing<Pool>) -> PoolDifference {
        let mut difference = PoolDifference::default();
        for (name, pool) in pools {
            let current = self.in_force.get_key_value(name.as_str());
            if current.map(|(_, state)| state.pool()) == pool.as_ref() {
                continue;
            }
            difference.removed.extend(current.map(|(name, _)| name.clone()));
            difference.added.extend(pool.clone());
        }
        for (name, pool) in refused {
            if self.refused.get(name.as_str()) != pool.as_ref() {
                difference.refused_changed.push(name.as_str().into());
                difference.refused.push((name.as_str().into(), pool.clone()));
            }
        }
        difference
    }

    /// Puts a new configuration into force. Returns the previous version of each pool that was removed or
    /// edited. The spaces of added pools are free of holders until the caller takes them.
    pub(super) fn replace(&mut self, difference: PoolDifference) -> Vec<Pool> {
        let PoolDifference { removed, added, refused_changed, refused } = difference;
        let names = removed.iter().chain(&refused_changed);
        let previous = names.filter_map(|name| self.remove(name)).collect();
        for pool in added {
            self.insert(pool);
        }
        for (name, pool) in refused {
            match pool {
                Some(pool) => drop(self.refused.insert(name, pool)),
                None => drop(self.refused.remove(&name)),
            }
        }
        previous
    }

    fn insert(&mut self, pool: Pool) {
        let name: Arc<str> = pool.name.as_str().into();
        self.starts.extend(pool.ranges.iter().map(|range| (range.first(), name.clone())));
        match &pool.allocation {
            _ if !pool.auto_assign => {}
            Some(_) => drop(self.pinned.insert((rank(&pool), name.clone()))),
            None => drop(self.unpinned.insert(name.clone())),
        }
        let state = PoolState::new(pool);
        self.open.add(&name, &state);
        self.in_force.insert(name, state);
    }

    fn remove(&mut self, name: &Arc<str>) -> Option<Pool> {
        let state = self.in_force.remove(name)?;
        self.open.remove(name, &state);
        let pool = state.into_pool();
        self.pinned.remove(&(rank(&pool), name.clone()));
        self.unpinned.remove(name);
        for range in &pool.ranges {
            self.starts.remove(&range.first());
        }
        Some(pool)
    }
}

/// Returns the position of a pool among those with a `serviceAllocation`: by priority, and 0 last.
fn rank(pool: &Pool) -> u32 {
    let priority = pool.allocation.as_ref().map_or(0, |allocation| allocation.priority);
    priority.checked_sub(1).unwrap_or(u32::MAX)
}
