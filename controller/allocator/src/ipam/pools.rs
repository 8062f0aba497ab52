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
use super::pool_index::PoolIndex;
use super::pool_set::{Candidates, PoolSet, Position, Tier};
use super::pool_state::PoolState;
use super::request::AllocationRequest;
use super::shared_pools::SharedPools;
use super::sharing::{Ports, SharingGroup};

/// The pools, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    in_force: BTreeMap<Arc<str>, PoolState>,
    /// Pools that exist but are refused.
    refused: BTreeMap<Arc<str>, Pool>,
    /// First address of each range in force, with its pool.
    starts: BTreeMap<IpAddr, Arc<str>>,
    /// The pools with a `serviceAllocation` and automatic assignment that are not closed.
    pinned: PoolIndex,
    open: OpenPools,
    shared: SharedPools,
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

    /// Returns a pool in force with its shared name.
    pub(super) fn named_state(&self, name: &str) -> Option<(&Arc<str>, &PoolState)> {
        self.in_force.get_key_value(name)
    }

    /// Asserts that the indexes contain exactly the pools in force.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let (mut pinned, mut unpinned, mut shared) = (0, 0, SharedPools::default());
        for (name, state) in &self.in_force {
            let Some(position) = Position::of(state.pool(), name) else { continue };
            match position.tier {
                Tier::Pinned => {
                    pinned += 1;
                    self.pinned.assert_listed(&position, state);
                }
                Tier::Unpinned => {
                    unpinned += 1;
                    self.open.pools().assert_contains(&position, state);
                }
            }
            for (family, group, ports) in state.shared() {
                shared.insert(position.clone(), family, group.clone(), ports.clone());
            }
        }
        assert_eq!((self.pinned.len(), self.open.pools().len()), (pinned, unpinned));
        assert_eq!(self.shared, shared);
    }

    /// Returns all pools of a tier that are not closed, in the order in which they are tried.
    #[cfg(test)]
    pub(super) fn of_tier(&self, tier: Tier) -> impl Iterator<Item = Arc<str>> {
        let positions = self.in_force.iter().filter_map(|(name, state)| Position::of(state.pool(), name));
        let positions: BTreeSet<Position> = positions.filter(|position| position.tier == tier).collect();
        positions.into_iter().map(|position| position.name)
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

    /// Returns the pools of a tier that may have an address of each of these families for a Service, in the
    /// order in which they are tried: those that may admit it, with free addresses, with addresses that it
    /// may share, or in `own`.
    pub(super) fn candidates<'a>(
        &'a self,
        tier: Tier,
        request: &AllocationRequest<'_>,
        families: &[Family],
        own: impl Iterator<Item = &'a Arc<str>>,
    ) -> Candidates<'a> {
        let free = self.sets(tier, request).into_iter().map(|set| set.with_free(families));
        let shared = self.shared.joinable(request, families);
        let own = own.filter_map(|name| Position::of(self.in_force.get(name)?.pool(), name));
        Candidates::new(tier, free.chain(shared), own.collect())
    }

    /// Returns the pools with a `serviceAllocation` that may admit a Service, full or not, in the order in
    /// which they are tried.
    pub(super) fn pinned_for(&self, request: &AllocationRequest<'_>) -> Candidates<'_> {
        let sets = self.sets(Tier::Pinned, request).into_iter().map(PoolSet::all);
        Candidates::new(Tier::Pinned, sets, BTreeSet::new())
    }

    fn sets(&self, tier: Tier, request: &AllocationRequest<'_>) -> Vec<&PoolSet> {
        match tier {
            Tier::Pinned => self.pinned.sets(request),
            Tier::Unpinned => vec![self.open.pools()],
        }
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
        let place = |(name, state): &(&Arc<str>, &PoolState)| {
            let place = Position::of_automatic(state.pool(), name);
            (place.is_none(), place)
        };
        let mut pools: Vec<_> = self.in_force.iter().collect();
        pools.sort_by_cached_key(place);
        pools.into_iter().map(|(name, _)| name)
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
        if state.space(family).first_free().is_some() != had_free
            && let Some(position) = Position::of(state.pool(), &name)
        {
            match position.tier {
                Tier::Pinned => self.pinned.set_free(&position, state),
                Tier::Unpinned => self.open.set_free(&position, state),
            }
        }
    }

    /// Lists an address of a pool as shared by a group that uses `ports` on it.
    pub(super) fn list_shared(
        &mut self,
        name: &Arc<str>,
        ip: IpAddr,
        group: Arc<SharingGroup>,
        ports: Ports,
    ) {
        let Some(state) = self.in_force.get_mut(name) else { return };
        state.list_shared(ip, group.clone(), ports.clone());
        if let Some(position) = Position::of(state.pool(), name) {
            self.shared.insert(position, Family::of(ip), group, ports);
        }
    }

    /// Reverts [`Pools::list_shared`] with the same arguments.
    pub(super) fn unlist_shared(
        &mut self,
        name: &Arc<str>,
        ip: IpAddr,
        group: Arc<SharingGroup>,
        ports: &Ports,
    ) {
        let Some(state) = self.in_force.get_mut(name) else { return };
        state.unlist_shared(ip, group.clone(), ports);
        let family = Family::of(ip);
        if !state.shares(family, &group, ports)
            && let Some(position) = Position::of(state.pool(), name)
        {
            self.shared.remove(&position, family, group, ports);
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
        let position = Position::of(&pool, &name);
        let state = PoolState::new(pool);
        match position {
            Some(position) if position.tier == Tier::Pinned => self.pinned.insert(&position, &state),
            Some(position) => self.open.insert(&position, &state),
            None => {}
        }
        self.in_force.insert(name, state);
    }

    fn remove(&mut self, name: &Arc<str>) -> Option<Pool> {
        let state = self.in_force.remove(name)?;
        if let Some(position) = Position::of(state.pool(), name) {
            match position.tier {
                Tier::Pinned => self.pinned.remove(&position),
                Tier::Unpinned => self.open.remove(&position, &state),
            }
            for (family, group, ports) in state.shared() {
                self.shared.remove(&position, family, group.clone(), ports);
            }
        }
        let pool = state.into_pool();
        for range in &pool.ranges {
            self.starts.remove(&range.first());
        }
        Some(pool)
    }
}
