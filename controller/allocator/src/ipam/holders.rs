//! Changes of what a Service holds. Only these functions write the ledger.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::Ipam;
use super::changes::AddressChange;
use super::holding::{Held, Holding};
use super::ledger::Entry;
use super::pool_state::PoolState;
use super::request::AllocationRequest;
use super::sharing::{Ports, SharingGroup};

impl Ipam {
    /// Releases every address of a Service. Each enters its cool-down if the pool has one.
    pub fn release(&mut self, service: &ObjectKey) {
        let Some((key, entry)) = self.ledger.remove_entry(service) else { return };
        for held in &entry.holding.held {
            self.unlist_shared(held.ip, Some((&key, &entry)));
            self.remove_holder(held, &key);
            self.usage.remove_holder(&held.pool, &key);
            self.list_shared(held.ip);
            self.record_change(held.ip, &held.pool);
        }
    }

    /// Releases every address of a Service without a cool-down, because its status never showed them.
    pub fn release_without_cooldown(&mut self, service: &ObjectKey) {
        let ips: Vec<IpAddr> = self.holding(service).into_iter().flat_map(Holding::ips).collect();
        self.release(service);
        ips.into_iter().for_each(|ip| self.end_cooldown(ip));
    }

    /// Sets what a Service holds. The caller has checked that the Service may hold it.
    pub(super) fn set_holding(&mut self, request: &AllocationRequest<'_>, holding: Holding) -> &Holding {
        let old = self.ledger.remove_entry(request.service);
        let new = Entry { holding, sharing: request.sharing.clone() };
        let (key, old) = match old {
            Some((key, old)) => (key, Some(old)),
            None => (Arc::new(request.service.clone()), None),
        };
        if old.as_ref() != Some(&new) {
            self.replace_entry(&key, old.as_ref(), &new);
        }
        self.ledger.holding_or_insert(key, new)
    }

    fn replace_entry(&mut self, key: &Arc<ObjectKey>, old: Option<&Entry>, new: &Entry) {
        let before = old.map_or(&[][..], |old| &old.holding.held);
        let after = &new.holding.held;
        for held in before {
            self.unlist_shared(held.ip, old.map(|old| (key, old)));
            if !after.iter().any(|kept| kept.ip == held.ip) {
                self.remove_holder(held, key);
                self.list_shared(held.ip);
                self.record_change(held.ip, &held.pool);
            } else if held.retained.is_some() {
                self.usage.remove_retained(&held.pool, held.ip);
            }
        }
        for held in before.iter().filter(|held| !after.iter().any(|kept| kept.pool == held.pool)) {
            self.usage.remove_holder(&held.pool, key);
        }
        self.ledger.insert_entry(key.clone(), new.clone());
        for held in after {
            self.add_holder(held, key, new.sharing.group.is_some());
            self.usage.add_holder(&held.pool, key);
            self.record_change(held.ip, &held.pool);
        }
    }

    /// Adds a holder of an address, or changes the pool and the retention of an existing one. The ledger
    /// contains its entry already.
    fn add_holder(&mut self, held: &Held, service: &Arc<ObjectKey>, shared: bool) {
        let Held { ip, pool, retained } = held;
        self.unlist_shared(*ip, None);
        match self.ledger.add_holder(*ip, pool, service, shared) {
            Some(previous) => self.usage.remove_assigned(&previous, *ip),
            None => {
                self.pools.take(*ip);
                self.end_cooldown(*ip);
                self.update_reserved_count(*ip);
            }
        }
        self.usage.add_assigned(pool, *ip);
        if retained.is_some() {
            self.usage.add_retained(pool, *ip);
        }
        self.list_shared(*ip);
    }

    /// Removes a holder of an address. After the last one the address enters its cool-down or becomes free.
    fn remove_holder(&mut self, held: &Held, service: &ObjectKey) {
        let Held { ip, pool, retained } = held;
        if retained.is_some() {
            self.usage.remove_retained(pool, *ip);
        }
        if !self.ledger.remove_holder(*ip, service) {
            return;
        }
        self.usage.remove_assigned(pool, *ip);
        self.start_cooldown(*ip, pool, service);
        self.update_reserved_count(*ip);
        self.free_if_unused(*ip);
    }

