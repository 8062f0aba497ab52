//! Allocation: gives a Service the addresses that it requests, addresses of a pool that it names, or any
//! addresses.

use std::net::IpAddr;
use std::sync::Arc;

use super::Ipam;
use super::holding::Holding;
use super::refusal::AllocationRefusal;
use super::request::{AllocationRequest, Families, ServiceClaims};
use fairlead_crds::model::family::Family;

impl Ipam {
    /// Gives the Service exactly these addresses, in this order, and releases its other addresses. With
    /// `several_pools` they may be of different pools.
    ///
    /// # Errors
    /// If no pool contains an address, its pool is closed or does not admit the Service, the addresses are of
    /// several pools, or one has a holder that does not share it. Nothing has changed then.
    pub fn assign(
        &mut self,
        request: &AllocationRequest<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
    ) -> Result<&Holding, AllocationRefusal> {
        let held = self.assignable(request, addresses, several_pools)?;
        Ok(self.set_holding(request, Holding { held }))
    }

    /// Gives the Service these addresses. If both families are required and one is missing, adds an address
    /// of it, from `pool` if the Service names one.
    ///
    /// # Errors
    /// If one of the addresses is not available. Nothing has changed then.
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

    /// Gives a Service that holds nothing addresses of the pool that it names, with or without automatic
    /// assignment.
    ///
    /// # Errors
    /// If the pool does not exist, is refused or closed, does not admit the Service, lacks a family or is
    /// full.
    pub fn allocate_from(
        &mut self,
        request: &AllocationRequest<'_>,
        pool: &str,
        families: Families,
    ) -> Result<&Holding, AllocationRefusal> {
        let Some((name, state)) = self.pools.named_state(pool) else {
            return Err(self.diagnose_pool_name(pool));
        };
        let name = name.clone();
        self.check_open(state, request, true)?;
        match self.choose_from(&name, request, families) {
            Some(holding) => Ok(self.set_holding(request, holding)),
            None => Err(self.diagnose_open_pool(&name, request, families)),
        }
    }

    /// Gives a Service that holds nothing the addresses that are in cool-down for it, or else addresses of
    /// the first pool that is open to it and has them: pools with a `serviceAllocation` by priority, then the
    /// others. If both families are required and no pool has both, each comes from the first pool that has
    /// it.
    ///
    /// # Errors
    /// If no pool is open to the Service, or the open ones lack a family or are full.
    pub fn allocate(
        &mut self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Result<&Holding, AllocationRefusal> {
        let chosen = self
            .choose_released(request, families)
            .or_else(|| self.choose_automatic(request, families))
            .or_else(|| self.choose_from_two_pools(request, families));
        match chosen {
            Some(holding) => Ok(self.set_holding(request, holding)),
            None => Err(self.diagnose_all_pools(request, families)),
        }
    }

    /// Gives a Service that needs both families one of its `previous` addresses, if it may keep that, and an
    /// address of the missing family. Each previous address comes with its owning pool, if that is known. The
    /// first of these that is possible:
    ///
    /// 1. A kept address, and for the missing family one that a claim has reserved or one of the same pool.
    /// 2. Without claims, two other addresses of one pool.
    /// 3. If both families are required, a kept address, and one of any pool for the missing family.
    /// 4. If they are not, a kept address alone.
    ///
    /// All addresses are of `pool` if the Service names one. Returns None if the Service may keep no address
    /// or cannot get the missing one. Nothing has changed then.
    pub fn allocate_missing_family(
        &mut self,
        request: &AllocationRequest<'_>,
        previous: &[(IpAddr, Option<Arc<str>>)],
        families: Families,
        claims: &ServiceClaims,
        pool: Option<&str>,
    ) -> Option<&Holding> {
        let Families::Both { first, required } = families else { return None };
        let is_of_pool =
            |holding: &Holding| pool.is_none_or(|pool| holding.held.iter().all(|held| *held.pool == *pool));
        let keepable = |(ip, of): &(IpAddr, Option<Arc<str>>)| {
            self.keepable(request, &[(*ip, of.as_deref())]).ok().filter(is_of_pool)
        };
        let mut kept: Vec<Holding> = previous.iter().filter_map(keepable).collect();
        if kept.is_empty() {
            return None;
        }
        kept.sort_by_key(|kept| kept.ips().any(|ip| Family::of(ip) != first));
        let both = Families::Both { first, required: true };
        let of_one_pool = || match pool {
            _ if *claims != ServiceClaims::default() => None,
            Some(named) => self.choose_from(&named.into(), request, both),
            None => self.choose_automatic(request, both),
        };
        let extended = |required: bool| {
            let families = Families::Both { first, required };
            let awaits =
                |kept: &Holding| kept.ips().any(|ip| claims.awaited.contains(&Family::of(ip).other()));
            let mut kept = kept.iter().filter(|kept| !awaits(kept));
            kept.find_map(|kept| self.extended(request, kept.clone(), families, &claims.reserved, pool).ok())
        };
        let holding = extended(false)
            .or_else(of_one_pool)
            .or_else(|| if required { extended(true) } else { kept.first().cloned() })?;
        Some(self.set_holding(request, holding))
    }

    /// Gives a Service that holds one address an address of the other family too: one that is `claimed` for
    /// it; or one of `pool` if the Service names it; or one of the same pool; or, if both families are
    /// required, one of any pool.
    ///
    /// # Errors
    /// If none is available. Nothing has changed then.
    pub fn extend(
        &mut self,
        request: &AllocationRequest<'_>,
        families: Families,
        claimed: &[IpAddr],
        pool: Option<&str>,
    ) -> Result<&Holding, AllocationRefusal> {
        let Some(holding) = self.holding(request.service).cloned() else {
            return Err(self.diagnose_restrictions(request));
        };
        let holding = self.extended(request, holding, families, claimed, pool)?;
        Ok(self.set_holding(request, holding))
    }
}
