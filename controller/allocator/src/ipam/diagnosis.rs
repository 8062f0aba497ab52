//! The reason why no pool gives a Service an address.

use std::sync::Arc;

use super::Ipam;
use super::eligibility::{Obstacle, restrictions};
use super::pool_set::Tier;
use super::refusal::AllocationRefusal;
use super::request::{AllocationRequest, Families};
use fairlead_crds::model::family::Family;

/// The pools that are open to a Service.
enum Pools {
    /// Exactly these pools. The refusal names them.
    Named(Vec<Arc<str>>),
    /// The pools in `pinned`, and those that are open to all Services. The refusal names none of them:
    /// otherwise, each new pool would change the messages of all waiting Services.
    Unnamed { pinned: Vec<Arc<str>> },
}

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
        let open = self.open_pools(request, None);
        let refusal = self.diagnose_pools(&open, request, families);
        #[cfg(test)]
        self.assert_diagnosis(refusal.as_ref(), None, request, families);
        refusal.unwrap_or_else(|| self.diagnose_restrictions(request))
    }

    /// Returns the pools that are open to a Service that names none and holds an address of the pool `own`.
    fn open_pools(&self, request: &AllocationRequest<'_>, own: Option<&Arc<str>>) -> Pools {
        if self.names_pools() {
            let is_open = |name: &&Arc<str>| self.is_open(name, request, Some(*name) == own);
            return Pools::Named(self.pools_in_order().filter(is_open).cloned().collect());
        }
        let own = own.filter(|own| self.pool(own).is_some_and(|pool| !pool.auto_assign));
        let own = own.filter(|own| self.is_open(own, request, true));
        let pinned = self.pools.pinned_for(request).filter(|name| self.is_open(name, request, false));
        Pools::Unnamed { pinned: pinned.chain(own.cloned()).collect() }
    }

    /// Returns why a pool gave nothing to a Service that names it or holds an address of it.
    pub(super) fn diagnose_pool(
        &self,
        pool: &Arc<str>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let Some(state) = self.pools.state(pool) else { return self.diagnose_pool_name(pool) };
        let open = |()| self.diagnose_open_pool(pool, request, families);
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
        let open = self.open_pools(request, Some(own));
        let refusal = self.diagnose_pools(&open, request, missing);
        #[cfg(test)]
        self.assert_diagnosis(refusal.as_ref(), Some(own), request, missing);
        refusal.unwrap_or_else(|| self.diagnose_pool(own, request, missing))
    }

    /// Returns why a pool gave no addresses. No restriction keeps the Service from it.
    pub(super) fn diagnose_open_pool(
        &self,
        pool: &Arc<str>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let pools = Pools::Named(vec![pool.clone()]);
        let refusal = self.diagnose_pools(&pools, request, families);
        refusal.unwrap_or_else(|| self.diagnose_pool_name(pool))
    }

    /// Returns why none of the pools gave addresses; `None` if there are none. No restriction keeps the
    /// Service from any of them.
    fn diagnose_pools(
        &self,
        pools: &Pools,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<AllocationRefusal> {
        let (listed, unlisted) = match pools {
            Pools::Named(pools) => (pools, None),
            Pools::Unnamed { pinned } => (pinned, Some(self.pools.open_families()).filter(|open| open.any)),
        };
        let names = || match pools {
            Pools::Named(pools) => pools.as_slice(),
            Pools::Unnamed { .. } => &[],
        };
        if listed.is_empty() && unlisted.is_none() {
            return None;
        }
        let both = matches!(families, Families::Both { required: true, .. });
        let of_family = |family: Family| {
            listed
                .iter()
                .filter(move |pool| self.pools.state(pool).is_some_and(|s| !s.space(family).is_empty()))
        };
        let has_unlisted = |family: Family| unlisted.is_some_and(|open| open.has(family));
        let wanted = families.wanted();
        let lacks = |family: &&Family| of_family(**family).next().is_none() && !has_unlisted(**family);
        let lacking = wanted.iter().filter(lacks).count();
        if lacking == wanted.len() || (both && lacking > 0) {
            return Some(AllocationRefusal::FamilyMismatch(names().to_vec(), families));
        }
        // A pool without free addresses is not full for a Service that has a reservation or may share an
        // address.
        let is_full = |pool: &Arc<str>, family: Family| {
            let state = self.pools.state(pool);
            state
                .is_some_and(|state| self.find_address(state, request, family) == Err(Obstacle::Full(family)))
        };
        let are_unlisted_full = |family: Family| {
            let mut candidates = self.candidates(Tier::Unpinned, request, &[family]);
            candidates.all(|pool| is_full(&pool, family))
        };
        let (mut full, mut open_full): (Vec<(Arc<str>, Family)>, Vec<Family>) = Default::default();
        for family in &wanted {
            let open_is_full = has_unlisted(*family) && are_unlisted_full(*family);
            // If both are required, the Service waits for the first family that every pool lacks, and then
            // for the other.
            let all_full = || {
                of_family(*family).all(|pool| is_full(pool, *family))
                    && (open_is_full || !has_unlisted(*family))
            };
            if both && (!full.is_empty() || !open_full.is_empty() || !all_full()) {
                continue;
            }
            full.extend(of_family(*family).filter(|p| is_full(p, *family)).map(|p| (p.clone(), *family)));
            open_full.extend(open_is_full.then_some(*family));
        }
        let suitable = |pool: &&Arc<str>| {
            let state = self.pools.state(pool);
            state.is_some_and(|s| wanted.iter().any(|family| !s.space(*family).is_empty()))
        };
        Some(AllocationRefusal::Exhausted {
            pools: names().iter().filter(suitable).cloned().collect(),
            families,
            full,
            open_full,
        })
    }

    /// Asserts that a refusal is that of a walk over all pools.
    #[cfg(test)]
    fn assert_diagnosis(
        &self,
        refusal: Option<&AllocationRefusal>,
        own: Option<&Arc<str>>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) {
        use std::collections::BTreeSet;

        if self.pools.len() > super::selection::MAX_WALKED {
            return;
        }
        let is_open = |name: &&Arc<str>| self.is_open(name, request, Some(*name) == own);
        let pools = Pools::Named(self.pools_in_order().filter(is_open).cloned().collect());
        // The pools that are open to all count as one.
        let summary = |refusal: &AllocationRefusal| match refusal {
            AllocationRefusal::Exhausted { full, open_full, .. } => {
                let name = |(pool, family): &(Arc<str>, Family)| {
                    (Some(pool.clone()).filter(|pool| !self.is_open_to_all(pool)), *family)
                };
                let open = open_full.iter().map(|family| (None, *family));
                Some(full.iter().map(name).chain(open).collect::<BTreeSet<_>>())
            }
            _ => None,
        };
        let walked = self.diagnose_pools(&pools, request, families);
        assert_eq!(refusal.map(summary), walked.as_ref().map(summary));
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
