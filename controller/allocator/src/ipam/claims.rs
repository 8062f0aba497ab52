//! Claims: addresses that are reserved for a Service, independent of its existence.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::claim::{Claim, ClaimRequest};
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

/// An address and its owning pool.
type PooledAddress = (IpAddr, Arc<str>);

impl Ipam {
    /// Returns what a claim has reserved; None if nothing.
    pub fn claimed(&self, claim: &ObjectKey) -> Option<&Claimed> {
        self.claims.get(claim)
    }

    /// Returns the addresses that claims have reserved for a Service and that a pool in force contains, those
    /// of the oldest claim first.
    pub fn claimed_for(&self, service: &ObjectKey) -> impl Iterator<Item = IpAddr> {
        let claimed = self.claims.for_service(service).flat_map(|claimed| &claimed.addresses).copied();
        claimed.filter(|ip| self.pools.containing(*ip).is_some())
    }

    /// Reserves the addresses that a claim requests. It prefers addresses that the claim has reserved already
    /// or that its status shows, then addresses that its Service holds.
    ///
    /// # Errors
    /// If no pool contains an address, the pool is closed or does not admit the namespace, or another Service
    /// holds an address or has it reserved. Then the claim keeps only those of its addresses that it still
    /// requests.
    pub fn claim(
        &mut self,
        claim: &Claim,
        wanted: &ClaimRequest,
        namespace_labels: Option<&Labels>,
    ) -> Result<(), AllocationRefusal> {
        if self.is_claim_satisfied(claim, wanted) {
            return Ok(());
        }
        let kept = self.keepable_by_claim(claim, Some(wanted));
        let (addresses, result) = match self.choose_all_for_claim(claim, wanted, &kept, namespace_labels) {
            Ok(all) => (all, Ok(())),
            Err(why) => (kept, Err(why)),
        };
        self.set_claimed(claim, &addresses);
        result
    }

    /// Reserves the addresses that a claim has reserved already or that its status shows, as far as it still
    /// requests them. A claim with an invalid request keeps them all.
    pub fn adopt_claim(&mut self, claim: &Claim) {
        let kept = self.keepable_by_claim(claim, claim.request.as_ref().ok());
        self.set_claimed(claim, &kept);
    }

    /// Returns why the pool of a claim would not reserve its addresses now; None if it would.
    pub fn retained_by_claim(&self, claimed: &Claimed) -> Option<Retained> {
        if self.is_refused(&claimed.pool) {
            return Some(Retained::PoolRefused);
        }
        let moved = claimed.addresses.iter().any(|ip| self.pools.containing(*ip) != Some(&claimed.pool));
        moved.then_some(Retained::NoLongerInPool)
    }

    /// Removes all reservations of a claim.
    pub fn unclaim(&mut self, claim: &ObjectKey) {
        let Some(claimed) = self.claims.remove(claim) else { return };
        for ip in claimed.addresses {
            self.clear_claim(ip);
        }
        self.usage.remove_claim(&claimed.pool, claim);
    }

    /// Sets the addresses that a claim has reserved, all of one pool. The caller has checked that it may
    /// reserve them.
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

    /// Returns the addresses that a claim has reserved or that its status shows, if it requests them and may
    /// keep them, all of one pool. A refused pool, and one with `reclaim: Retain`, still owns them, as in
    /// [`Ipam::keep`].
    fn keepable_by_claim(&self, claim: &Claim, wanted: Option<&ClaimRequest>) -> Vec<PooledAddress> {
        let known = self.known_addresses(claim);
        // A claim does not retain an address that it never had.
        let has = |ip| self.claims.get(&claim.key).is_some_and(|claimed| claimed.addresses.contains(&ip));
        let is_of =
            |ip, pool: &Arc<str>| claim.is_partly_reserved() || self.pools.containing(ip) == Some(pool);
        let of_wanted = |wants: &dyn Fn(IpAddr, &str) -> bool| {
            known.iter().filter(|(ip, _)| self.is_available_to_claim(claim, *ip)).find_map(|(ip, of)| {
                let pool =
                    self.owning_pool(*ip, of.as_deref()).filter(|pool| has(*ip) || is_of(*ip, pool))?;
                wants(*ip, &pool).then_some((*ip, pool))
            })
        };
        let mut kept: Vec<PooledAddress> = match wanted {
            Some(ClaimRequest::Addresses(wanted)) => {
                wanted.iter().filter_map(|wanted| of_wanted(&|ip, _| ip == *wanted)).collect()
            }
            Some(ClaimRequest::FromPool { pool: wanted, families }) => {
                let one = |family| of_wanted(&|ip, pool| Family::of(ip) == family && pool == wanted);
                families.iter().filter_map(|family| one(*family)).collect()
            }
            None if claim.is_partly_reserved() || self.claims.get(&claim.key).is_some() => {
                let one = |family| of_wanted(&|ip, _| Family::of(ip) == family);
                let first = known.first().map_or(Family::V4, |(ip, _)| Family::of(*ip));
                [first, first.other()].into_iter().filter_map(one).collect()
            }
            None => Vec::new(),
        };
        if let Some((_, pool)) = kept.first().cloned() {
            kept.retain(|(_, of)| *of == pool);
        }
        kept
    }

