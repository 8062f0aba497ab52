//! Changes of the pools, and their effect on holders and claims.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use super::Ipam;

/// The effect of a change of pools on holders and claims of the changed pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolChanges {
    /// True if any pool in force, or the set of refused pools, differs.
    pub any: bool,
    /// Services that still hold their addresses, possibly of another pool. [`Ipam::keep`] decides whether the
    /// pool still admits them.
    pub kept: BTreeSet<Arc<ObjectKey>>,
    /// Services that hold nothing now, because no pool lets them keep one of their addresses.
    pub evicted: BTreeSet<Arc<ObjectKey>>,
    /// Claims on addresses of pools that changed.
    pub claims: BTreeSet<ObjectKey>,
}

impl Ipam {
    /// Puts `pools` into force; the pools in `refused` exist but are not in force. The cost depends on the
    /// holders of the pools that differ.
    pub fn set_pools(
        &mut self,
        pools: &BTreeMap<String, Pool>,
        refused: &BTreeMap<String, Pool>,
    ) -> PoolChanges {
        let difference = self.pools.compare(pools, refused);
        if difference.is_empty() {
            return PoolChanges::default();
        }
        let mut changes = PoolChanges { any: true, ..PoolChanges::default() };
        let mut affected: BTreeSet<Arc<ObjectKey>> = BTreeSet::new();
        for name in difference.removed.iter().chain(&difference.refused_changed) {
            affected.extend(self.holders_of(name).cloned());
            changes.claims.extend(self.claims_on(name).cloned());
        }
        let added_names = difference.added.iter().map(|pool| Arc::from(pool.name.as_str()));
        let changed: BTreeSet<Arc<str>> = difference
            .removed
            .iter()
            .chain(&difference.refused_changed)
            .cloned()
            .chain(added_names)
            .collect();
        let added_ranges: Vec<IpRange> =
            difference.added.iter().flat_map(|pool| &pool.ranges).copied().collect();
        let edited_ranges = self.pools.replace(difference);

        // The spaces of added pools do not know the holders and reservations yet.
        for range in &added_ranges {
            let mut taken: Vec<IpAddr> = self.reservations.reserved_in(range).collect();
            for (ip, occupied) in self.ledger.held_in(range) {
                affected.extend(occupied.holders().iter().cloned());
                taken.push(ip);
            }
            taken.into_iter().for_each(|ip| self.pools.take(ip));
        }
        for service in affected {
            if self.move_to_owning_pools(&service) {
                changes.kept.insert(service);
            } else {
                self.release(&service);
                changes.evicted.insert(service);
            }
        }
        for name in changed {
            self.review_cooldowns(&name);
        }
        let reserved: Vec<IpAddr> =
            edited_ranges.iter().flat_map(|range| self.reservations.reserved_in(range)).collect();
        reserved.into_iter().for_each(|ip| self.update_reserved_count(ip));
        changes
    }

    /// Moves the addresses of a Service to the pools that own them now. Returns false if an address has no
    /// owning pool.
    fn move_to_owning_pools(&mut self, service: &ObjectKey) -> bool {
        let Some(holding) = self.holding(service) else { return true };
        let owning: Option<Vec<(IpAddr, Arc<str>, bool)>> = holding
            .held
            .iter()
            .map(|held| {
                let pool = self.owning_pool(held.ip, Some(&held.pool))?;
                let moves = pool != held.pool;
                Some((held.ip, pool, moves))
            })
            .collect();
        let Some(owning) = owning else { return false };
        for (ip, pool, moves) in owning {
            if moves {
                self.move_to_pool(ip, &pool);
            }
            self.unlist_shared(ip, None);
            self.list_shared(ip);
        }
        true
    }
}
