//! Taking hold of addresses and letting go: the only place that changes who holds what.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::usage::PoolUsage;
use super::{AddressChange, AllocationRequest, Entry, Family, Held, Holding, Ipam, Occupied, PoolState};

impl Ipam {
    /// Frees all that a Service holds.
    pub fn release(&mut self, service: &ObjectKey) {
        let Some((key, entry)) = self.services.remove_entry(service) else { return };
        for held in &entry.holding.held {
            self.unindex(held.ip, Some((&key, &entry)));
            self.leave(held, &key);
            self.usage(&held.pool, |usage| {
                usage.holders.remove(&key);
            });
            self.index(held.ip);
            self.note(held.ip, &held.pool);
        }
    }

    /// The same, but nothing of it is kept for the Service: it was never told that it has it.
    pub fn give_way(&mut self, service: &ObjectKey) {
        let ips: Vec<IpAddr> = self.holding(service).into_iter().flat_map(Holding::ips).collect();
        self.release(service);
        ips.into_iter().for_each(|ip| self.forget_last_holder(ip));
    }

    /// Makes the Service hold exactly `holding`. The caller has checked that it may.
    pub(super) fn hold(&mut self, allocation_request: &AllocationRequest<'_>, holding: Holding) -> &Holding {
        let old = self.services.remove_entry(allocation_request.service);
        let new = Entry { holding, sharing: allocation_request.sharing.clone() };
        let (key, old) = match old {
            Some((key, old)) => (key, Some(old)),
            None => (Arc::new(allocation_request.service.clone()), None),
        };
        if old.as_ref() != Some(&new) {
            self.replace(&key, old.as_ref(), &new);
        }
        &self.services.entry(key).or_insert(new).holding
    }

    fn replace(&mut self, key: &Arc<ObjectKey>, old: Option<&Entry>, new: &Entry) {
        let before = old.map_or(&[][..], |old| &old.holding.held);
        let after = &new.holding.held;
        for held in before {
            self.unindex(held.ip, old.map(|old| (key, old)));
            if !after.iter().any(|kept| kept.ip == held.ip) {
                self.leave(held, key);
                self.index(held.ip);
                self.note(held.ip, &held.pool);
            } else if held.retained.is_some() {
                self.usage(&held.pool, |usage| usage.retain_no_more(held.ip));
            }
        }
        for held in before.iter().filter(|held| !after.iter().any(|kept| kept.pool == held.pool)) {
            self.usage(&held.pool, |usage| {
                usage.holders.remove(key);
            });
        }
        self.services.insert(key.clone(), new.clone());
        for held in after {
            self.enter(held, key, new.sharing.group.is_some());
            self.usage(&held.pool, |usage| {
                usage.holders.insert(key.clone());
            });
            self.note(held.ip, &held.pool);
        }
    }

    /// Adds a holder, or changes of which pool and why it holds the address. Its entry in `services` is there already.
    fn enter(&mut self, held: &Held, service: &Arc<ObjectKey>, shared: bool) {
        let Held { ip, pool, retained } = held;
        self.unindex(*ip, None);
        let at = PoolUsage::at(Family::of(*ip));
        match self.addresses.get_mut(ip) {
            Some(occupied) => {
                if let Err(place) = occupied.holders.binary_search(service) {
                    occupied.holders.insert(place, service.clone());
                }
                occupied.shared = shared;
                let was = std::mem::replace(&mut occupied.pool, pool.clone());
                self.usage(&was, |usage| usage.assigned[at] -= 1);
            }
            None => {
                let occupied = Occupied { pool: pool.clone(), shared, holders: vec![service.clone()] };
                self.addresses.insert(*ip, occupied);
                self.take(*ip);
                self.held_again(*ip);
            }
        }
        self.usage(pool, |usage| {
            usage.assigned[at] += 1;
            if retained.is_some() {
                usage.retain(*ip);
            }
        });
        self.index(*ip);
    }

    /// Removes a holder; the address is free when it was the last, or kept for it for a while.
    fn leave(&mut self, held: &Held, service: &ObjectKey) {
        let Held { ip, pool, retained } = held;
        if retained.is_some() {
            self.usage(pool, |usage| usage.retain_no_more(*ip));
        }
        let Some(occupied) = self.addresses.get_mut(ip) else { return };
        occupied.holders.retain(|holder| **holder != *service);
        if !occupied.holders.is_empty() {
            return;
        }
        self.addresses.remove(ip);
        self.usage(pool, |usage| usage.assigned[PoolUsage::at(Family::of(*ip))] -= 1);
        self.keep_for_last_holder(*ip, pool, service);
        self.recount(*ip);
        self.free_if_unused(*ip);
    }

    /// Makes all who hold an address hold it of `pool`.
    pub(super) fn rehome(&mut self, ip: IpAddr, pool: &Arc<str>) {
        let Some(occupied) = self.addresses.get(&ip) else { return };
        let (was, holders) = (occupied.pool.clone(), occupied.holders.clone());
        for holder in holders {
            let Some(entry) = self.services.get_mut(&holder) else { continue };
            let entry = {
                let held = entry.holding.held.iter_mut().find(|held| held.ip == ip);
                if let Some(held) = held {
                    held.pool = pool.clone();
                    let retained = held.retained.take();
                    let still = entry.holding.held.iter().any(|held| held.pool == was);
                    (retained, still)
                } else {
                    (None, true)
                }
            };
            let (retained, still) = entry;
            self.usage(&was, |usage| {
                if retained.is_some() {
                    usage.retain_no_more(ip);
                }
                if !still {
                    usage.holders.remove(&holder);
                }
            });
            self.usage(pool, |usage| {
                usage.holders.insert(holder.clone());
            });
        }
        let at = PoolUsage::at(Family::of(ip));
        self.usage(&was, |usage| usage.assigned[at] -= 1);
        self.usage(pool, |usage| usage.assigned[at] += 1);
        if let Some(occupied) = self.addresses.get_mut(&ip) {
            occupied.pool = pool.clone();
        }
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

    pub(super) fn free_if_unused(&mut self, ip: IpAddr) {
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

    fn state_of(&mut self, ip: IpAddr) -> Option<&mut PoolState> {
        let pool = self.pool_of(ip)?.clone();
        self.pools.get_mut(&pool)
    }

    /// Something happened to an address that is, or was, held or kept of `pool`.
    pub(super) fn note(&mut self, ip: IpAddr, pool: &Arc<str>) {
        let shared = self.sharing_of(ip, None).map(|(group, _)| group);
        let reservation = self.reservations.get(&ip);
        let held = self.addresses.contains_key(&ip);
        let free = !held && reservation.is_none();
        let kept_for = reservation.filter(|_| !held).and_then(|one| one.only_for().cloned());
        let within = self.pool_of(ip).unwrap_or(pool).clone();
        if within != *pool {
            // Held of one pool, while another has the address: the counts of both change.
            let pool = pool.clone();
            self.changes.push(AddressChange { address: ip, pool, free: false, kept_for: None, shared: None });
        }
        self.changes.push(AddressChange { address: ip, pool: within, free, kept_for, shared });
    }
}
