//! Addresses that only one Service may take: because its status still shows them, because a claim has reserved them,
//! or because it released them only now.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::v1beta1::MAX_RECENTLY_RELEASED;
use jiff::{SignedDuration, Timestamp};

use super::sharing::Conflict;
use super::usage::PoolUsage;
use super::{AllocationRefusal, Family, Ipam, ReservedFor};

/// For whom an address is kept, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservation {
    /// Services that no longer hold it while their status still shows it, or a write on the way may put it there.
    departing: BTreeSet<ObjectKey>,
    /// The claim that has reserved it, and its Service.
    claim: Option<(ObjectKey, ObjectKey)>,
    /// The Service that released it last.
    released: Option<Kept>,
    /// The pool that counts it as reserved.
    counted: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Kept {
    service: ObjectKey,
    pool: Arc<str>,
    released: Timestamp,
    /// Grows with each release: many may be of the same second.
    nth: u64,
    until: Timestamp,
}

/// An address, the pool that has it, and when the Service released it that it is kept for, if it did.
type Own<'a> = (IpAddr, &'a Arc<str>, Option<(Timestamp, u64)>);

/// An address that is kept for the Service that released it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The address.
    pub address: IpAddr,
    /// The Service.
    pub service: ObjectKey,
    /// When it released it.
    pub at: Timestamp,
}

