//! Part of [`Ipam`](super::Ipam): addresses that only one Service may take. The reasons are a status that
//! still shows the address, a claim, and the cool-down after a release.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::refusal::ReservedFor;

/// Reservations by address and by Service; both sides always agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations {
    by_address: BTreeMap<IpAddr, Reservation>,
    by_service: BTreeMap<ObjectKey, BTreeSet<IpAddr>>,
    /// Ends of cool-downs.
    expiries: BTreeSet<(Timestamp, IpAddr)>,
    /// Number of cool-downs so far; orders releases within one second.
    releases: u64,
}

/// The Services that an address is reserved for, by reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservation {
    /// Services that no longer hold the address while their status still shows it, or an in-doubt write may
    /// put it there.
    displayed_by: BTreeSet<ObjectKey>,
    /// The claim that has reserved the address, and its Service.
    claim: Option<(ObjectKey, ObjectKey)>,
    /// The cool-down for the last holder.
    cooldown: Option<Cooldown>,
    /// The pool that counts the address as reserved.
    counted: Option<Arc<str>>,
}

/// A cool-down: the address is reserved for its last holder.
#[derive(Clone, Debug)]
pub(super) struct Cooldown {
    pub(super) service: ObjectKey,
    pub(super) pool: Arc<str>,
    pub(super) released: Timestamp,
    /// Grows with each release, because several may have the same second.
    pub(super) sequence: u64,
    pub(super) until: Timestamp,
}

/// The reason why a Service may not take an address.
pub(super) enum Obstruction<'a> {
    /// The status of this Service still shows the address.
    DisplayedBy(&'a ObjectKey),
    /// The address is reserved.
    Reserved(ReservedFor),
}

/// The effect of [`Reservations::set_counted`].
pub(super) struct CountedPool {
    pub(super) before: Option<Arc<str>>,
    pub(super) after: Option<Arc<str>>,
}

impl Reservations {
    pub(super) fn get(&self, ip: IpAddr) -> Option<&Reservation> {
        self.by_address.get(&ip)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.by_address.contains_key(&ip)
    }

    /// Returns the reserved addresses of a range.
    pub(super) fn reserved_in(&self, range: &IpRange) -> impl Iterator<Item = IpAddr> {
        self.by_address.range(range.first()..=range.last()).map(|(ip, _)| *ip)
    }

    /// Returns the addresses that are reserved for a Service for any reason.
    pub(super) fn for_service(&self, service: &ObjectKey) -> impl Iterator<Item = IpAddr> {
        self.by_service.get(service).into_iter().flatten().copied()
    }

