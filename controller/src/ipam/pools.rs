//! Changing the set of pools under those who hold addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::config::Pool;
use fairlead_crds::service::ObjectKey;

use super::select::Order;
use super::space::Space;
use super::{Family, Holding, Ipam, PoolState};

/// What a change of pools did to those who hold addresses of the pools that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolChanges {
    /// Something about some pool is different, or another pool is refused.
    pub any: bool,
    /// Their addresses are all in one pool, the old or another: they keep them, unless that pool is not open to them. Or
    /// their pool is refused now: they keep them in any case.
    pub kept: BTreeSet<Arc<ObjectKey>>,
    /// An address of theirs is no longer in a pool: they hold nothing now.
    pub evicted: BTreeSet<Arc<ObjectKey>>,
}

impl Ipam {
    /// Puts `pools` in force; those in `refused` exist but are not. Costs the holders of those pools that differ or are
    /// refused.
    pub fn set_pools(
        &mut self,
        pools: &BTreeMap<String, Pool>,
        refused: &BTreeMap<String, Pool>,
    ) -> PoolChanges {
        let gone: Vec<Arc<str>> = self
            .pools
            .iter()
            .filter(|(name, s)| pools.get(&***name) != Some(&s.pool))
            .map(|(n, _)| n.clone())
            .collect();
        let come: Vec<&Pool> = pools
            .iter()
            .filter(|(name, pool)| self.pool(name) != Some(*pool))
            .map(|(_, pool)| pool)
            .collect();
        let same_refused = self.refused.keys().map(|name| &**name).eq(refused.keys().map(String::as_str));
        let any = !gone.is_empty() || !come.is_empty() || !same_refused;
        let mut changes = PoolChanges { any, ..PoolChanges::default() };
        if !changes.any {
            return changes;
        }

        let mut affected = BTreeSet::new();
        self.refused.retain(|name, holders| {
            let stays = refused.contains_key(&**name);
            if !stays {
                affected.append(holders);
            }
            stays
        });
        for name in refused.keys() {
            self.refused.entry(name.as_str().into()).or_default();
        }
        for name in &gone {
            if let Some(state) = self.pools.remove(name) {
                affected.extend(self.holders_in(&state.pool).into_iter().map(|(_, service)| service));
            }
        }
        for pool in &come {
            let name: Arc<str> = pool.name.as_str().into();
            self.pools.insert(name, PoolState::new(pool));
        }
        self.starts = self
            .pools
            .iter()
            .flat_map(|(name, state)| state.pool.ranges.iter().map(|range| (range.first(), name.clone())))
            .collect();
        self.order = Order::of(self.pools.iter().map(|(name, state)| (name, &state.pool)));

        for service in affected {
            match self.one_pool_of(&service) {
                Some(pool) => {
                    if let Some(holders) = self.refused.get_mut(&pool) {
                        holders.insert(service.clone());
                    }
                    if let Some(held) = self.services.get_mut(&service) {
                        held.holding.pool = pool;
                    }
                    changes.kept.insert(service);
                }
                None => {
                    self.evict(&service);
                    changes.evicted.insert(service);
                }
            }
        }
        // The spaces of pools that changed are new and know nothing of who holds what.
        for service in &changes.kept {
            let Some(Holding { addresses, .. }) = self.holding(service).cloned() else { continue };
            for ip in addresses {
                self.enter(ip, service);
            }
        }
        let reserved = self.reservations.keys().copied();
        let kept = self.refused.keys().flat_map(|pool| self.held_of_refused(pool));
        for ip in reserved.chain(kept).collect::<Vec<IpAddr>>() {
            self.take(ip);
        }
        changes
    }

    /// Every Service that holds an address of a pool, in force or refused.
    pub fn holders_of(&self, pool: &str) -> BTreeSet<Arc<ObjectKey>> {
        let Some(in_force) = self.pool(pool) else {
            return self.refused.get(pool).cloned().unwrap_or_default();
        };
        let of_pool =
            |service: &Arc<ObjectKey>| self.holding(service).is_some_and(|held| *held.pool == *pool);
        self.holders_in(in_force).into_iter().map(|(_, service)| service).filter(of_pool).collect()
    }

    fn holders_in(&self, pool: &Pool) -> Vec<(IpAddr, Arc<ObjectKey>)> {
        let held = pool.ranges.iter().flat_map(|r| self.addresses.range(r.first()..=r.last()));
        held.flat_map(|(ip, services)| services.iter().map(|service| (*ip, service.clone()))).collect()
    }

    /// The pool that a Service holds its addresses of from now on.
    fn one_pool_of(&self, service: &ObjectKey) -> Option<Arc<str>> {
        let holding = self.holding(service)?;
        if self.is_refused(&holding.pool) {
            return Some(holding.pool.clone());
        }
        let mut pools = holding.addresses.iter().map(|ip| self.pool_of(*ip));
        let first = pools.next()??;
        pools.all(|pool| pool == Some(first)).then(|| first.clone())
    }

    fn evict(&mut self, service: &Arc<ObjectKey>) {
        let Some(held) = self.services.remove(service) else { return };
        for ip in held.holding.addresses {
            self.leave(ip, service);
        }
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