impl Ipam {
    /// It is `now`. What was kept for a Service only until now is free.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        while let Some((until, ip)) = self.expiries.first().copied()
            && until <= now
        {
            self.expiries.remove(&(until, ip));
            self.forget_last_holder(ip);
        }
    }

    /// When the next address stops being kept for the Service that released it.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(until, _)| *until).filter(|until| *until < Timestamp::MAX)
    }

    /// Whether, since the last call, an address was released that is kept for its last holder.
    pub fn take_newly_released(&mut self) -> bool {
        std::mem::take(&mut self.newly_released)
    }

    /// The addresses of a pool that are kept for those who released them, the earliest first.
    pub fn released(&self, pool: &str) -> impl Iterator<Item = Released> {
        let all = self.usages.get(pool).into_iter().flat_map(|usage| &usage.released);
        all.filter_map(|(at, ip)| {
            let kept = self.reservations.get(ip)?.released.as_ref()?;
            Some(Released { address: *ip, service: kept.service.clone(), at: *at })
        })
    }

    /// Goes on keeping an address of `pool` for the Service that released it, as noted before a restart. Of no effect where
    /// somebody holds the address, or the time is over.
    pub fn recall(&mut self, pool: &str, released: &Released) {
        let refused = || self.refused.get_key_value(pool).map(|(name, _)| name);
        let name = self.pools.get_key_value(pool).map(|(name, _)| name).or_else(refused);
        let Some(name) = name.cloned() else { return };
        if !self.addresses.contains_key(&released.address) {
            self.remember(released.address, &name, &released.service, released.at);
        }
    }

    /// Lets nobody but this Service take an address, beside those who hold it already, until [`Ipam::unreserve`].
    pub fn reserve(&mut self, address: IpAddr, service: &ObjectKey) {
        self.reservations.entry(address).or_default().departing.insert(service.clone());
        self.reserved.entry(service.clone()).or_default().insert(address);
        self.take(address);
    }

    /// Takes a reservation back. The address is free when nobody holds it and it is kept for nobody else.
    pub fn unreserve(&mut self, address: IpAddr, service: &ObjectKey) {
        let Some(reservation) = self.reservations.get_mut(&address) else { return };
        if reservation.departing.remove(service) {
            self.settle_reservation(address, service);
        }
    }

    /// A claim reserves an address for its Service.
    pub(super) fn set_claim(&mut self, address: IpAddr, claim: &ObjectKey, service: &ObjectKey) {
        let reservation = self.reservations.entry(address).or_default();
        reservation.claim = Some((claim.clone(), service.clone()));
        self.reserved.entry(service.clone()).or_default().insert(address);
        self.take(address);
        self.recount(address);
    }

    /// The claim of an address is gone.
    pub(super) fn clear_claim(&mut self, address: IpAddr) {
        let Some(reservation) = self.reservations.get_mut(&address) else { return };
        if let Some((_, service)) = reservation.claim.take() {
            self.settle_reservation(address, &service);
        }
    }

    /// The claim that has reserved an address, and its Service.
    pub fn claim_of(&self, address: IpAddr) -> Option<&(ObjectKey, ObjectKey)> {
        self.reservations.get(&address)?.claim.as_ref()
    }

    /// Whether a claim has reserved the address for the Service.
    pub(super) fn is_claimed_for(&self, address: IpAddr, service: &ObjectKey) -> bool {
        self.claim_of(address).is_some_and(|(_, claimed_for)| claimed_for == service)
    }

    /// An error if the address is kept for another Service.
    pub(super) fn kept_for_others(
        &self,
        address: IpAddr,
        service: &ObjectKey,
    ) -> Result<(), AllocationRefusal> {
        let Some(reservation) = self.reservations.get(&address) else { return Ok(()) };
        match reservation.kept_for_others(service) {
            Some(Why::Departing(other)) => Err(AllocationRefusal::InUse {
                address,
                holder: Arc::new(other.clone()),
                conflict: Conflict::HolderSharesNot,
            }),
            Some(Why::For(by)) => Err(AllocationRefusal::Reserved { address, by }),
            None => Ok(()),
        }
    }

    /// An address of the pool that is free but for what is kept for this Service: what it had last comes first.
    pub(super) fn own_reserved(&self, service: &ObjectKey, pool: &str, family: Family) -> Option<IpAddr> {
        self.all_own_reserved(service, pool, family).next()
    }

    /// All of them.
    pub(super) fn all_own_reserved(
        &self,
        service: &ObjectKey,
        pool: &str,
        family: Family,
    ) -> impl Iterator<Item = IpAddr> {
        let own = self.own_of_any_pool(service, family).into_iter();
        own.filter(move |(_, of, _)| ***of == *pool).map(|(ip, ..)| ip)
    }

    /// An address that is kept for the Service since it released it, and the pool that has it: what it had last, of pools
    /// that are `open` to it.
    pub(super) fn last_had(
        &self,
        service: &ObjectKey,
        family: Family,
        open: impl Fn(&str) -> bool,
    ) -> Option<(IpAddr, Arc<str>)> {
        let mut own = self.own_of_any_pool(service, family).into_iter();
        own.find(|(_, pool, released)| released.is_some() && open(pool))
            .map(|(ip, pool, _)| (ip, pool.clone()))
    }

    /// What is free but for what is kept for this Service: what it had last comes first.
    fn own_of_any_pool(&self, service: &ObjectKey, family: Family) -> Vec<Own<'_>> {
        let own = self.reserved.get(service).into_iter().flatten().filter(|ip| {
            Family::of(**ip) == family
                && !self.addresses.contains_key(ip)
                && self.kept_for_others(**ip, service).is_ok()
        });
        let mut own: Vec<_> = own
            .filter_map(|ip| {
                let kept = self.reservations.get(ip)?.released.as_ref();
                let released =
                    kept.filter(|kept| kept.service == *service).map(|kept| (kept.released, kept.nth));
                Some((*ip, self.pool_of(*ip)?, released))
            })
            .collect();
        own.sort_by_key(|(.., released)| Reverse(released.unwrap_or((Timestamp::MAX, 0))));
        own
    }

    /// The last holder of an address let go: it is kept for that Service as long as the pool says.
    pub(super) fn keep_for_last_holder(&mut self, ip: IpAddr, pool: &Arc<str>, service: &ObjectKey) {
        if self.pool_of(ip) == Some(pool) {
            // Written down in whole seconds: rounded up, it is never kept too short.
            let up = self.now + SignedDuration::from_nanos(999_999_999);
            let at = Timestamp::from_second(up.as_second()).unwrap_or(self.now);
            self.remember(ip, pool, service, at);
        }
    }

    fn remember(&mut self, ip: IpAddr, pool: &Arc<str>, service: &ObjectKey, released: Timestamp) {
        let Some(until) = self.kept_until(ip, pool, released) else { return };
        if until <= self.now {
            return;
        }
        self.forget_last_holder(ip);
        self.releases += 1;
        let nth = self.releases;
        let kept = Kept { service: service.clone(), pool: pool.clone(), released, nth, until };
        self.reservations.entry(ip).or_default().released = Some(kept);
        self.reserved.entry(service.clone()).or_default().insert(ip);
        self.expiries.insert((until, ip));
        self.newly_released = true;
        self.take(ip);
        self.recount(ip);
        let mut too_many = None;
        self.usage(pool, |usage| {
            usage.released.insert((released, ip));
            if usage.released.len() > MAX_RECENTLY_RELEASED {
                too_many = usage.released.first().copied();
            }
        });
        if let Some((_, earliest)) = too_many {
            self.forget_last_holder(earliest);
        }
    }

    /// Until when a pool keeps an address that was released; `None` if not at all. What a refused pool has is not known, nor
    /// always how long it keeps that: a mistake in it takes nothing away.
    fn kept_until(&self, ip: IpAddr, pool: &Arc<str>, released: Timestamp) -> Option<Timestamp> {
        let time = match (self.pools.get(pool), self.refused.get(pool)) {
            (Some(state), _) if self.pool_of(ip) == Some(pool) => state.pool.reuse_after,
            (None, Some(refused)) if refused.reuse_after.is_zero() => return Some(Timestamp::MAX),
            (None, Some(refused)) => refused.reuse_after,
            _ => return None,
        };
        let until = SignedDuration::try_from(time).ok().and_then(|time| released.checked_add(time).ok());
        (!time.is_zero()).then(|| until.unwrap_or(Timestamp::MAX))
    }

    /// An address is no longer kept for the Service that released it.
    pub fn forget_last_holder(&mut self, ip: IpAddr) {
        let Some(reservation) = self.reservations.get_mut(&ip) else { return };
        let Some(kept) = reservation.released.take() else { return };
        self.expiries.remove(&(kept.until, ip));
        self.usage(&kept.pool, |usage| {
            usage.released.remove(&(kept.released, ip));
        });
        self.settle_reservation(ip, &kept.service);
    }

    /// Somebody holds the address: who may, has been checked.
    pub(super) fn held_again(&mut self, ip: IpAddr) {
        self.forget_last_holder(ip);
        self.recount(ip);
    }

    /// A pool was edited: what is kept of it follows what it says now.
    pub(super) fn review_released(&mut self, pool: &str) {
        let all: Vec<Released> = self.released(pool).collect();
        for released in all {
            self.forget_last_holder(released.address);
            self.recall(pool, &released);
        }
    }

    /// Forgets a reservation that is for nobody any more, and frees the address if nobody holds it.
    fn settle_reservation(&mut self, ip: IpAddr, service: &ObjectKey) {
        self.recount(ip);
        let Some(reservation) = self.reservations.get(&ip) else { return };
        if !reservation.is_for(service)
            && let Some(own) = self.reserved.get_mut(service)
        {
            own.remove(&ip);
            if own.is_empty() {
                self.reserved.remove(service);
            }
        }
        if reservation.is_empty() {
            self.reservations.remove(&ip);
        }
        self.free_if_unused(ip);
        if let Some(pool) = self.pool_of(ip).cloned() {
            self.note(ip, &pool);
        }
    }

    /// Brings the count of reserved addresses up to date: those that nobody holds.
    pub(super) fn recount(&mut self, ip: IpAddr) {
        let pool = self.pool_of(ip).cloned();
        let held = self.addresses.contains_key(&ip);
        let Some(reservation) = self.reservations.get_mut(&ip) else { return };
        let counts = pool.filter(|_| reservation.is_kept() && !held);
        let counted = std::mem::replace(&mut reservation.counted, counts.clone());
        if counted == counts {
            return;
        }
        let at = PoolUsage::at(Family::of(ip));
        if let Some(pool) = counted {
            self.usage(&pool, |usage| usage.reserved[at] -= 1);
        }
        if let Some(pool) = counts {
            self.usage(&pool, |usage| usage.reserved[at] += 1);
        }
    }
}

