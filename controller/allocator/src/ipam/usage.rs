//! How full the pools are, and who uses them. Kept up to date by each change, so that asking costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::{Family, Ipam};

/// Addresses of one family of a pool. Shared addresses count once; all counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Addresses that may be given.
    pub total: u128,
    /// Those that Services hold, and the retained ones besides.
    pub assigned: u128,
    /// Those that may be given now.
    pub available: u128,
    /// Of the assigned, those that the pool would not give to their holders now.
    pub retained: u128,
    /// Those that nobody holds, but that are kept for a Service.
    pub reserved: u128,
}

/// Who holds and reserves addresses of one pool.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolUsage {
    pub(super) holders: BTreeSet<Arc<ObjectKey>>,
    pub(super) claims: BTreeSet<ObjectKey>,
    /// When each address was released that is kept for its last holder, the earliest first.
    pub(super) released: BTreeSet<(Timestamp, IpAddr)>,
    pub(super) assigned: [u64; 2],
    pub(super) reserved: [u64; 2],
    /// By address, how many Services retain it.
    pub(super) retained: [BTreeMap<IpAddr, u32>; 2],
}

impl Ipam {
    /// Counts of a pool in one family. A refused pool has what is held of it.
    pub fn counts(&self, pool: &str, family: Family) -> Counts {
        let at = PoolUsage::at(family);
        let (assigned, retained, reserved) = self.usages.get(pool).map_or((0, 0, 0), |usage| {
            (usage.assigned[at], usage.retained[at].len() as u64, usage.reserved[at])
        });
        let [assigned, retained, reserved] = [assigned, retained, reserved].map(u128::from);
        match self.pools.get(pool) {
            Some(state) => {
                let space = state.space(family);
                let available = space.total().saturating_sub(space.taken());
                Counts { total: space.total(), assigned, available, retained, reserved }
            }
            None => Counts { total: assigned, assigned, available: 0, retained, reserved },
        }
    }

    /// Every Service that holds an address of a pool, in force or refused.
    pub fn holders_of(&self, pool: &str) -> impl ExactSizeIterator<Item = &Arc<ObjectKey>> {
        static NOBODY: BTreeSet<Arc<ObjectKey>> = BTreeSet::new();
        self.usages.get(pool).map_or(&NOBODY, |usage| &usage.holders).iter()
    }

    /// Every claim that has reserved an address of a pool.
    pub fn claims_on(&self, pool: &str) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.usages.get(pool).map_or(&NONE, |usage| &usage.claims).iter()
    }

    /// Changes the usage of a pool, and forgets it when there is nothing to count any more.
    pub(super) fn usage(&mut self, pool: &Arc<str>, change: impl FnOnce(&mut PoolUsage)) {
        let usage = self.usages.entry(pool.clone()).or_default();
        change(usage);
        if usage.is_empty() {
            self.usages.remove(pool);
        }
    }
}

impl PoolUsage {
    pub(super) fn at(family: Family) -> usize {
        match family {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }

    pub(super) fn retain(&mut self, ip: IpAddr) {
        *self.retained[Self::at(Family::of(ip))].entry(ip).or_default() += 1;
    }

    pub(super) fn retain_no_more(&mut self, ip: IpAddr) {
        let retained = &mut self.retained[Self::at(Family::of(ip))];
        if let Some(count) = retained.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                retained.remove(&ip);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.holders.is_empty()
            && self.claims.is_empty()
            && self.released.is_empty()
            && self.assigned == [0, 0]
            && self.reserved == [0, 0]
    }
}
