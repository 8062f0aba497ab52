//! Claims: addresses that are reserved for a Service, whether or not it exists.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::claim::{Claim, Wanted};
use fairlead_crds::model::config::Labels;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;

use super::Ipam;
use super::admission::admits_namespace;
use super::claim_records::Claimed;
use super::holding::Retained;
use super::pool_state::PoolState;
use super::refusal::{AllocationRefusal, ReservedFor};
use super::request::Families;
use super::sharing::SharingConflict;

/// An address and the pool that it is reserved of.
type PooledAddress = (IpAddr, Arc<str>);

impl Ipam {
    /// What a claim has reserved.
    pub fn claimed(&self, claim: &ObjectKey) -> Option<&Claimed> {
        self.claims.get(claim)
    }

    /// Addresses that are reserved for a Service by claims and that a pool can give now, those of the oldest claim first.
    pub fn claimed_for(&self, service: &ObjectKey) -> impl Iterator<Item = IpAddr> {
        let claimed = self.claims.for_service(service).flat_map(|claimed| &claimed.addresses).copied();
        claimed.filter(|ip| self.pools.containing(*ip).is_some())
    }

    /// Reserves what a claim asks for; what it has already, or its status shows, comes first, and then what its Service
    /// holds.
    ///
    /// # Errors
    /// When an address is in no pool, the pool is closed or not open to the namespace, or an address is held by or kept
    /// for another Service. The claim has reserved then what it had of what it asks for, and nothing else.
    pub fn claim(
        &mut self,
        claim: &Claim,
        wanted: &Wanted,
        namespace_labels: Option<&Labels>,
    ) -> Result<(), AllocationRefusal> {
        if self.has_what_it_wants(claim, wanted) {
            return Ok(());
        }
        let had = self.still_had(claim, Some(wanted));
        let (addresses, result) = match self.all_for_claim(claim, wanted, &had, namespace_labels) {
            Ok(all) => (all, Ok(())),
            Err(why) => (had, Err(why)),
        };
        self.set_claimed(claim, &addresses);
        result
    }

    /// Reserves for a claim what it has already or its status says that it has, as far as it still asks for that, or for
    /// nothing that can be understood.
    pub fn adopt_claim(&mut self, claim: &Claim) {
        let had = self.still_had(claim, claim.wanted.as_ref().ok());
        self.set_claimed(claim, &had);
    }

    /// Why the pool of a claim would not give it now what it has reserved.
    pub fn retained_by_claim(&self, claimed: &Claimed) -> Option<Retained> {
        if self.is_refused(&claimed.pool) {
            return Some(Retained::PoolRefused);
        }
        let gone = claimed.addresses.iter().any(|ip| self.pools.containing(*ip) != Some(&claimed.pool));
        gone.then_some(Retained::NoLongerInPool)
    }

    /// A claim is gone, or has nothing reserved any more.
    pub fn unclaim(&mut self, claim: &ObjectKey) {
        let Some(claimed) = self.claims.remove(claim) else { return };
        for ip in claimed.addresses {
            self.clear_claim(ip);
        }
        self.usage.remove_claim(&claimed.pool, claim);
    }

    /// Makes a claim have reserved exactly these addresses, all of one pool. The caller has checked that it may.
    fn set_claimed(&mut self, claim: &Claim, addresses: &[PooledAddress]) {
        let old = self.claims.get(&claim.key);
        if old.is_some_and(|old| (&old.service, old.created) != (&claim.service, claim.created)) {
            self.unclaim(&claim.key);
        }
        let Some((_, pool)) = addresses.first() else { return self.unclaim(&claim.key) };
        let new = Claimed {
            service: claim.service.clone(),
            pool: pool.clone(),
            addresses: addresses.iter().map(|(ip, _)| *ip).collect(),
            created: claim.created,
        };
        let old = self.claims.insert(&claim.key, new.clone());
        if old.as_ref() == Some(&new) {
            return;
        }
        let before = old.as_ref().map_or(&[][..], |old| &old.addresses);
        for ip in new.addresses.iter().filter(|ip| !before.contains(ip)) {
            self.set_claim(*ip, &claim.key, &claim.service);
            self.record_change(*ip, pool);
        }
        for ip in before.iter().filter(|ip| !new.addresses.contains(ip)) {
            self.clear_claim(*ip);
        }
        if let Some(old) = old.filter(|old| old.pool != *pool) {
            self.usage.remove_claim(&old.pool, &claim.key);
        }
        self.usage.add_claim(pool, &claim.key);
    }

