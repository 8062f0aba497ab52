//! Reservations: addresses that only one Service may take, because its status still shows them, because a
//! claim has reserved them, or because they are in cool-down after it released them.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::v1beta1::MAX_RECENTLY_RELEASED;
use jiff::{SignedDuration, Timestamp};

use super::Ipam;
use super::refusal::AllocationRefusal;
use super::reservations::{Cooldown, CountedPool, Obstruction};
use super::sharing::SharingConflict;

/// An address, the pool that contains it, and the time and sequence of its release by the Service it is
/// reserved for.
type OwnReservation<'a> = (IpAddr, &'a Arc<str>, Option<(Timestamp, u64)>);

/// An address in cool-down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The address.
    pub address: IpAddr,
    /// The Service that released it.
    pub service: ObjectKey,
    /// Time of the release.
    pub at: Timestamp,
}

impl Ipam {
    /// Sets the clock to `now` and frees addresses whose cool-down has ended. If the clock was set back, no
    /// cool-down begins in the future.
    pub fn advance(&mut self, now: Timestamp) {
        let was = std::mem::replace(&mut self.now, now);
        if now < was {
            self.clamp_cooldowns();
        }
        while let Some(ip) = self.reservations.expired(now) {
            self.end_cooldown(ip);
        }
    }