    /// Returns the addresses that a claim has reserved, then those that its status shows, each with its pool.
    /// If the claim requests a pool, only that pool's reserved addresses are included.
    fn known_addresses(&self, claim: &Claim) -> Vec<(IpAddr, Option<Arc<str>>)> {
        let claimed = self.claims.get(&claim.key).filter(|claimed| claimed.service == claim.service);
        let claimed = claimed.filter(|claimed| match &claim.request {
            Ok(ClaimRequest::FromPool { pool, .. }) => *claimed.pool == **pool,
            _ => true,
        });
        let has = claimed.into_iter().flat_map(|c| c.addresses.iter().map(|ip| (*ip, Some(c.pool.clone()))));
        let of = claim.status.pool.as_deref().map(Arc::from);
        let shown = claim.status_addresses().into_iter().map(|ip| (ip, of.clone()));
        has.chain(shown).collect()
    }

    /// Returns true if no other Service or claim holds or has reserved an address.
    fn is_available_to_claim(&self, claim: &Claim, ip: IpAddr) -> bool {
        let others = self.holders(ip).iter().any(|holder| **holder != claim.service);
        !others
            && match self.claim_of(ip) {
                Some((by, _)) => *by == claim.key,
                None => self.check_reservation(ip, &claim.service).is_ok(),
            }
    }

    /// Returns every address that a claim requests: the `kept` ones, and the rest from the pools.
    fn choose_all_for_claim(
        &self,
        claim: &Claim,
        wanted: &ClaimRequest,
        kept: &[PooledAddress],
        labels: Option<&Labels>,
    ) -> Result<Vec<PooledAddress>, AllocationRefusal> {
        let mut all: Vec<PooledAddress> = Vec::new();
        match wanted {
            ClaimRequest::Addresses(wanted) => {
                for &ip in wanted {
                    let of = match kept.iter().find(|(kept, _)| *kept == ip) {
                        Some((_, pool)) => pool.clone(),
                        None => {
                            let pool =
                                self.pools.containing(ip).ok_or(AllocationRefusal::NotInPool(ip))?.clone();
                            self.check_claiming(claim, &pool, ip, labels)?;
                            pool
                        }
                    };
                    if all.first().is_some_and(|(_, pool)| *pool != of) {
                        return Err(AllocationRefusal::SeveralPools(wanted.clone()));
                    }
                    all.push((ip, of));
                }
            }
            ClaimRequest::FromPool { pool, families } => {
                let mut refusals = Vec::new();
                for family in families {
                    match kept.iter().find(|(ip, _)| Family::of(*ip) == *family) {
                        Some(kept) => all.push(kept.clone()),
                        None => match self.choose_for_claim(claim, pool, *family, labels) {
                            Ok(chosen) => all.push(chosen),
                            Err(why) => refusals.push(why),
                        },
                    }
                }
                if let Some(mut why) = refusals.into_iter().min_by_key(transience) {
                    // The message does not name the full family, because that changes with every allocation.
                    if let (AllocationRefusal::Exhausted { families: all, .. }, [first, _], []) =
                        (&mut why, &families[..], kept)
                    {
                        *all = Families::Both { first: *first, required: true };
                    }
                    return Err(why);
                }
            }
        }
        if all.is_empty() { Err(AllocationRefusal::NoPool) } else { Ok(all) }
    }

    /// Returns true if a claim has reserved every address that it requests, and the pool still contains them.
    fn is_claim_satisfied(&self, claim: &Claim, wanted: &ClaimRequest) -> bool {
        let Some(Claimed { service, pool, addresses, created }) = self.claims.get(&claim.key) else {
            return false;
        };
        let as_wanted = match wanted {
            ClaimRequest::Addresses(wanted) => wanted == addresses,
            ClaimRequest::FromPool { pool: wanted, families } => {
                **pool == *wanted && addresses.iter().map(|ip| Family::of(*ip)).eq(families.iter().copied())
            }
        };
        as_wanted
            && (service, *created) == (&claim.service, claim.created)
            && addresses.iter().all(|ip| self.pools.containing(*ip) == Some(pool))
    }

    /// Returns an address for a claim that has none of this family that it may keep.
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
        if let Some((ip, _)) = self.known_addresses(claim).into_iter().find(|(ip, _)| of_family(ip)) {
            // The choice is final, because the address may be recorded outside the cluster. The claim waits
            // for it, and gives it up only if another Service holds it or another claim has reserved it.
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
        // A pool cannot reserve an address that the Service retains of it.
        if let Some(ip) = held
            && self.pools.containing(ip) == Some(pool)
            && self.check_claiming(claim, pool, ip, labels).is_ok()
        {
            return Ok((ip, pool.clone()));
        }
        self.check_open_to_claim(claim, state, labels)?;
        // Another claim of the same Service keeps its address.
        let own = self.own_reservations(&claim.service, pool, family).find(|ip| self.claim_of(*ip).is_none());
        let free = || state.space(family).first_free().map(|slot| state.space(family).address(slot));
        own.or_else(free).map(|ip| (ip, pool.clone())).ok_or_else(|| AllocationRefusal::Exhausted {
            pools: vec![pool.clone()],
            families: Families::One(family),
            full: vec![(pool.clone(), family)],
            open_full: Vec::new(),
        })
    }

    /// Checks that a claim may newly reserve an address. It may reserve an address that its Service holds
    /// even if the pool is closed or does not admit the namespace.
    fn check_claiming(
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
            self.check_open_to_claim(claim, state, labels)?;
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
        self.check_node_address(ip, &claim.service)?;
        self.check_reservation(ip, &claim.service)
    }

    /// Checks that the pool admits the namespace of the claim and is not closed.
    fn check_open_to_claim(
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

/// Returns a rank: configuration errors outrank transient ones, which depend on other holders.
fn transience(why: &AllocationRefusal) -> u8 {
    match why {
        AllocationRefusal::Exhausted { .. } => 2,
        AllocationRefusal::InUse { .. } | AllocationRefusal::Reserved { .. } => 1,
        _ => 0,
    }
}
