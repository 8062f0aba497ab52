//! Giving addresses: those that are asked for, those of a pool that is asked for, or any.

use std::net::IpAddr;
use std::sync::Arc;

use super::{AllocationRefusal, AllocationRequest, Families, Family, Held, Holding, Ipam, admits};

/// What claims there are for a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceClaims {
    /// What they have reserved.
    pub reserved: Vec<IpAddr>,
    /// Of these families they are to have one first: the Service gets none other.
    pub awaited: Vec<Family>,
}

impl Ipam {
    /// Gives the Service exactly these addresses, in this order, and frees what it held besides. With `several_pools` they
    /// may be of different pools.
    ///
    /// # Errors
    /// When an address is in no pool, its pool is closed or not open to the Service, the addresses are of several pools,
    /// or one is in use and cannot be shared. Nothing has changed then.
    pub fn assign(
        &mut self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
    ) -> Result<&Holding, AllocationRefusal> {
        let held = self.assignable(request, addresses, several_pools)?;
        Ok(self.set_holding(request, Holding { held }))
    }

    /// Gives the Service these addresses, and where both families are required and one is missing, that too, from `pool` if
    /// that is named.
    ///
    /// # Errors
    /// When one of them cannot be had. Nothing has changed then.
    pub fn assign_and_extend(
        &mut self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        families: Families,
        pool: Option<&str>,
    ) -> Result<&Holding, AllocationRefusal> {
        let mut holding = Holding { held: self.assignable(request, addresses, true)? };
        if matches!(families, Families::Both { required: true, .. }) {
            holding = self.extended(request, holding, families, &[], pool)?;
        }
        Ok(self.set_holding(request, holding))
    }

    /// Whether these addresses may be given to the Service, which names their pools or not. With `several_pools` they may be
    /// of different pools.
    pub fn might_give(
        &self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
        named: bool,
    ) -> bool {
        let given = self.assignable(request, addresses, several_pools);
        let automatic = |held: &Held| self.pool(&held.pool).is_some_and(|pool| pool.auto_assign);
        given.is_ok_and(|given| named || given.iter().all(automatic))
    }