    /// Returns when the next cool-down ends.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.reservations.next_expiry()
    }

    /// Returns the addresses of a pool in cool-down, the earliest release first.
    pub fn released(&self, pool: &str) -> impl Iterator<Item = Released> {
        self.usage.released(pool).filter_map(|(at, address)| {
            let service = self.reservations.cooldown(address)?.service.clone();
            Some(Released { address, service, at })
        })
    }

    /// Restores a cool-down of `pool` that was recorded before a restart. Has no effect if the address has a
    /// holder or the cool-down has ended. A release in the future, which a clock that ran ahead has recorded,
    /// counts as a release now.
    pub fn restore_cooldown(&mut self, pool: &str, released: &Released) {
        let Some(name) = self.pools.name(pool).cloned() else { return };
        if !self.ledger.is_held(released.address) {
            let at = released.at.min(self.latest_release());
            self.set_cooldown(released.address, &name, &released.service, at);
        }
    }

    /// Reserves an address for a Service whose status shows it, until [`Ipam::unreserve`]. Existing holders
    /// are not affected.
    pub fn reserve(&mut self, address: IpAddr, service: &ObjectKey) {
        self.reservations.add_displayed(address, service);
        self.pools.take(address);
    }

    /// Reverts [`Ipam::reserve`].
    pub fn unreserve(&mut self, address: IpAddr, service: &ObjectKey) {
        if self.reservations.remove_displayed(address, service) {
            self.drop_reason(address, service);
        }
    }

    /// Reserves an address for the Service of a claim.
    pub(super) fn set_claim(&mut self, address: IpAddr, claim: &ObjectKey, service: &ObjectKey) {
        self.reservations.set_claim(address, claim, service);
        self.pools.take(address);
        self.update_reserved_count(address);
    }

    /// Reverts [`Ipam::set_claim`].
    pub(super) fn clear_claim(&mut self, address: IpAddr) {
        if let Some(service) = self.reservations.remove_claim(address) {
            self.drop_reason(address, &service);
        }
    }

    /// Returns the claim that has reserved an address, and its Service.
    pub fn claim_of(&self, address: IpAddr) -> Option<&(ObjectKey, ObjectKey)> {
        self.reservations.claim(address)
    }

    /// Returns true if a claim has reserved the address for the Service.
    pub(super) fn is_claimed_for(&self, address: IpAddr, service: &ObjectKey) -> bool {
        self.claim_of(address).is_some_and(|(_, claimed_for)| claimed_for == service)
    }

    /// Returns an error if the address is reserved for another Service.
    pub(super) fn check_reservation(
        &self,
        address: IpAddr,
        service: &ObjectKey,
    ) -> Result<(), AllocationRefusal> {
        match self.reservations.obstruction(address, service) {
            Some(Obstruction::DisplayedBy(holder)) => {
                let conflict = match self.others.get(holder) {
                    Some(other) => SharingConflict::OtherClass(other.class.clone()),
                    None => SharingConflict::HolderDoesNotShare,
                };
                Err(AllocationRefusal::InUse { address, holder: Arc::new(holder.clone()), conflict })
            }
            Some(Obstruction::Reserved(by)) => Err(AllocationRefusal::Reserved { address, by }),
            None => Ok(()),
        }
    }

    /// Returns the address of the pool that is reserved for this Service and has no holder; the most recent
    /// release first.
    pub(super) fn own_reservation(&self, service: &ObjectKey, pool: &str, family: Family) -> Option<IpAddr> {
        self.own_reservations(service, pool, family).next()
    }

    /// Returns the pools with an address that only the Service may take.
    pub(super) fn pools_of_reservations(
        &self,
        service: &ObjectKey,
        family: Family,
    ) -> impl Iterator<Item = &Arc<str>> {
        self.own_reservations_of_any_pool(service, family).into_iter().map(|(_, pool, _)| pool)
    }

    /// Returns all addresses that [`Ipam::own_reservation`] chooses from.
    pub(super) fn own_reservations(
        &self,
        service: &ObjectKey,
        pool: &str,
        family: Family,
    ) -> impl Iterator<Item = IpAddr> {
        let own = self.own_reservations_of_any_pool(service, family).into_iter();
        own.filter(move |(_, of, _)| ***of == *pool).map(|(ip, ..)| ip)
    }

    /// Returns the most recently released address in cool-down for the Service, with its pool, among pools
    /// for which `is_open` returns true.
    pub(super) fn last_released(
        &self,
        service: &ObjectKey,
        family: Family,
        is_open: impl Fn(&str) -> bool,
    ) -> Option<(IpAddr, Arc<str>)> {
        let mut own = self.own_reservations_of_any_pool(service, family).into_iter();
        own.find(|(_, pool, released)| released.is_some() && is_open(pool))
            .map(|(ip, pool, _)| (ip, pool.clone()))
    }

    fn own_reservations_of_any_pool(&self, service: &ObjectKey, family: Family) -> Vec<OwnReservation<'_>> {
        let own = self.reservations.for_service(service).filter(|ip| {
            Family::of(*ip) == family
                && !self.ledger.is_held(*ip)
                && !self.nodes.contains(*ip)
                && self.check_reservation(*ip, service).is_ok()
        });
        let mut own: Vec<_> = own
            .filter_map(|ip| {
                let cooldown = self.reservations.cooldown(ip).filter(|cooldown| cooldown.service == *service);
                let released = cooldown.map(|cooldown| (cooldown.released, cooldown.sequence));
                Some((ip, self.pools.containing(ip)?, released))
            })
            .collect();
        own.sort_by_key(|(.., released)| Reverse(released.unwrap_or((Timestamp::MAX, 0))));
        own
    }

    /// Starts the cool-down of an address that its last holder released, if its pool has one.
    pub(super) fn start_cooldown(&mut self, ip: IpAddr, pool: &Arc<str>, service: &ObjectKey) {
        if self.pools.containing(ip) == Some(pool) {
            self.set_cooldown(ip, pool, service, self.latest_release());
        }
    }

    /// Returns the time of a release now. The status has whole seconds; rounding up never shortens the
    /// cool-down.
    fn latest_release(&self) -> Timestamp {
        let up = self.now.saturating_add(SignedDuration::from_nanos(999_999_999)).unwrap_or(self.now);
        Timestamp::from_second(up.as_second()).unwrap_or(self.now)
    }

    /// Restarts the cool-downs that begin in the future.
    fn clamp_cooldowns(&mut self) {
        for (ip, cooldown) in self.reservations.released_after(self.latest_release()) {
            self.end_cooldown(ip);
            let Cooldown { pool, service, released: at, .. } = cooldown;
            self.restore_cooldown(&pool, &Released { address: ip, service, at });
        }
    }

    fn set_cooldown(&mut self, ip: IpAddr, pool: &Arc<str>, service: &ObjectKey, released: Timestamp) {
        let Some(until) = self.cooldown_end(ip, pool, released) else { return };
        if until <= self.now {
            return;
        }
        self.end_cooldown(ip);
        self.reservations.start_cooldown(ip, pool, service, released, until);
        self.pools.take(ip);
        self.update_reserved_count(ip);
        if let Some(earliest) = self.usage.add_released(pool, released, ip, MAX_RECENTLY_RELEASED) {
            self.end_cooldown(earliest);
        }
    }

    /// Returns the end of the cool-down of a released address; None if the pool has none. The ranges of a
    /// refused pool, and sometimes its `reuseAfter`, are unknown: an invalid edit must not end a cool-down.
    fn cooldown_end(&self, ip: IpAddr, pool: &Arc<str>, released: Timestamp) -> Option<Timestamp> {
        let time = match (self.pools.state(pool), self.pools.refused(pool)) {
            (Some(state), _) if self.pools.containing(ip) == Some(pool) => state.pool().reuse_after,
            (None, Some((_, refused))) if refused.reuse_after.is_zero() => return Some(Timestamp::MAX),
            (None, Some((_, refused))) => refused.reuse_after,
            _ => return None,
        };
        let until = SignedDuration::try_from(time).ok().and_then(|time| released.checked_add(time).ok());
        (!time.is_zero()).then(|| until.unwrap_or(Timestamp::MAX))
    }

    /// Ends the cool-down of an address.
    pub fn end_cooldown(&mut self, ip: IpAddr) {
        let Some(cooldown) = self.reservations.end_cooldown(ip) else { return };
        self.usage.remove_released(&cooldown.pool, cooldown.released, ip);
        self.drop_reason(ip, &cooldown.service);
    }

    /// Applies the edited `reuseAfter` of a pool to its cool-downs.
    pub(super) fn review_cooldowns(&mut self, pool: &str) {
        let all: Vec<Released> = self.released(pool).collect();
        for released in all {
            self.end_cooldown(released.address);
            self.restore_cooldown(pool, &released);
        }
    }

    /// Updates the state after a reservation lost one of its reasons, and frees the address if it is unused.
    fn drop_reason(&mut self, ip: IpAddr, service: &ObjectKey) {
        self.update_reserved_count(ip);
        if !self.reservations.drop_unused(ip, service) {
            return;
        }
        self.free_if_unused(ip);
        if let Some(pool) = self.pools.containing(ip).cloned() {
            self.record_change(ip, &pool);
        }
    }

    /// Updates the count of reserved addresses, which are those without a holder.
    pub(super) fn update_reserved_count(&mut self, ip: IpAddr) {
        if !self.reservations.contains(ip) {
            return;
        }
        let pool = self.pools.containing(ip).filter(|_| !self.ledger.is_held(ip)).cloned();
        let Some(CountedPool { before, after }) = self.reservations.set_counted(ip, pool) else { return };
        if before == after {
            return;
        }
        if let Some(pool) = before {
            self.usage.remove_reserved(&pool, ip);
        }
        if let Some(pool) = after {
            self.usage.add_reserved(&pool, ip);
        }
    }
}
