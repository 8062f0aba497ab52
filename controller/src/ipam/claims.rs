//! Claims: addresses that are reserved for a Service, whether or not it exists.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::claim::{Claim, Wanted};
use fairlead_crds::config::Labels;
use fairlead_crds::service::ObjectKey;

use super::select::admits_namespace;
use super::sharing::Conflict;
use super::{Families, Family, Ipam, PoolState, Refusal, ReservedFor};

/// What a claim has reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its Service.
    pub service: ObjectKey,
    /// The pool of the addresses.
    pub pool: Arc<str>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    created: i64,
}

impl Ipam {
    /// What a claim has reserved.
    pub fn claimed(&self, claim: &ObjectKey) -> Option<&Claimed> {
        self.claims.get(claim)
    }

    /// Addresses that are reserved for a Service by claims, those of the oldest claim first.
    pub fn claimed_for(&self, service: &ObjectKey) -> impl Iterator<Item = IpAddr> {
        let claims = self.claims_of.get(service).into_iter().flatten();
        let claimed = claims.filter_map(|(_, claim)| self.claims.get(claim));
        claimed.flat_map(|claimed| claimed.addresses.iter().copied())
    }

    /// Reserves what a claim asks for; what it has already, as its status shows, comes first, and then what its Service
    /// holds.
    ///
    /// # Errors
    /// When an address is in no pool, the pool is closed or not open to the namespace, or an address is held by or kept
    /// for another Service. The claim has nothing reserved then.
    pub fn claim(
        &mut self,
        claim: &Claim,
        wanted: &Wanted,
        namespace_labels: Option<&Labels>,
    ) -> Result<(), Refusal> {
        if self.has_what_it_wants(claim, wanted) {
            return Ok(());
        }
        let had = self.claims.get(&claim.key).map(|claimed| claimed.addresses.clone());
        self.unclaim(&claim.key);
        let shown = had.unwrap_or_else(|| claim.shown());
        let mut addresses = Vec::new();
        let mut of: Option<Arc<str>> = None;
        match wanted {
            Wanted::Addresses(wanted) => {
                for &ip in wanted {
                    let pool = self.pool_of(ip).ok_or(Refusal::NotInPool(ip))?.clone();
                    self.claimable(claim, &pool, ip, shown.contains(&ip), namespace_labels)?;
                    if of.get_or_insert_with(|| pool.clone()) != &pool {
                        return Err(Refusal::SeveralPools(wanted.clone()));
                    }
                    addresses.push(ip);
                }
            }
            Wanted::OfPool { pool, families } => {
                let Some(name) = self.pools.get_key_value(pool.as_str()).map(|(name, _)| name.clone()) else {
                    return Err(self.why_no_pool(pool));
                };
                let mut refusals = Vec::new();
                for family in families {
                    match self.choose_for_claim(claim, &name, *family, &shown, namespace_labels) {
                        Ok(ip) => addresses.push(ip),
                        Err(why) => refusals.push(why),
                    }
                }
                // Which family is full now changes with what others take: the message does not.
                if let Some(mut why) = refusals.into_iter().min_by_key(passing) {
                    if let (Refusal::Exhausted { families: all, .. }, [first, _]) = (&mut why, &families[..])
                    {
                        *all = Families::Both { first: *first, required: true };
                    }
                    return Err(why);
                }
                of = Some(name);
            }
        }
        let Some(pool) = of else { return Err(Refusal::NoPool) };
        for &ip in &addresses {
            self.set_claim(ip, &claim.key, &claim.service);
            self.note(ip, &pool);
        }
        self.tally(&pool, |tally| {
            tally.claims.insert(claim.key.clone());
        });
        let of_service = self.claims_of.entry(claim.service.clone()).or_default();
        of_service.insert((claim.created, claim.key.clone()));
        let claimed = Claimed { service: claim.service.clone(), pool, addresses, created: claim.created };
        self.claims.insert(claim.key.clone(), claimed);
        Ok(())
    }

    /// A claim is gone, or has nothing reserved any more.
    pub fn unclaim(&mut self, claim: &ObjectKey) {
        let Some(claimed) = self.claims.remove(claim) else { return };
        if let Some(of_service) = self.claims_of.get_mut(&claimed.service) {
            of_service.remove(&(claimed.created, claim.clone()));
            if of_service.is_empty() {
                self.claims_of.remove(&claimed.service);
            }
        }
        for ip in claimed.addresses {
            self.clear_claim(ip);
        }
        self.tally(&claimed.pool, |tally| {
            tally.claims.remove(claim);
        });
    }

