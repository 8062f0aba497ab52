//! Part of [`Ipam`](super::Ipam): the usage of each pool. Every change updates it, so that reading costs
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::space::Space;

/// Numbers of addresses of one family of a pool. Shared addresses count once; all counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Addresses that the pool may allocate.
    pub total: u128,
    /// Addresses with a holder, retained ones included.
    pub assigned: u128,
    /// Addresses that can be allocated now.
    pub available: u128,
    /// Assigned addresses that the pool would not allocate to their holders now.
    pub retained: u128,
    /// Addresses without a holder that are reserved by a claim or in cool-down.
    pub reserved: u128,
}

/// The usage of all pools, in force or refused, that have any.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    pools: BTreeMap<Arc<str>, PoolUsage>,
}

/// The usage of one pool.
#[derive(Clone, Debug, Default)]
struct PoolUsage {
    holders: BTreeSet<Arc<ObjectKey>>,
    claims: BTreeSet<ObjectKey>,
    /// Addresses in cool-down by release time, the earliest first.
    released: BTreeSet<(Timestamp, IpAddr)>,
    v4: FamilyUsage,
    v6: FamilyUsage,
}

#[derive(Clone, Debug, Default)]
struct FamilyUsage {
    assigned: u64,
    reserved: u64,
    /// Retained addresses, with the number of Services that retain each.
    retained: BTreeMap<IpAddr, u32>,
}

impl Usage {
    /// Returns every Service that holds an address of a pool.
    pub(super) fn holders(&self, pool: &str) -> impl ExactSizeIterator<Item = &Arc<ObjectKey>> {
        static NONE: BTreeSet<Arc<ObjectKey>> = BTreeSet::new();
        self.pools.get(pool).map_or(&NONE, |usage| &usage.holders).iter()
    }

    /// Returns every claim that has reserved an address of a pool.
    pub(super) fn claims(&self, pool: &str) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.pools.get(pool).map_or(&NONE, |usage| &usage.claims).iter()
    }

    /// Returns the addresses of a pool in cool-down, the earliest release first.
    pub(super) fn released(&self, pool: &str) -> impl Iterator<Item = (Timestamp, IpAddr)> {
        self.pools.get(pool).into_iter().flat_map(|usage| usage.released.iter().copied())
    }

    /// Returns the counts of a pool in one family. `space` contains its addresses; None if the pool is not in
    /// force.
    pub(super) fn counts(&self, pool: &str, family: Family, space: Option<&Space>) -> PoolCounts {
        let usage = self.pools.get(pool).map(|usage| usage.family(family));
        let numbers = |usage: &FamilyUsage| [usage.assigned, usage.retained.len() as u64, usage.reserved];
        let [assigned, retained, reserved] = usage.map_or([0; 3], numbers).map(u128::from);
        match space {
            Some(space) => {
                let available = space.total().saturating_sub(space.taken());
                PoolCounts { total: space.total(), assigned, available, retained, reserved }
            }
            None => PoolCounts { total: assigned, assigned, available: 0, retained, reserved },
        }
    }

    pub(super) fn add_holder(&mut self, pool: &Arc<str>, service: &Arc<ObjectKey>) {
        self.pools.entry(pool.clone()).or_default().holders.insert(service.clone());
    }

    pub(super) fn remove_holder(&mut self, pool: &str, service: &ObjectKey) {
        self.change(pool, |usage| {
            usage.holders.remove(service);
        });
    }

    pub(super) fn add_claim(&mut self, pool: &Arc<str>, claim: &ObjectKey) {
        self.pools.entry(pool.clone()).or_default().claims.insert(claim.clone());
    }

    pub(super) fn remove_claim(&mut self, pool: &str, claim: &ObjectKey) {
        self.change(pool, |usage| {
            usage.claims.remove(claim);
        });
    }

    pub(super) fn add_assigned(&mut self, pool: &Arc<str>, ip: IpAddr) {
        self.pools.entry(pool.clone()).or_default().family_mut(ip).assigned += 1;
    }

    pub(super) fn remove_assigned(&mut self, pool: &str, ip: IpAddr) {
        self.change(pool, |usage| usage.family_mut(ip).assigned -= 1);
    }

    pub(super) fn add_reserved(&mut self, pool: &Arc<str>, ip: IpAddr) {
        self.pools.entry(pool.clone()).or_default().family_mut(ip).reserved += 1;
    }

    pub(super) fn remove_reserved(&mut self, pool: &str, ip: IpAddr) {
        self.change(pool, |usage| usage.family_mut(ip).reserved -= 1);
    }

    /// One more Service retains the address.
    pub(super) fn add_retained(&mut self, pool: &Arc<str>, ip: IpAddr) {
        *self.pools.entry(pool.clone()).or_default().family_mut(ip).retained.entry(ip).or_default() += 1;
    }

    /// One Service fewer retains the address.
    pub(super) fn remove_retained(&mut self, pool: &str, ip: IpAddr) {
        self.change(pool, |usage| {
            let retained = &mut usage.family_mut(ip).retained;
            if let Some(count) = retained.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    retained.remove(&ip);
                }
            }
        });
    }

    /// Adds an address in cool-down. Returns the earliest one if the pool has more than `limit` of them.
    pub(super) fn add_released(
        &mut self,
        pool: &Arc<str>,
        released: Timestamp,
        ip: IpAddr,
        limit: usize,
    ) -> Option<IpAddr> {
        let all = &mut self.pools.entry(pool.clone()).or_default().released;
        all.insert((released, ip));
        if all.len() > limit { all.first().map(|(_, ip)| *ip) } else { None }
    }

    pub(super) fn remove_released(&mut self, pool: &str, released: Timestamp, ip: IpAddr) {
        self.change(pool, |usage| {
            usage.released.remove(&(released, ip));
        });
    }

    /// Changes the usage of a pool, and drops the entry when it is empty.
    fn change(&mut self, pool: &str, change: impl FnOnce(&mut PoolUsage)) {
        let Some(usage) = self.pools.get_mut(pool) else { return };
        change(usage);
        if usage.is_empty() {
            self.pools.remove(pool);
        }
    }

    #[cfg(test)]
    pub(super) fn pool_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.keys()
    }

    #[cfg(test)]
    pub(super) fn retained(&self, pool: &str, family: Family) -> Vec<IpAddr> {
        self.pools[pool].family(family).retained.keys().copied().collect()
    }
}

impl PoolUsage {
    fn family(&self, family: Family) -> &FamilyUsage {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn family_mut(&mut self, ip: IpAddr) -> &mut FamilyUsage {
        match Family::of(ip) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn is_empty(&self) -> bool {
        let none = |usage: &FamilyUsage| usage.assigned == 0 && usage.reserved == 0;
        self.holders.is_empty()
            && self.claims.is_empty()
            && self.released.is_empty()
            && none(&self.v4)
            && none(&self.v6)
    }
}
