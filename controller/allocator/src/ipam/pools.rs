//! Part of [`Ipam`](super::Ipam): the pools in force, the refused pools, and the order in which pools are
//! tried.
//!
//! Pools in force do not overlap, because `fairlead_crds::resolve` refuses the younger of two that do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;

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
    pinned: Vec<Arc<str>>,
    /// The other pools with automatic assignment, by name.
    unpinned: Vec<Arc<str>>,
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
    refused: BTreeMap<Arc<str>, Pool>,
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

    pub(super) fn pinned(&self) -> &[Arc<str>] {
        &self.pinned
    }

    pub(super) fn unpinned(&self) -> &[Arc<str>] {
        &self.unpinned
    }

    /// Returns the pools in force in the order in which they are tried for a Service that names none; pools
    /// without automatic assignment come last.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Arc<str>> {
        let manual = self.in_force.iter().filter(|(_, state)| !state.pool().auto_assign);
        self.pinned.iter().chain(&self.unpinned).chain(manual.map(|(name, _)| name))
    }

    /// Returns the pool that contains `ip` and may allocate it.
    pub(super) fn containing(&self, ip: IpAddr) -> Option<&Arc<str>> {
        let (_, name) = self.starts.range(..=ip).next_back()?;
        let state = self.in_force.get(name)?;
        state.space(Family::of(ip)).slot(ip).map(|_| name)
    }

    /// Marks an address as taken in the pool that contains it.
    pub(super) fn take(&mut self, ip: IpAddr) {
        if let Some(state) = self.containing_mut(ip) {
            state.take(ip);
        }
    }

    /// Marks an address as free in the pool that contains it.
    pub(super) fn free(&mut self, ip: IpAddr) {
        if let Some(state) = self.containing_mut(ip) {
            state.free(ip);
        }
    }

    fn containing_mut(&mut self, ip: IpAddr) -> Option<&mut PoolState> {
        let name = self.containing(ip)?.clone();
        self.in_force.get_mut(&name)
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
        let refused: BTreeMap<Arc<str>, Pool> =
            refused.iter().map(|(name, pool)| (name.as_str().into(), pool.clone())).collect();
        let names = self.refused.keys().chain(refused.keys());
        let refused_changed = names.filter(|name| self.refused.get(*name) != refused.get(*name));
        PoolDifference {
            removed: removed.map(|(name, _)| name.clone()).collect(),
            added: added.map(|(_, pool)| pool.clone()).collect(),
            refused_changed: refused_changed.cloned().collect(),
            refused,
        }
    }

    /// Puts a new configuration into force. Returns the ranges of pools that were removed or added: other
    /// pools may contain their addresses now. The spaces of added pools are free of holders until the caller
    /// takes them.
    pub(super) fn replace(&mut self, difference: PoolDifference) -> Vec<IpRange> {
        let PoolDifference { removed, added, refused_changed, refused } = difference;
        let mut edited: Vec<IpRange> = added.iter().flat_map(|pool| &pool.ranges).copied().collect();
        for name in removed.iter().chain(&refused_changed) {
            let state = self.in_force.remove(name);
            edited.extend(state.into_iter().flat_map(|state| state.pool().ranges.clone()));
        }
        for pool in added {
            self.in_force.insert(pool.name.as_str().into(), PoolState::new(pool));
        }
        self.refused = refused;
        self.starts = self
            .in_force
            .iter()
            .flat_map(|(name, state)| state.pool().ranges.iter().map(|range| (range.first(), name.clone())))
            .collect();
        self.set_order();
        edited
    }

    fn set_order(&mut self) {
        let mut pinned = Vec::new();
        let mut unpinned = Vec::new();
        for (name, state) in self.in_force.iter().filter(|(_, state)| state.pool().auto_assign) {
            match &state.pool().allocation {
                Some(a) => pinned.push((a.priority.checked_sub(1).unwrap_or(u32::MAX), name.clone())),
                None => unpinned.push(name.clone()),
            }
        }
        pinned.sort();
        self.pinned = pinned.into_iter().map(|(_, name)| name).collect();
        self.unpinned = unpinned;
    }
}