    /// Whether a claim has reserved what it asks for, and the pool still has it.
    fn has_what_it_wants(&self, claim: &Claim, wanted: &Wanted) -> bool {
        let Some(Claimed { service, pool, addresses, created }) = self.claims.get(&claim.key) else {
            return false;
        };
        let as_wanted = match wanted {
            Wanted::Addresses(wanted) => wanted == addresses,
            Wanted::OfPool { pool: wanted, families } => {
                **pool == *wanted && addresses.iter().map(|ip| Family::of(*ip)).eq(families.iter().copied())
            }
        };
        as_wanted
            && (service, *created) == (&claim.service, claim.created)
            && addresses.iter().all(|ip| self.pool_of(*ip) == Some(pool))
    }

    fn choose_for_claim(
        &self,
        claim: &Claim,
        pool: &Arc<str>,
        family: Family,
        shown: &[IpAddr],
        labels: Option<&Labels>,
    ) -> Result<IpAddr, Refusal> {
        let Some(state) = self.pools.get(pool) else { return Err(self.why_no_pool(pool)) };
        if state.space(family).is_empty() {
            return Err(Refusal::FamilyMismatch(vec![pool.clone()], Families::One(family)));
        }
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        if let Some(&ip) = shown.iter().find(|ip| of_family(ip)) {
            // Chosen once and for all: where it cannot be had at the moment, no other is chosen, for the first may be
            // written down elsewhere. Only what another Service holds, or another claim has, is given up.
            let held = self.holders(ip).iter().any(|holder| **holder != claim.service);
            let claimed = self.claim_of(ip).is_some_and(|(other, _)| *other != claim.key);
            if !held && !claimed {
                if self.pool_of(ip) != Some(pool) {
                    return Err(Refusal::NotInPool(ip));
                }
                self.claimable(claim, pool, ip, true, labels)?;
                return Ok(ip);
            }
        }
        let held = self.holding(&claim.service).and_then(|holding| {
            holding.held.iter().find(|held| of_family(&held.ip) && held.pool == *pool).map(|held| held.ip)
        });
        // What it retains is not the pool's to reserve.
        if let Some(ip) = held
            && self.pool_of(ip) == Some(pool)
            && self.claimable(claim, pool, ip, true, labels).is_ok()
        {
            return Ok(ip);
        }
        self.claims_open(claim, state, labels)?;
        // What another claim has for the same Service is not for this one.
        let own = self.all_own_reserved(&claim.service, pool, family).find(|ip| self.claim_of(*ip).is_none());
        let free = || state.space(family).first_free().map(|slot| state.space(family).address(slot));
        own.or_else(free).ok_or_else(|| Refusal::Exhausted {
            pools: vec![pool.clone()],
            families: Families::One(family),
            full: vec![(pool.clone(), family)],
        })
    }

    /// Whether a claim may reserve an address; `had` if it had it reserved before, or its Service holds it.
    fn claimable(
        &self,
        claim: &Claim,
        pool: &Arc<str>,
        ip: IpAddr,
        had: bool,
        labels: Option<&Labels>,
    ) -> Result<(), Refusal> {
        let holders = self.holders(ip);
        let holds = holders.iter().any(|holder| **holder == claim.service);
        if let Some(state) = self.pools.get(pool)
            && !had
            && !holds
        {
            self.claims_open(claim, state, labels)?;
        }
        if let Some(other) = holders.iter().find(|holder| ***holder != claim.service) {
            let conflict = Conflict::HolderSharesNot;
            return Err(Refusal::InUse { address: ip, holder: other.clone(), conflict });
        }
        if let Some((other, service)) = self.claim_of(ip)
            && *other != claim.key
        {
            let by = ReservedFor::Claim { claim: other.clone(), service: service.clone() };
            return Err(Refusal::Reserved { address: ip, by });
        }
        self.kept_for_others(ip, &claim.service)
    }

    fn claims_open(&self, claim: &Claim, state: &PoolState, labels: Option<&Labels>) -> Result<(), Refusal> {
        let name: Arc<str> = state.pool.name.as_str().into();
        admits_namespace(&state.pool, &claim.key.namespace, labels)
            .map_err(|why| Refusal::NotAdmitted(name.clone(), why.explain(&state.pool)))?;
        match state.pool.closed {
            Some(why) => Err(Refusal::PoolClosed(name, why)),
            None => Ok(()),
        }
    }
}

/// What follows from the configuration counts before what comes and goes with what others hold.
fn passing(why: &Refusal) -> u8 {
    match why {
        Refusal::Exhausted { .. } => 2,
        Refusal::InUse { .. } | Refusal::Reserved { .. } => 1,
        _ => 0,
    }
}