    /// What a claim has reserved, or its status shows, of what it asks for, and may go on having, all of one pool. As with
    /// what Services hold, a pool that is refused, or that retains, has it still; see [`Ipam::keep`].
    fn still_had(&self, claim: &Claim, wanted: Option<&Wanted>) -> Vec<PooledAddress> {
        let noted = self.noted(claim);
        // What it did not have any more is not of a pool that does not have it, whatever that retains.
        let has = |ip| self.claims.get(&claim.key).is_some_and(|claimed| claimed.addresses.contains(&ip));
        let is_of = |ip, pool: &Arc<str>| claim.had_some() || self.pools.containing(ip) == Some(pool);
        let of_wanted = |wants: &dyn Fn(IpAddr, &str) -> bool| {
            noted.iter().filter(|(ip, _)| self.is_left_to(claim, *ip)).find_map(|(ip, of)| {
                let pool =
                    self.owning_pool(*ip, of.as_deref()).filter(|pool| has(*ip) || is_of(*ip, pool))?;
                wants(*ip, &pool).then_some((*ip, pool))
            })
        };
        let mut had: Vec<PooledAddress> = match wanted {
            Some(Wanted::Addresses(wanted)) => {
                wanted.iter().filter_map(|wanted| of_wanted(&|ip, _| ip == *wanted)).collect()
            }
            Some(Wanted::OfPool { pool: wanted, families }) => {
                let one = |family| of_wanted(&|ip, pool| Family::of(ip) == family && pool == wanted);
                families.iter().filter_map(|family| one(*family)).collect()
            }
            None if claim.had_some() || self.claims.get(&claim.key).is_some() => {
                let one = |family| of_wanted(&|ip, _| Family::of(ip) == family);
                let first = noted.first().map_or(Family::V4, |(ip, _)| Family::of(*ip));
                [first, first.other()].into_iter().filter_map(one).collect()
            }
            None => Vec::new(),
        };
        if let Some((_, pool)) = had.first().cloned() {
            had.retain(|(_, of)| *of == pool);
        }
        had
    }

    /// What a claim has reserved, and then what its status shows, each with the pool that it was reserved of. Where it asks
    /// for a pool, only what is of that.
    fn noted(&self, claim: &Claim) -> Vec<(IpAddr, Option<Arc<str>>)> {
        let claimed = self.claims.get(&claim.key).filter(|claimed| claimed.service == claim.service);
        let claimed = claimed.filter(|claimed| match &claim.wanted {
            Ok(Wanted::OfPool { pool, .. }) => *claimed.pool == **pool,
            _ => true,
        });
        let has = claimed.into_iter().flat_map(|c| c.addresses.iter().map(|ip| (*ip, Some(c.pool.clone()))));
        let of = claim.status.pool.as_deref().map(Arc::from);
        let shown = claim.shown().into_iter().map(|ip| (ip, of.clone()));
        has.chain(shown).collect()
    }

    /// Whether nobody else holds an address, has claimed it or has it kept.
    fn is_left_to(&self, claim: &Claim, ip: IpAddr) -> bool {
        let others = self.holders(ip).iter().any(|holder| **holder != claim.service);
        !others
            && match self.claim_of(ip) {
                Some((by, _)) => *by == claim.key,
                None => self.check_reservation(ip, &claim.service).is_ok(),
            }
    }

    /// All that a claim asks for: what it had, and the rest from the pools.
    fn all_for_claim(
        &self,
        claim: &Claim,
        wanted: &Wanted,
        had: &[PooledAddress],
        labels: Option<&Labels>,
    ) -> Result<Vec<PooledAddress>, AllocationRefusal> {
        let mut all: Vec<PooledAddress> = Vec::new();
        match wanted {
            Wanted::Addresses(wanted) => {
                for &ip in wanted {
                    let of = match had.iter().find(|(had, _)| *had == ip) {
                        Some((_, pool)) => pool.clone(),
                        None => {
                            let pool =
                                self.pools.containing(ip).ok_or(AllocationRefusal::NotInPool(ip))?.clone();
                            self.claimable(claim, &pool, ip, labels)?;
                            pool
                        }
                    };
                    if all.first().is_some_and(|(_, pool)| *pool != of) {
                        return Err(AllocationRefusal::SeveralPools(wanted.clone()));
                    }
                    all.push((ip, of));
                }
            }
            Wanted::OfPool { pool, families } => {
                let mut refusals = Vec::new();
                for family in families {
                    match had.iter().find(|(ip, _)| Family::of(*ip) == *family) {
                        Some(had) => all.push(had.clone()),
                        None => match self.choose_for_claim(claim, pool, *family, labels) {
                            Ok(chosen) => all.push(chosen),
                            Err(why) => refusals.push(why),
                        },
                    }
                }
                if let Some(mut why) = refusals.into_iter().min_by_key(transience) {
                    // Which family is full now changes with what others take: the message does not.
                    if let (AllocationRefusal::Exhausted { families: all, .. }, [first, _], []) =
                        (&mut why, &families[..], had)
                    {
                        *all = Families::Both { first: *first, required: true };
                    }
                    return Err(why);
                }
            }
        }
        if all.is_empty() { Err(AllocationRefusal::NoPool) } else { Ok(all) }
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
            && addresses.iter().all(|ip| self.pools.containing(*ip) == Some(pool))
    }

