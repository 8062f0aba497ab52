//! Changes of the pools, and their effect on holders and claims.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Pool, Reclaim};
use fairlead_crds::model::delta::Differing;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use super::Ipam;
use super::changes::AddressChange;
use super::pools::PoolDifference;

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
    /// The pools that differ, in force or refused.
    pub names: BTreeSet<Arc<str>>,
    /// The previous version of each pool in force that was edited or removed.
    pub previous: Vec<Pool>,
    /// The pools in force that are new or were edited.
    pub current: Vec<Arc<str>>,
    /// True if the pools that are open to all can offer other families now, or if there are none any more, or
    /// now are some.
    pub open_families_differ: bool,
}

impl Ipam {
    /// Puts `pools` into force; the pools in `refused` exist but are not in force. The cost depends on the
    /// holders of the pools that differ.
    pub fn set_pools(
        &mut self,
        pools: &BTreeMap<String, Pool>,
        refused: &BTreeMap<String, Pool>,
    ) -> PoolChanges {
        self.put_pools(self.pools.compare(pools, refused))
    }

    /// Changes some pools: puts them into force or refuses them, or with `None` takes them back. The cost
    /// depends on these pools and their holders.
    pub fn change_pools(&mut self, pools: &Differing<Pool>, refused: &Differing<Pool>) -> PoolChanges {
        self.put_pools(self.pools.compare_some(pools, refused))
    }

    fn put_pools(&mut self, difference: PoolDifference) -> PoolChanges {
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
        changes.current = added_names.collect();
        let removed_names = difference.removed.iter().chain(&difference.refused_changed);
        changes.names = removed_names.chain(&changes.current).cloned().collect();
        let added_ranges: Vec<IpRange> =
            difference.added.iter().flat_map(|pool| &pool.ranges).copied().collect();
        let open_families = self.pools.open_families();
        changes.previous = self.pools.replace(difference);
        self.review_orphans();
        let reassigns = |name: &str| {
            changes.previous.iter().any(|pool| pool.name == name && pool.reclaim == Reclaim::Reassign)
        };
        let gone = changes.names.iter().filter(|name| !self.pool_exists(name) && !reassigns(name));
        let gone: Vec<Arc<str>> = gone.cloned().collect();
        gone.iter().for_each(|name| self.keep_orphans_of(name));
        changes.open_families_differ = self.pools.open_families() != open_families;

        // The spaces of added pools do not know the holders and reservations yet.
        for range in &added_ranges {
            let mut taken: Vec<IpAddr> = self.reservations.reserved_in(range).collect();
            for (ip, occupied) in self.ledger.held_in(range) {
                affected.extend(occupied.holders().iter().cloned());
                taken.push(ip);
            }
            taken.extend(self.nodes.within(range).map(|(ip, _)| ip));
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
        for name in &changes.names {
            self.review_cooldowns(name);
        }
        let previous_ranges = changes.previous.iter().flat_map(|pool| &pool.ranges);
        let edited_ranges = previous_ranges.chain(&added_ranges);
        let reserved: Vec<IpAddr> =
            edited_ranges.flat_map(|range| self.reservations.reserved_in(range)).collect();
        reserved.into_iter().for_each(|ip| self.update_reserved_count(ip));
        for name in &changes.current {
            self.record_free_addresses(name);
        }
        changes
    }

    /// Records the free addresses of a pool that is new in force or was edited.
    fn record_free_addresses(&mut self, pool: &Arc<str>) {
        let Some(state) = self.pools.state(pool) else { return };
        for family in Family::BOTH {
            let space = state.space(family);
            if let Some(slot) = space.first_free() {
                let (address, pool) = (space.address(slot), pool.clone());
                let change = AddressChange { address, pool, free: true, reserved_for: None, shared: None };
                self.changes.push(change);
            }
        }
    }

    /// Moves the addresses of a Service to the pools that own them now. Returns false if an address has no
    /// owning pool.
    fn move_to_owning_pools(&mut self, service: &ObjectKey) -> bool {
        let Some(holding) = self.holding(service) else { return true };
        let owning: Option<Vec<(IpAddr, Arc<str>, bool)>> = holding
            .held
            .iter()
            .map(|held| {
                let owning = self.owning_pool(held.ip, Some(&held.pool));
                let pool = owning.or_else(|| self.orphaned(Some(&held.pool)))?;
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