    /// These addresses, if the Service may have them.
    fn assignable(
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

    /// Gives a Service that holds nothing addresses of the pool it names, whether or not that is one for automatic
    /// assignment.
    ///
    /// # Errors
    /// When the pool does not exist, is refused or closed, is not open to the Service, lacks a family or is full.
    pub fn allocate_from(
        &mut self,
        request: &AllocationRequest<'_>,
        pool: &str,
        families: Families,
    ) -> Result<&Holding, AllocationRefusal> {
        let Some((name, state)) = self.pools.named_state(pool) else { return Err(self.why_no_pool(pool)) };
        let name = name.clone();
        self.check_open(state, request, true)?;
        let candidates = [name];
        match self.choose(&candidates, request, families, true) {
            Some(holding) => Ok(self.set_holding(request, holding)),
            None => Err(self.why_none(&candidates, request, families)),
        }
    }

    /// Gives a Service that holds nothing what is kept for it since it released it; else addresses of the first pool that is
    /// open to it and has them: pools with a `serviceAllocation` by priority, then the others. Where both families are
    /// required and no pool has both, each is taken from the first pool that has it.
    ///
    /// # Errors
    /// When no pool is open to the Service, or those that are lack a family or are full.
    pub fn allocate(
        &mut self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Result<&Holding, AllocationRefusal> {
        let (pinned, unpinned) = (self.pools.pinned(), self.pools.unpinned());
        let one = || {
            self.choose(pinned, request, families, false)
                .or_else(|| self.choose(unpinned, request, families, false))
        };
        let kept = self.choose_released(request, families);
        match kept.or_else(one).or_else(|| self.choose_of_two(request, families)) {
            Some(holding) => Ok(self.set_holding(request, holding)),
            None => Err(self.why_nothing(request, families)),
        }
    }

    /// Gives a Service that needs both families what it may keep of what it `had`, each address of the pool beside it as far
    /// as that is known, and what is missing, of `pool` if that is named: what a claim has reserved for it, or else one from
    /// the same pool; else, if there are no claims, both anew from one pool that has both; else, if both are required, what
    /// is missing from any. `None` where it may keep nothing, or lacks the other: then nothing has changed.
    pub fn give_beside_the_rest(
        &mut self,
        request: &AllocationRequest<'_>,
        had: &[(IpAddr, Option<Arc<str>>)],
        families: Families,
        claims: &ServiceClaims,
        pool: Option<&str>,
    ) -> Option<&Holding> {
        let Families::Both { first, required } = families else { return None };
        let of_pool =
            |holding: &Holding| pool.is_none_or(|pool| holding.held.iter().all(|held| *held.pool == *pool));
        let keepable = |(ip, of): &(IpAddr, Option<Arc<str>>)| {
            self.keepable(request, &[(*ip, of.as_deref())]).ok().filter(of_pool)
        };
        let mut rest: Vec<Holding> = had.iter().filter_map(keepable).collect();
        if rest.is_empty() {
            return None;
        }
        rest.sort_by_key(|rest| rest.ips().any(|ip| Family::of(ip) != first));
        let both = Families::Both { first, required: true };
        let one_pool = || match pool {
            _ if *claims != ServiceClaims::default() => None,
            Some(named) => self.choose(&[named.into()], request, both, true),
            None => {
                let any = |pools: &[Arc<str>]| self.choose(pools, request, both, false);
                any(self.pools.pinned()).or_else(|| any(self.pools.unpinned()))
            }
        };
        let beside = |required: bool| {
            let families = Families::Both { first, required };
            let awaits =
                |rest: &Holding| rest.ips().any(|ip| claims.awaited.contains(&Family::of(ip).other()));
            let mut rest = rest.iter().filter(|rest| !awaits(rest));
            rest.find_map(|rest| self.extended(request, rest.clone(), families, &claims.reserved, pool).ok())
        };
        // Nothing moves as long as the pool of the rest can give what is missing.
        let holding = beside(false)
            .or_else(one_pool)
            .or_else(|| if required { beside(true) } else { rest.first().cloned() })?;
        Some(self.set_holding(request, holding))
    }

    /// Gives a Service that holds one address the other family too: what is `claimed` for it, or else one from the same pool.
    /// Where both families are required, from another if that has none; from `pool`, if that is named.
    ///
    /// # Errors
    /// When there is none to be had. Nothing has changed then.
    pub fn extend(
        &mut self,
        request: &AllocationRequest<'_>,
        families: Families,
        claimed: &[IpAddr],
        pool: Option<&str>,
    ) -> Result<&Holding, AllocationRefusal> {
        let Some(holding) = self.holding(request.service).cloned() else {
            return Err(self.why_no_pool_matches(request));
        };
        let holding = self.extended(request, holding, families, claimed, pool)?;
        Ok(self.set_holding(request, holding))
    }

    /// What is held, and the other family besides if it is missing.
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
        let more = match claimed.iter().find(|ip| Family::of(**ip) == missing) {
            Some(ip) => self.assignable(request, &[*ip], true)?,
            None => self.one_beside(request, &first.pool, missing, families, pool)?.held,
        };
        let mut held = [holding.held, more].concat();
        held.sort_by_key(|held| Family::of(held.ip) != families.first());
        Ok(Holding { held })
    }

    /// An address of the family that is missing beside one of the pool `own`.
    fn one_beside(
        &self,
        request: &AllocationRequest<'_>,
        own: &Arc<str>,
        missing: Family,
        families: Families,
        pool: Option<&str>,
    ) -> Result<Holding, AllocationRefusal> {
        let one = Families::One(missing);
        let others = matches!(families, Families::Both { required: true, .. });
        let chosen = match pool {
            Some(named) => self.choose(&[named.into()], request, one, true),
            None => self.choose(std::slice::from_ref(own), request, one, true).or_else(|| {
                let any = |pools: &[Arc<str>]| self.choose(pools, request, one, false);
                others.then(|| any(self.pools.pinned()).or_else(|| any(self.pools.unpinned()))).flatten()
            }),
        };
        chosen.ok_or_else(|| match pool {
            Some(named) => self.why_none_of(&named.into(), request, one),
            None if others => self.why_no_more(own, request, one),
            None => self.why_none_of(own, request, one),
        })
    }
}
