//! The reason why no pool gives a Service an address.

use std::sync::Arc;

use super::Ipam;
use super::eligibility::{Obstacle, restrictions};
use super::refusal::AllocationRefusal;
use super::request::{AllocationRequest, Families};
use fairlead_crds::model::family::Family;

impl Ipam {
    /// Returns why a Service cannot allocate from a pool of this name, which is not in force.
    pub fn diagnose_pool_name(&self, pool: &str) -> AllocationRefusal {
        match self.pools.refused(pool) {
            Some((name, _)) => AllocationRefusal::PoolRefused(name.clone()),
            None => AllocationRefusal::NoSuchPool(pool.to_owned()),
        }
    }

    /// Returns why no pool gave addresses to a Service that names none.
    pub(super) fn diagnose_all_pools(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let open = self.pools_in_order().filter(|name| self.is_open(name, request, false));
        let open: Vec<Arc<str>> = open.cloned().collect();
        if open.is_empty() {
            self.diagnose_restrictions(request)
        } else {
            self.unnamed(self.diagnose_open_pools(&open, request, families))
        }
    }

    /// Removes the names of pools from a refusal if there are too many pools: the messages of all waiting
    /// Services would change with each of them.
    fn unnamed(&self, mut refusal: AllocationRefusal) -> AllocationRefusal {
        if let AllocationRefusal::FamilyMismatch(pools, _) | AllocationRefusal::Exhausted { pools, .. } =
            &mut refusal
            && !self.names_pools()
        {
            pools.clear();
        }
        refusal
    }

    /// Returns why a pool gave nothing to a Service that names it or holds an address of it.
    pub(super) fn diagnose_pool(
        &self,
        pool: &Arc<str>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let Some(state) = self.pools.state(pool) else { return self.diagnose_pool_name(pool) };
        let open = |()| self.diagnose_open_pools(std::slice::from_ref(pool), request, families);
        self.check_open(state, request, true).map_or_else(|why| why, open)
    }

    /// Returns why neither `own`, the pool of the address that a Service holds, nor another pool gave it the
    /// missing family. The family that the Service has does not matter, or the Service would wait for it.
    pub(super) fn diagnose_missing(
        &self,
        own: &Arc<str>,
        request: &AllocationRequest<'_>,
        missing: Families,
    ) -> AllocationRefusal {
        let open = self.pools_in_order().filter(|name| self.is_open(name, request, *name == own));
        let open: Vec<Arc<str>> = open.cloned().collect();
        if open.is_empty() {
            self.diagnose_pool(own, request, missing)
        } else {
            self.unnamed(self.diagnose_open_pools(&open, request, missing))
        }
    }

    /// Returns why none of `pools` gave addresses. No restriction keeps the Service from any of them.
    pub(super) fn diagnose_open_pools(
        &self,
        pools: &[Arc<str>],
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let both = matches!(families, Families::Both { required: true, .. });
        let has = |family: Family| {
            pools
                .iter()
                .filter(move |pool| self.pools.state(pool).is_some_and(|s| !s.space(family).is_empty()))
        };
        let wanted = families.wanted();
        let lacking = wanted.iter().filter(|family| has(**family).next().is_none()).count();
        if lacking == wanted.len() || (both && lacking > 0) {
            return AllocationRefusal::FamilyMismatch(pools.to_vec(), families);
        }
        let suitable = |pool: &&Arc<str>| {
            let state = self.pools.state(pool);
            state.is_some_and(|s| wanted.iter().any(|family| !s.space(*family).is_empty()))
        };
        // A pool without free addresses is not full for a Service that has a reservation or may share an
        // address.
        let is_full = |pool: &Arc<str>, family: Family| {
            let state = self.pools.state(pool);
            state
                .is_some_and(|state| self.find_address(state, request, family) == Err(Obstacle::Full(family)))
        };
        let mut full: Vec<(Arc<str>, Family)> = Vec::new();
        for family in &wanted {
            // If both are required, the Service waits for the first family that every pool lacks, and then
            // for the other.
            if both && (!full.is_empty() || !has(*family).all(|pool| is_full(pool, *family))) {
                continue;
            }
            full.extend(has(*family).filter(|p| is_full(p, *family)).map(|p| (p.clone(), *family)));
        }
        AllocationRefusal::Exhausted {
            pools: pools.iter().filter(suitable).cloned().collect(),
            families,
            full,
        }
    }

    /// Returns which restriction of each pool keeps a Service that names none from it.
    pub(super) fn diagnose_restrictions(&self, request: &AllocationRequest<'_>) -> AllocationRefusal {
        if self.pools.is_empty() {
            return AllocationRefusal::NoPool;
        }
        let mut closed = Vec::new();
        if !self.names_pools() {
            return AllocationRefusal::NoPoolMatches(closed);
        }
        for name in self.pools_in_order() {
            let Some(state) = self.pools.state(name) else { continue };
            if let Some(obstacle) = restrictions(state, request, false).next() {
                closed.push((name.clone(), obstacle.explain(state.pool())));
            }
        }
        AllocationRefusal::NoPoolMatches(closed)
    }
}