/// Why an address is kept from a Service.
pub(super) enum Why<'a> {
    Departing(&'a ObjectKey),
    For(ReservedFor),
}

impl Reservation {
    /// For which other Service than this the address is kept.
    pub(super) fn kept_for_others(&self, service: &ObjectKey) -> Option<Why<'_>> {
        if let Some(other) = self.departing.iter().find(|departing| *departing != service) {
            return Some(Why::Departing(other));
        }
        if let Some((claim, for_service)) = self.claim.as_ref().filter(|(_, s)| s != service) {
            let by = ReservedFor::Claim { claim: claim.clone(), service: for_service.clone() };
            return Some(Why::For(by));
        }
        // The Service of a claim may have it, whoever had it last.
        if self.claim.is_some() {
            return None;
        }
        let kept = self.released.as_ref().filter(|kept| kept.service != *service)?;
        Some(Why::For(ReservedFor::LastHolder { service: kept.service.clone(), until: kept.until }))
    }

    /// Whether it is kept although no status shows it.
    pub(super) fn is_kept(&self) -> bool {
        self.claim.is_some() || self.released.is_some()
    }

    /// The one Service that may take the address, where nobody holds it.
    pub(super) fn only_for(&self) -> Option<&ObjectKey> {
        let claimed = self.claim.iter().map(|(_, service)| service);
        let released = self.released.iter().map(|kept| &kept.service);
        let all = self.departing.iter().chain(claimed).chain(released);
        all.into_iter().find(|service| self.kept_for_others(service).is_none())
    }

    pub(super) fn is_for(&self, service: &ObjectKey) -> bool {
        self.departing.contains(service)
            || self.claim.as_ref().is_some_and(|(_, claimed_for)| claimed_for == service)
            || self.released.as_ref().is_some_and(|kept| kept.service == *service)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.departing.is_empty() && self.claim.is_none() && self.released.is_none()
    }
}
