//! The choice of addresses for a Service, without giving them to it.

use std::net::IpAddr;
use std::sync::Arc;

use super::Ipam;
use super::admission::admits;
use super::eligibility::restrictions;
use super::holding::{Held, Holding};
use super::pool_set::{Candidates, Tier};
use super::refusal::AllocationRefusal;
use super::request::{AllocationRequest, Families};
use fairlead_crds::model::family::Family;

/// The number of pools up to which tests compare a choice with a walk over all pools.
#[cfg(test)]
pub(super) const MAX_WALKED: usize = 50;

#[cfg(test)]
thread_local! {
    /// Number of pools that were tried for Services in this thread.
    pub(super) static VISITED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Ipam {
    /// Returns the addresses that a pool would give to a Service that holds nothing; empty if there are none.
    pub fn offer(&self, pool: &str, request: &AllocationRequest<'_>, families: Families) -> Vec<IpAddr> {
        let holding = self.choose_from(&pool.into(), request, families);
        holding.into_iter().flat_map(|holding| holding.held.into_iter().map(|held| held.ip)).collect()
    }

    /// Returns the pool with a `serviceAllocation` that would give an address to a Service that names none
    /// and holds nothing.
    pub fn first_pinned(&self, request: &AllocationRequest<'_>, families: Families) -> Option<Arc<str>> {
        self.choose_of_tier(Tier::Pinned, request, families)?.pools().into_iter().next()
    }

    /// Returns true if the Service may get these addresses. `named` is true if the Service names them or
    /// their pool. Otherwise only pools with automatic assignment count. With `several_pools` they may be of
    /// different pools.
    pub fn can_assign(
        &self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
        named: bool,
    ) -> bool {
        let assignable = self.assignable(request, addresses, several_pools);
        let automatic = |held: &Held| self.pool(&held.pool).is_some_and(|pool| pool.auto_assign);
        assignable.is_ok_and(|assignable| named || assignable.iter().all(automatic))
    }

    /// Returns these addresses with their pools, or why the Service may not get one of them.
    pub(super) fn assignable(
        &self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
    ) -> Result<Vec<Held>, AllocationRefusal> {
        let mut held: Vec<Held> = Vec::with_capacity(addresses.len());
        for &ip in addresses {
            let pool = self.pools.containing(ip).ok_or(AllocationRefusal::NotInPool(ip))?.clone();
            held.push(Held { ip, pool, retained: None });
        }
        if !several_pools && held.windows(2).any(|pair| pair[0].pool != pair[1].pool) {
            return Err(AllocationRefusal::SeveralPools(addresses.to_vec()));
        }
        for Held { ip, pool, .. } in &held {
            let Some(state) = self.pools.state(pool) else { continue };
            admits(state.pool(), request)
                .map_err(|why| AllocationRefusal::NotAdmitted(pool.clone(), why.explain(state.pool())))?;
            let has = self.holders(*ip).iter().any(|holder| **holder == *request.service);
            if let Some(why) = state.pool().closed
                && !has
                && !self.is_claimed_for(*ip, request.service)
            {
                return Err(AllocationRefusal::PoolClosed(pool.clone(), why));
            }
            self.check_joining(request, pool, *ip)?;
        }
        Ok(held)
    }

    /// Returns addresses for `families` of a pool that the Service names, or of which it holds an address.
    pub(super) fn choose_from(
        &self,
        pool: &Arc<str>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        self.choose(|_| std::iter::once(pool.clone()), request, families, true)
    }

    /// Returns addresses for `families` of the first pool of a tier that has them.
    fn choose_of_tier(
        &self,
        tier: Tier,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let chosen = self.choose(|wanted| self.candidates(tier, request, wanted), request, families, false);
        #[cfg(test)]
        if self.pools.len() <= MAX_WALKED {
            let visited = VISITED.get();
            let walked = self.choose(|_| self.pools.of_tier(tier), request, families, false);
            VISITED.set(visited);
            assert_eq!(chosen, walked, "the choice is that of a walk over all pools");
        }
        chosen
    }

    /// Returns the pools of a tier that may have an address of each of these families for a Service.
    pub(super) fn candidates(
        &self,
        tier: Tier,
        request: &AllocationRequest<'_>,
        families: &[Family],
    ) -> Candidates<'_> {
        let own = families.iter().flat_map(|family| self.pools_of_reservations(request.service, *family));
        self.pools.candidates(tier, request, families, own)
    }

    /// Returns addresses for `families` of the first of the pools that has them; both families of one pool.
    /// `pools` returns the pools to try for addresses of these families.
    fn choose<P: Iterator<Item = Arc<str>>>(
        &self,
        pools: impl Fn(&[Family]) -> P,
        request: &AllocationRequest<'_>,
        families: Families,
        named: bool,
    ) -> Option<Holding> {
        let first_with = |wanted: &[Family]| {
            pools(wanted).find_map(|pool| {
                #[cfg(test)]
                VISITED.set(VISITED.get() + 1);
                let state = self.pools.state(&pool)?;
                if restrictions(state, request, named).next().is_some() {
                    return None;
                }
                let mut held = Vec::with_capacity(wanted.len());
                for family in wanted {
                    let ip = self.find_address(state, request, *family).ok()?;
                    held.push(Held { ip, pool: pool.clone(), retained: None });
                }
                Some(Holding { held })
            })
        };
        match families {
            Families::One(family) => first_with(&[family]),
            Families::Both { first, required: true } => first_with(&[first, first.other()]),
            Families::Both { first, required: false } => first_with(&[first, first.other()])
                .or_else(|| first_with(&[first]))
                .or_else(|| first_with(&[first.other()])),
        }
    }

    /// Returns addresses for `families` of the first pool that has them, of pools with automatic assignment.
    pub(super) fn choose_automatic(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let mut tiers = [Tier::Pinned, Tier::Unpinned].into_iter();
        tiers.find_map(|tier| self.choose_of_tier(tier, request, families))
    }

    /// Returns the addresses that are in cool-down for the Service, the most recent release of each family.
    /// If there is one of only one family, [`Ipam::extended`] adds the other.
    pub(super) fn choose_released(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let released = |family| {
            let is_open = |pool: &str| self.is_open(pool, request, false);
            let (ip, pool) = self.last_released(request.service, family, is_open)?;
            Some(Held { ip, pool, retained: None })
        };
        let released: Vec<Held> = families.wanted().into_iter().filter_map(released).collect();
        let required = matches!(families, Families::Both { required: true, .. });
        if let [first, other] = released.as_slice()
            && (required || first.pool == other.pool)
        {
            return Some(Holding { held: released });
        }
        let mut single = released.into_iter().map(|held| Holding { held: vec![held] });
        let extended = |single: Holding| self.extended(request, single, families, &[], None).ok();
        single.clone().find_map(extended).or_else(|| single.next().filter(|_| !required))
    }

    /// Returns an address of each family from the first pool that has it, if both families are required.
    pub(super) fn choose_from_two_pools(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let Families::Both { first, required: true } = families else { return None };
        let mut held = Vec::with_capacity(2);
        for family in [first, first.other()] {
            held.extend(self.choose_automatic(request, Families::One(family))?.held);
        }
        Some(Holding { held })
    }

    /// Returns `holding` with an address of the missing family, if any. See [`Ipam::extend`].
    pub(super) fn extended(
        &self,
        request: &AllocationRequest<'_>,
        holding: Holding,
        families: Families,
        claimed: &[IpAddr],
        pool: Option<&str>,
    ) -> Result<Holding, AllocationRefusal> {
        let has = |family: &Family| holding.ips().any(|ip| Family::of(ip) == *family);
        let (Some(missing), Some(first)) =
            (families.wanted().into_iter().find(|f| !has(f)), holding.held.first())
        else {
            return Ok(holding);
        };
        let added = match claimed.iter().find(|ip| Family::of(**ip) == missing) {
            Some(ip) => self.assignable(request, &[*ip], true)?,
            None => self.choose_missing(request, &first.pool, missing, families, pool)?.held,
        };
        let mut held = [holding.held, added].concat();
        held.sort_by_key(|held| Family::of(held.ip) != families.first());
        Ok(Holding { held })
    }

    /// Returns an address of the missing family for a Service that holds an address of the pool `own`.
    fn choose_missing(
        &self,
        request: &AllocationRequest<'_>,
        own: &Arc<str>,
        missing: Family,
        families: Families,
        pool: Option<&str>,
    ) -> Result<Holding, AllocationRefusal> {
        let one = Families::One(missing);
        let required = matches!(families, Families::Both { required: true, .. });
        let chosen = match pool {
            Some(named) => self.choose_from(&named.into(), request, one),
            None => self
                .choose_from(own, request, one)
                .or_else(|| required.then(|| self.choose_automatic(request, one)).flatten()),
        };
        chosen.ok_or_else(|| match pool {
            Some(named) => self.diagnose_pool(&named.into(), request, one),
            None if required => self.diagnose_missing(own, request, one),
            None => self.diagnose_pool(own, request, one),
        })
    }
}
