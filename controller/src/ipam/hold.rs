//! Taking hold of addresses and letting go: the only place that changes who holds what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::service::ObjectKey;

use super::sharing::{Group, Ports};
use super::{Change, Demand, Family, Held, Holding, Ipam, PoolState};

impl Ipam {
    /// Frees all that a Service holds.
    pub fn release(&mut self, service: &ObjectKey) {
        let Some((key, held)) = self.services.remove_entry(service) else { return };
        if let Some(holders) = self.refused.get_mut(&held.holding.pool) {
            holders.remove(&key);
        }
        for &ip in &held.holding.addresses {
            self.unindex(ip, Some((&key, &held)));
            self.leave(ip, &key);
            self.index(ip);
            self.note(ip, &held.holding.pool);
        }
    }

    /// Lets nobody but this Service take an address, beside those who hold it already, until [`Ipam::unreserve`].
    pub fn reserve(&mut self, address: IpAddr, service: &ObjectKey) {
        self.reservations.entry(address).or_default().insert(service.clone());
        self.reserved.entry(service.clone()).or_default().insert(address);
        self.take(address);
    }

    /// Takes a reservation back. The address is free when nobody holds it and nobody else has it reserved.
    pub fn unreserve(&mut self, address: IpAddr, service: &ObjectKey) {
        let Some(reserved) = self.reservations.get_mut(&address) else { return };
        if !reserved.remove(service) {
            return;
        }
        if reserved.is_empty() {
            self.reservations.remove(&address);
        }
        if let Some(own) = self.reserved.get_mut(service) {
            own.remove(&address);
            if own.is_empty() {
                self.reserved.remove(service);
            }
        }
        self.free_if_unused(address);
        if let Some(pool) = self.pool_of(address).cloned() {
            self.note(address, &pool);
        }
    }

    /// Makes the Service hold exactly `holding`. The caller has checked that it may.
    pub(super) fn hold(&mut self, demand: &Demand<'_>, holding: Holding) -> &Holding {
        let old = self.services.remove_entry(demand.service);
        let new = Held { holding, sharing: demand.sharing.clone() };
        let (key, old) = match old {
            Some((key, old)) => (key, Some(old)),
            None => (Arc::new(demand.service.clone()), None),
        };
        if old.as_ref() != Some(&new) {
            let pool = new.holding.pool.clone();
            if let Some(holders) = old.as_ref().and_then(|old| self.refused.get_mut(&old.holding.pool)) {
                holders.remove(&key);
            }
            if let Some(holders) = self.refused.get_mut(&pool) {
                holders.insert(key.clone());
            }
            for &ip in old.iter().flat_map(|old| &old.holding.addresses) {
                self.unindex(ip, old.as_ref().map(|old| (&key, old)));
                if !new.holding.addresses.contains(&ip) {
                    let left = old.as_ref().map_or(pool.clone(), |old| old.holding.pool.clone());
                    self.leave(ip, &key);
                    self.index(ip);
                    self.note(ip, &left);
                }
            }
            self.services.insert(key.clone(), new.clone());
            for &ip in &new.holding.addresses {
                self.enter(ip, &key);
                self.note(ip, &pool);
            }
        }
        &self.services.entry(key).or_insert(new).holding
    }

    /// Adds a holder. Its entry in `services` is there already.
    pub(super) fn enter(&mut self, ip: IpAddr, service: &Arc<ObjectKey>) {
        self.unindex(ip, None);
        let holders = self.addresses.entry(ip).or_default();
        if let Err(place) = holders.binary_search(service) {
            holders.insert(place, service.clone());
        }
        self.take(ip);
        self.index(ip);
    }

    /// Removes a holder; the address is free when it was the last.
    pub(super) fn leave(&mut self, ip: IpAddr, service: &ObjectKey) {
        let Some(holders) = self.addresses.get_mut(&ip) else { return };
        holders.retain(|holder| **holder != *service);
        if !holders.is_empty() {
            return;
        }
        self.addresses.remove(&ip);
        self.free_if_unused(ip);
    }

