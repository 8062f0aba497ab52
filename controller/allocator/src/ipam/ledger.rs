//! Part of [`Ipam`](super::Ipam): which Service holds which address of which pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use super::holding::{Holding, Retained};
use super::sharing::{Ports, Sharing, SharingGroup};

/// Addresses by holder and holders by address; both sides always agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    addresses: BTreeMap<IpAddr, Occupied>,
    services: BTreeMap<Arc<ObjectKey>, Entry>,
}

/// The holders of an address, and the pool it is held of.
#[derive(Clone, Debug)]
pub(super) struct Occupied {
    pool: Arc<str>,
    /// True if the holders have a sharing key, so that they are looked up only then.
    shared: bool,
    /// Ascending and never empty.
    holders: Vec<Arc<ObjectKey>>,
}

/// The addresses of a Service, and the terms on which it shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) holding: Holding,
    pub(super) sharing: Sharing,
}

/// The effect of a change of an address's pool on one of its holders.
pub(super) struct MovedHolder {
    pub(super) service: Arc<ObjectKey>,
    /// The reason why the previous pool would not have allocated the address.
    pub(super) was_retained: Option<Retained>,
    /// True if the Service still holds another address of the previous pool.
    pub(super) still_holds_of_previous: bool,
}

impl Occupied {
    pub(super) fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    pub(super) fn holders(&self) -> &[Arc<ObjectKey>] {
        &self.holders
    }

    /// Returns true if the holders have a sharing key.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn is_held_by(&self, service: &ObjectKey) -> bool {
        self.holders.iter().any(|holder| **holder == *service)
    }

    pub(super) fn is_held_by_others(&self, service: &ObjectKey) -> bool {
        self.holders.iter().any(|holder| **holder != *service)
    }
}

impl Ledger {
    pub(super) fn entry(&self, service: &ObjectKey) -> Option<&Entry> {
        self.services.get(service)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Arc<ObjectKey>, &Entry)> {
        self.services.iter()
    }

    pub(super) fn occupied(&self, ip: IpAddr) -> Option<&Occupied> {
        self.addresses.get(&ip)
    }

    pub(super) fn is_held(&self, ip: IpAddr) -> bool {
        self.addresses.contains_key(&ip)
    }

    /// Returns the holders of the addresses in a range.
    pub(super) fn holders_in(&self, range: &IpRange) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.addresses.range(range.first()..=range.last()).flat_map(|(_, occupied)| occupied.holders())
    }

    /// Returns the holders of an address, ascending by name.
    pub(super) fn holders(&self, ip: IpAddr) -> &[Arc<ObjectKey>] {
        self.addresses.get(&ip).map_or(&[], Occupied::holders)
    }

    /// Returns the held addresses of a range.
    pub(super) fn held_in(&self, range: &IpRange) -> impl Iterator<Item = (IpAddr, &Occupied)> {
        self.addresses.range(range.first()..=range.last()).map(|(ip, occupied)| (*ip, occupied))
    }

    #[cfg(test)]
    pub(super) fn all_occupied(&self) -> impl Iterator<Item = (IpAddr, &Occupied)> {
        self.addresses.iter().map(|(ip, occupied)| (*ip, occupied))
    }

    /// Removes a Service. The caller removes it from its addresses.
    pub(super) fn remove_entry(&mut self, service: &ObjectKey) -> Option<(Arc<ObjectKey>, Entry)> {
        self.services.remove_entry(service)
    }

    /// Sets what a Service holds. The caller adds it to its addresses.
    pub(super) fn insert_entry(&mut self, service: Arc<ObjectKey>, entry: Entry) {
        self.services.insert(service, entry);
    }

    /// Returns what a Service holds, after setting it to `entry` if it is not in the ledger.
    pub(super) fn holding_or_insert(&mut self, service: Arc<ObjectKey>, entry: Entry) -> &Holding {
        &self.services.entry(service).or_insert(entry).holding
    }

    /// Adds a holder of an address, and sets the pool it is held of. Returns the previous pool; None if the
    /// address had no holder.
    pub(super) fn add_holder(
        &mut self,
        ip: IpAddr,
        pool: &Arc<str>,
        service: &Arc<ObjectKey>,
        shared: bool,
    ) -> Option<Arc<str>> {
        let Some(occupied) = self.addresses.get_mut(&ip) else {
            let occupied = Occupied { pool: pool.clone(), shared, holders: vec![service.clone()] };
            self.addresses.insert(ip, occupied);
            return None;
        };
        if let Err(place) = occupied.holders.binary_search(service) {
            occupied.holders.insert(place, service.clone());
        }
        occupied.shared = shared;
        Some(std::mem::replace(&mut occupied.pool, pool.clone()))
    }

    /// Removes a holder of an address. Returns true if it was the last one.
    pub(super) fn remove_holder(&mut self, ip: IpAddr, service: &ObjectKey) -> bool {
        let Some(occupied) = self.addresses.get_mut(&ip) else { return false };
        occupied.holders.retain(|holder| **holder != *service);
        let is_last = occupied.holders.is_empty();
        if is_last {
            self.addresses.remove(&ip);
        }
        is_last
    }

    /// Sets the pool that all holders hold an address of. Returns the effect on each of them; empty without
    /// holders.
    pub(super) fn move_address(&mut self, ip: IpAddr, pool: &Arc<str>) -> Vec<MovedHolder> {
        let Some(occupied) = self.addresses.get_mut(&ip) else { return Vec::new() };
        let previous = std::mem::replace(&mut occupied.pool, pool.clone());
        let mut moved = Vec::with_capacity(occupied.holders.len());
        for service in &occupied.holders {
            let Some(entry) = self.services.get_mut(service) else { continue };
            let mut was_retained = None;
            if let Some(held) = entry.holding.held.iter_mut().find(|held| held.ip == ip) {
                held.pool = pool.clone();
                was_retained = held.retained.take();
            }
            let still_holds_of_previous = entry.holding.held.iter().any(|held| held.pool == previous);
            moved.push(MovedHolder { service: service.clone(), was_retained, still_holds_of_previous });
        }
        moved
    }

    /// Returns the group whose members hold an address, and all ports in use on it; None if no further
    /// Service can join. `leaving` is a holder whose entry was removed already. `within_namespace` is true if
    /// the pool limits sharing to one namespace.
    pub(super) fn sharing_on(
        &self,
        occupied: &Occupied,
        leaving: Option<(&Arc<ObjectKey>, &Entry)>,
        within_namespace: bool,
    ) -> Option<(Arc<SharingGroup>, Ports)> {
        let entry_of = |holder: &Arc<ObjectKey>| match leaving {
            Some((key, entry)) if key == holder => Some(entry),
            _ => self.services.get(holder),
        };
        let [holders @ .., last] = occupied.holders.as_slice() else { return None };
        let sharing = &entry_of(last)?.sharing;
        let mut group = sharing.group.clone()?;
        if within_namespace {
            if holders.iter().any(|holder| holder.namespace != last.namespace) {
                return None;
            }
            group = group.within(&last.namespace);
        }
        if holders.is_empty() {
            return Some((group, sharing.ports.clone()));
        }
        let entries = occupied.holders.iter().filter_map(entry_of);
        let all: BTreeSet<_> = entries.flat_map(|entry| entry.sharing.ports.iter().copied()).collect();
        Some((group, all.into_iter().collect()))
    }
}