    /// Sets the pool that all holders hold an address of.
    pub(super) fn move_to_pool(&mut self, ip: IpAddr, pool: &Arc<str>) {
        let Some(previous) = self.ledger.occupied(ip).map(|occupied| occupied.pool().clone()) else { return };
        for moved in self.ledger.move_address(ip, pool) {
            if moved.was_retained.is_some() {
                self.usage.remove_retained(&previous, ip);
            }
            if !moved.still_holds_of_previous {
                self.usage.remove_holder(&previous, &moved.service);
            }
            self.usage.add_holder(pool, &moved.service);
        }
        self.usage.remove_assigned(&previous, ip);
        self.usage.add_assigned(pool, ip);
    }

    /// Frees an address in its pool if it has neither a holder nor a reservation, and is not that of a Node.
    pub(super) fn free_if_unused(&mut self, ip: IpAddr) {
        if !self.ledger.is_held(ip) && !self.reservations.contains(ip) && !self.nodes.contains(ip) {
            self.pools.free(ip);
        }
    }

    /// Lists an address as shared, so that Services of the group find it. No further Service can join an
    /// address that is retained of another pool.
    pub(super) fn list_shared(&mut self, ip: IpAddr) {
        if let Some((group, ports)) = self.sharing_on(ip, None)
            && let Some(pool) = self.sharing_pool(ip)
        {
            self.pools.list_shared(&pool, ip, group, ports);
        }
    }

    /// Reverts [`Ipam::list_shared`]. `leaving` is a holder whose entry was removed from the ledger already.
    pub(super) fn unlist_shared(&mut self, ip: IpAddr, leaving: Option<(&Arc<ObjectKey>, &Entry)>) {
        let Some((group, ports)) = self.sharing_on(ip, leaving) else { return };
        if let Some(pool) = self.sharing_pool(ip) {
            self.pools.unlist_shared(&pool, ip, group, &ports);
        }
    }

    /// Returns the group whose members hold an address, and all ports in use on it; None if no further
    /// Service can join.
    pub(super) fn sharing_on(
        &self,
        ip: IpAddr,
        leaving: Option<(&Arc<ObjectKey>, &Entry)>,
    ) -> Option<(Arc<SharingGroup>, Ports)> {
        let occupied = self.ledger.occupied(ip).filter(|occupied| occupied.is_shared())?;
        let state = self.pools.state(occupied.pool());
        let within_namespace = state.is_some_and(PoolState::shares_within_namespace);
        self.ledger.sharing_on(occupied, leaving, within_namespace)
    }

    /// Returns the key under which the holders of an address share it.
    pub fn sharing_key_of(&self, ip: IpAddr) -> Option<String> {
        self.sharing_on(ip, None).map(|(group, _)| group.key.clone())
    }

    /// Returns the pool that contains an address, if the address is held of that pool.
    fn sharing_pool(&self, ip: IpAddr) -> Option<Arc<str>> {
        let pool = self.pools.containing(ip)?;
        (self.ledger.occupied(ip)?.pool() == pool).then(|| pool.clone())
    }

    /// Records a change of an address that is or was held or reserved of `pool`.
    pub(super) fn record_change(&mut self, ip: IpAddr, pool: &Arc<str>) {
        let shared = self.sharing_on(ip, None).map(|(group, _)| group);
        let reservation = self.reservations.get(ip);
        let held = self.ledger.is_held(ip);
        let free = !held && reservation.is_none() && !self.nodes.contains(ip);
        let reserved_for = reservation
            .filter(|_| !held && !self.nodes.contains(ip))
            .and_then(|reservation| reservation.only_for().cloned());
        let containing = self.pools.containing(ip).unwrap_or(pool).clone();
        if containing != *pool {
            // The counts of both pools change.
            let pool = pool.clone();
            self.changes.push(AddressChange {
                address: ip,
                pool,
                free: false,
                reserved_for: None,
                shared: None,
            });
        }
        self.changes.push(AddressChange { address: ip, pool: containing, free, reserved_for, shared });
    }
}