    /// Returns why `service` may not take the address, apart from its holders.
    pub(super) fn obstruction(&self, ip: IpAddr, service: &ObjectKey) -> Option<Obstruction<'_>> {
        self.by_address.get(&ip)?.obstruction(service)
    }

    /// Returns the claim that has reserved the address, and its Service.
    pub(super) fn claim(&self, ip: IpAddr) -> Option<&(ObjectKey, ObjectKey)> {
        self.by_address.get(&ip)?.claim.as_ref()
    }

    pub(super) fn cooldown(&self, ip: IpAddr) -> Option<&Cooldown> {
        self.by_address.get(&ip)?.cooldown.as_ref()
    }

    /// Returns the cool-downs of addresses that were released after `time`, the earliest release first.
    pub(super) fn released_after(&self, time: Timestamp) -> Vec<(IpAddr, Cooldown)> {
        let cooldowns = self.by_address.iter().filter_map(|(ip, of)| Some((*ip, of.cooldown.as_ref()?)));
        let mut later: Vec<(IpAddr, Cooldown)> = cooldowns
            .filter(|(_, cooldown)| cooldown.released > time)
            .map(|(ip, cooldown)| (ip, cooldown.clone()))
            .collect();
        later.sort_by_key(|(_, cooldown)| cooldown.sequence);
        later
    }

    /// Returns when the next cool-down ends; None if no cool-down ends by time.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(until, _)| *until).filter(|until| *until < Timestamp::MAX)
    }

    /// Returns an address whose cool-down has ended at `now`.
    pub(super) fn expired(&self, now: Timestamp) -> Option<IpAddr> {
        self.expiries.first().filter(|(until, _)| *until <= now).map(|(_, ip)| *ip)
    }

    pub(super) fn add_displayed(&mut self, ip: IpAddr, service: &ObjectKey) {
        self.by_address.entry(ip).or_default().displayed_by.insert(service.clone());
        self.by_service.entry(service.clone()).or_default().insert(ip);
    }

    /// Returns true if the Service displayed the address. Then the caller calls
    /// [`Reservations::drop_unused`].
    pub(super) fn remove_displayed(&mut self, ip: IpAddr, service: &ObjectKey) -> bool {
        self.by_address.get_mut(&ip).is_some_and(|reservation| reservation.displayed_by.remove(service))
    }

    pub(super) fn set_claim(&mut self, ip: IpAddr, claim: &ObjectKey, service: &ObjectKey) {
        self.by_address.entry(ip).or_default().claim = Some((claim.clone(), service.clone()));
        self.by_service.entry(service.clone()).or_default().insert(ip);
    }

    /// Returns the Service of the removed claim. Then the caller calls [`Reservations::drop_unused`].
    pub(super) fn remove_claim(&mut self, ip: IpAddr) -> Option<ObjectKey> {
        self.by_address.get_mut(&ip)?.claim.take().map(|(_, service)| service)
    }

    /// Starts the cool-down of an address that has none.
    pub(super) fn start_cooldown(
        &mut self,
        ip: IpAddr,
        pool: &Arc<str>,
        service: &ObjectKey,
        released: Timestamp,
        until: Timestamp,
    ) {
        self.releases += 1;
        let (service, pool) = (service.clone(), pool.clone());
        self.by_service.entry(service.clone()).or_default().insert(ip);
        let cooldown = Cooldown { service, pool, released, sequence: self.releases, until };
        self.by_address.entry(ip).or_default().cooldown = Some(cooldown);
        self.expiries.insert((until, ip));
    }

    /// Returns the removed cool-down. Then the caller calls [`Reservations::drop_unused`].
    pub(super) fn end_cooldown(&mut self, ip: IpAddr) -> Option<Cooldown> {
        let cooldown = self.by_address.get_mut(&ip)?.cooldown.take()?;
        self.expiries.remove(&(cooldown.until, ip));
        Some(cooldown)
    }

    /// Removes a reservation that has no reason left, and its entry for `service`. Returns false if there is
    /// none.
    pub(super) fn drop_unused(&mut self, ip: IpAddr, service: &ObjectKey) -> bool {
        let Some(reservation) = self.by_address.get(&ip) else { return false };
        if !reservation.is_for(service)
            && let Some(own) = self.by_service.get_mut(service)
        {
            own.remove(&ip);
            if own.is_empty() {
                self.by_service.remove(service);
            }
        }
        if reservation.is_empty() {
            self.by_address.remove(&ip);
        }
        true
    }

    /// Sets the pool that counts the address as reserved; None if there is no reservation. `pool` is the pool
    /// that contains the address, and None if the address has a holder.
    pub(super) fn set_counted(&mut self, ip: IpAddr, pool: Option<Arc<str>>) -> Option<CountedPool> {
        let reservation = self.by_address.get_mut(&ip)?;
        let after = pool.filter(|_| reservation.is_lasting());
        let before = std::mem::replace(&mut reservation.counted, after.clone());
        Some(CountedPool { before, after })
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, &Reservation)> {
        self.by_address.iter().map(|(ip, reservation)| (*ip, reservation))
    }

    #[cfg(test)]
    pub(super) fn all_by_service(&self) -> impl Iterator<Item = (&ObjectKey, &BTreeSet<IpAddr>)> {
        self.by_service.iter()
    }

    #[cfg(test)]
    pub(super) fn all_expiries(&self) -> impl Iterator<Item = IpAddr> {
        self.expiries.iter().map(|(_, ip)| *ip)
    }
}

impl Reservation {
    fn obstruction(&self, service: &ObjectKey) -> Option<Obstruction<'_>> {
        if let Some(other) = self.displayed_by.iter().find(|displaying| *displaying != service) {
            return Some(Obstruction::DisplayedBy(other));
        }
        if let Some((claim, for_service)) = self.claim.as_ref().filter(|(_, s)| s != service) {
            let by = ReservedFor::Claim { claim: claim.clone(), service: for_service.clone() };
            return Some(Obstruction::Reserved(by));
        }
        // A claim takes precedence over a cool-down.
        if self.claim.is_some() {
            return None;
        }
        let cooldown = self.cooldown.as_ref().filter(|cooldown| cooldown.service != *service)?;
        let by = ReservedFor::LastHolder { service: cooldown.service.clone(), until: cooldown.until };
        Some(Obstruction::Reserved(by))
    }

    /// Returns true if the reservation does not depend on a displayed status.
    pub(super) fn is_lasting(&self) -> bool {
        self.claim.is_some() || self.cooldown.is_some()
    }

    /// Returns the one Service that may take the address if it has no holder.
    pub(super) fn only_for(&self) -> Option<&ObjectKey> {
        let claimed = self.claim.iter().map(|(_, service)| service);
        let cooling = self.cooldown.iter().map(|cooldown| &cooldown.service);
        let mut all = self.displayed_by.iter().chain(claimed).chain(cooling);
        all.find(|service| self.obstruction(service).is_none())
    }

    pub(super) fn is_for(&self, service: &ObjectKey) -> bool {
        self.displayed_by.contains(service)
            || self.claim.as_ref().is_some_and(|(_, claimed_for)| claimed_for == service)
            || self.cooldown.as_ref().is_some_and(|cooldown| cooldown.service == *service)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.displayed_by.is_empty() && self.claim.is_none() && self.cooldown.is_none()
    }
}
