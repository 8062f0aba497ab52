//! Changing the set of pools under those who hold addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use super::admission::Order;
use super::space::Space;
use super::{Family, Ipam, PoolState};

/// What a change of pools did to those who hold or claim addresses of the pools that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolChanges {
    /// Something about some pool is different, or another pool is refused.
    pub any: bool,
    /// They hold what they held, perhaps of another pool. Whether the pool is still open to them, [`Ipam::keep`] decides.
    pub kept: BTreeSet<Arc<ObjectKey>>,
    /// No pool lets them keep an address of theirs: they hold nothing now.
    pub evicted: BTreeSet<Arc<ObjectKey>>,
    /// Claims on addresses of pools that changed.
    pub claims: BTreeSet<ObjectKey>,
}

impl Ipam {
    /// Puts `pools` in force; those in `refused` exist but are not. Costs the holders of those pools that differ.
    pub fn set_pools(
        &mut self,
        pools: &BTreeMap<String, Pool>,
        refused: &BTreeMap<String, Pool>,
    ) -> PoolChanges {
        let gone: Vec<Arc<str>> = self
            .pools
            .iter()
            .filter(|(name, state)| pools.get(&***name) != Some(&state.pool))
            .map(|(name, _)| name.clone())
            .collect();
        let come: Vec<&Pool> = pools
            .iter()
            .filter(|(name, pool)| self.pool(name) != Some(*pool))
            .map(|(_, pool)| pool)
            .collect();
        let refused: BTreeMap<Arc<str>, Pool> =
            refused.iter().map(|(name, pool)| (name.as_str().into(), pool.clone())).collect();
        let judged_anew: Vec<Arc<str>> = self
            .refused
            .keys()
            .chain(refused.keys())
            .filter(|name| self.refused.get(*name) != refused.get(*name))
            .cloned()
            .collect();
        let any = !gone.is_empty() || !come.is_empty() || !judged_anew.is_empty();
        let mut changes = PoolChanges { any, ..PoolChanges::default() };
        if !any {
            return changes;
        }

        let mut affected: BTreeSet<Arc<ObjectKey>> = BTreeSet::new();
        // Where another pool may have the addresses than before.
        let mut edited: Vec<IpRange> = come.iter().flat_map(|pool| &pool.ranges).copied().collect();
        for name in gone.iter().chain(&judged_anew) {
            affected.extend(self.holders_of(name).cloned());
            changes.claims.extend(self.claims_on(name).cloned());
            edited.extend(self.pools.remove(name).into_iter().flat_map(|state| state.pool.ranges));
        }
        for pool in &come {
            self.pools.insert(pool.name.as_str().into(), PoolState::new(pool));
        }
        self.refused = refused;
        self.starts = self
            .pools
            .iter()
            .flat_map(|(name, state)| state.pool.ranges.iter().map(|range| (range.first(), name.clone())))
            .collect();
        self.order = Order::of(self.pools.iter().map(|(name, state)| (name, &state.pool)));

        // The spaces of pools that changed are new and know nothing of who holds what.
        for range in come.iter().flat_map(|pool| &pool.ranges) {
            let held = self.addresses.range(range.first()..=range.last());
            affected.extend(held.clone().flat_map(|(_, occupied)| occupied.holders.iter().cloned()));
            let reserved = self.reservations.range(range.first()..=range.last()).map(|(ip, _)| ip);
            let taken: BTreeSet<IpAddr> = held.map(|(ip, _)| ip).chain(reserved).copied().collect();
            taken.into_iter().for_each(|ip| self.take(ip));
        }
        for service in affected {
            if self.move_to_new_homes(&service) {
                changes.kept.insert(service);
            } else {
                self.release(&service);
                changes.evicted.insert(service);
            }
        }
        let come = come.iter().map(|pool| pool.name.as_str().into());
        for name in gone.into_iter().chain(judged_anew).chain(come).collect::<BTreeSet<Arc<str>>>() {
            self.review_released(&name);
        }
        let reserved = edited.iter().flat_map(|range| self.reservations.range(range.first()..=range.last()));
        let reserved: Vec<IpAddr> = reserved.map(|(ip, _)| *ip).collect();
        reserved.into_iter().for_each(|ip| self.recount(ip));
        changes
    }

    /// Moves what a Service holds to the pools that it is held of from now on. Returns false if there is none for some of
    /// it.
    fn move_to_new_homes(&mut self, service: &ObjectKey) -> bool {
        let Some(holding) = self.holding(service) else { return true };
        let homes: Option<Vec<(IpAddr, Arc<str>, bool)>> = holding
            .held
            .iter()
            .map(|held| {
                let home = self.home(held.ip, Some(&held.pool))?;
                let moves = home != held.pool;
                Some((held.ip, home, moves))
            })
            .collect();
        let Some(homes) = homes else { return false };
        for (ip, home, moves) in homes {
            if moves {
                self.rehome(ip, &home);
            }
            self.unindex(ip, None);
            self.index(ip);
        }
        true
    }
}

impl PoolState {
    fn new(pool: &Pool) -> Self {
        Self {
            pool: pool.clone(),
            v4: Space::new(pool, Family::V4),
            v6: Space::new(pool, Family::V6),
            shared: BTreeMap::new(),
        }
    }
}