    /// Takes an address out of what is free in its pool.
    pub(super) fn take(&mut self, ip: IpAddr) {
        if let Some(state) = self.state_of(ip) {
            let space = state.space_mut(Family::of(ip));
            if let Some(slot) = space.slot(ip) {
                space.take(slot);
            }
        }
    }

    fn free_if_unused(&mut self, ip: IpAddr) {
        if self.addresses.contains_key(&ip) || self.reservations.contains_key(&ip) {
            return;
        }
        if let Some(state) = self.state_of(ip) {
            let space = state.space_mut(Family::of(ip));
            if let Some(slot) = space.slot(ip) {
                space.free(slot);
            }
        }
    }

    /// Lists a shared address under its group and the ports in use. What is kept of a refused pool nobody can join.
    fn index(&mut self, ip: IpAddr) {
        let holder = self.holders(ip).first().and_then(|service| self.holding(service));
        if holder.is_some_and(|held| self.is_refused(&held.pool)) {
            return;
        }
        if let Some((group, ports)) = self.sharing_of(ip, None)
            && let Some(state) = self.state_of(ip)
            && let Some(slot) = state.space(Family::of(ip)).slot(ip)
        {
            let by_ports = state.shared.entry((Family::of(ip), group)).or_default();
            by_ports.entry(ports).or_default().insert(slot);
        }
    }

    /// Takes a shared address off the list it is on. `leaving` is a holder whose entry is gone from `services` already.
    fn unindex(&mut self, ip: IpAddr, leaving: Option<(&Arc<ObjectKey>, &Held)>) {
        let Some((group, ports)) = self.sharing_of(ip, leaving) else { return };
        let Some(state) = self.state_of(ip) else { return };
        let Some(slot) = state.space(Family::of(ip)).slot(ip) else { return };
        let listed = (Family::of(ip), group);
        let Some(by_ports) = state.shared.get_mut(&listed) else { return };
        if let Some(slots) = by_ports.get_mut(&ports) {
            slots.remove(&slot);
            if slots.is_empty() {
                by_ports.remove(&ports);
            }
        }
        if by_ports.is_empty() {
            state.shared.remove(&listed);
        }
    }

    /// The group that holds an address and all ports in use on it; `None` when it is free or not shared.
    pub(super) fn sharing_of(
        &self,
        ip: IpAddr,
        leaving: Option<(&Arc<ObjectKey>, &Held)>,
    ) -> Option<(Arc<Group>, Ports)> {
        let mut group = None;
        let mut all = BTreeSet::new();
        for holder in self.holders(ip) {
            let held = match leaving {
                Some((key, held)) if key == holder => held,
                _ => match self.services.get(holder) {
                    Some(held) => held,
                    None => continue,
                },
            };
            group = held.sharing.group.clone();
            all.extend(held.sharing.ports.iter().copied());
        }
        Some((group?, all.into_iter().collect()))
    }

    fn state_of(&mut self, ip: IpAddr) -> Option<&mut PoolState> {
        let pool = self.pool_of(ip)?.clone();
        self.pools.get_mut(&pool)
    }

    /// Something happened to an address that is, or was, held of `pool`.
    fn note(&mut self, ip: IpAddr, pool: &Arc<str>) {
        let shared = self.sharing_of(ip, None).map(|(group, _)| group);
        let free = !self.addresses.contains_key(&ip) && !self.reservations.contains_key(&ip);
        let within = self.pool_of(ip).unwrap_or(pool).clone();
        if within != *pool {
            // Held of a refused pool, while another has the address: the counts of both change.
            self.changes.push(Change { address: ip, pool: pool.clone(), free: false, shared: None });
        }
        self.changes.push(Change { address: ip, pool: within, free, shared });
    }
}