    /// An address for a claim that had none of this family, or can have that no longer.
    fn choose_for_claim(
        &self,
        claim: &Claim,
        pool: &str,
        family: Family,
        labels: Option<&Labels>,
    ) -> Result<PooledAddress, AllocationRefusal> {
        let Some((pool, state)) = self.pools.named_state(pool) else {
            return Err(self.diagnose_pool_name(pool));
        };
        if state.space(family).is_empty() {
            return Err(AllocationRefusal::FamilyMismatch(vec![pool.clone()], Families::One(family)));
        }
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        if let Some((ip, _)) = self.noted(claim).into_iter().find(|(ip, _)| of_family(ip)) {
            // Chosen once and for all: where it cannot be had at the moment, no other is chosen, for the first may be
            // written down elsewhere. Only what another Service holds, or another claim has, is given up.
            let held = self.holders(ip).iter().any(|holder| **holder != claim.service);
            let claimed = self.claim_of(ip).is_some_and(|(other, _)| *other != claim.key);
            if !held && !claimed {
                self.check_reservation(ip, &claim.service)?;
                return Err(AllocationRefusal::NotInPool(ip));
            }
        }
        let held = self.holding(&claim.service).and_then(|holding| {
            holding.held.iter().find(|held| of_family(&held.ip) && held.pool == *pool).map(|held| held.ip)
        });
        // What it retains is not the pool's to reserve.
        if let Some(ip) = held
            && self.pools.containing(ip) == Some(pool)
            && self.claimable(claim, pool, ip, labels).is_ok()
        {
            return Ok((ip, pool.clone()));
        }
        self.claims_open(claim, state, labels)?;
        // What another claim has for the same Service is not for this one.
        let own = self.own_reservations(&claim.service, pool, family).find(|ip| self.claim_of(*ip).is_none());
        let free = || state.space(family).first_free().map(|slot| state.space(family).address(slot));
        own.or_else(free).map(|ip| (ip, pool.clone())).ok_or_else(|| AllocationRefusal::Exhausted {
            pools: vec![pool.clone()],
            families: Families::One(family),
            full: vec![(pool.clone(), family)],
        })
    }

    /// Whether a claim may reserve an address that it did not have. What its Service holds, it may from any pool.
    fn claimable(
        &self,
        claim: &Claim,
        pool: &Arc<str>,
        ip: IpAddr,
        labels: Option<&Labels>,
    ) -> Result<(), AllocationRefusal> {
        let holders = self.holders(ip);
        let holds = holders.iter().any(|holder| **holder == claim.service);
        if let Some(state) = self.pools.state(pool)
            && !holds
        {
            self.claims_open(claim, state, labels)?;
        }
        if let Some(other) = holders.iter().find(|holder| ***holder != claim.service) {
            let conflict = SharingConflict::HolderDoesNotShare;
            return Err(AllocationRefusal::InUse { address: ip, holder: other.clone(), conflict });
        }
        if let Some((other, service)) = self.claim_of(ip)
            && *other != claim.key
        {
            let by = ReservedFor::Claim { claim: other.clone(), service: service.clone() };
            return Err(AllocationRefusal::Reserved { address: ip, by });
        }
        self.check_reservation(ip, &claim.service)
    }

    fn claims_open(
        &self,
        claim: &Claim,
        state: &PoolState,
        labels: Option<&Labels>,
    ) -> Result<(), AllocationRefusal> {
        let name: Arc<str> = state.pool().name.as_str().into();
        admits_namespace(state.pool(), &claim.key.namespace, labels)
            .map_err(|why| AllocationRefusal::NotAdmitted(name.clone(), why.explain(state.pool())))?;
        match state.pool().closed {
            Some(why) => Err(AllocationRefusal::PoolClosed(name, why)),
            None => Ok(()),
        }
    }
}

/// What follows from the configuration counts before what comes and goes with what others hold.
fn transience(why: &AllocationRefusal) -> u8 {
    match why {
        AllocationRefusal::Exhausted { .. } => 2,
        AllocationRefusal::InUse { .. } | AllocationRefusal::Reserved { .. } => 1,
        _ => 0,
    }
}
