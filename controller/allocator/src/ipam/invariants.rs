//! The invariants of the allocator, for tests.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::usage::PoolUsage;
use super::{Family, Ipam, PoolState};

impl Ipam {
    /// The invariants of design.md, checked the slow way.
    pub(crate) fn check(&self) {
        for (ip, occupied) in &self.addresses {
            if let Some(pool) = self.pool_of(*ip) {
                let space = self.pools[pool].space(Family::of(*ip));
                assert!(space.first_free() != space.slot(*ip), "{ip} is held and free");
            }
            assert!(!occupied.holders.is_empty());
            for (i, a) in occupied.holders.iter().enumerate() {
                let held = self.services[a].holding.held.iter().find(|held| held.ip == *ip).unwrap();
                assert_eq!(held.pool, occupied.pool, "{ip} is held of two pools");
                for b in &occupied.holders[i + 1..] {
                    let (a, b) = (&self.services[a].sharing, &self.services[b].sharing);
                    assert_eq!(a.join(b), Ok(()), "{ip} is held by two");
                }
            }
        }
        for (service, entry) in &self.services {
            assert!(!entry.holding.held.is_empty());
            for held in &entry.holding.held {
                assert!(self.addresses[&held.ip].holders.contains(service));
                let may_give = self.pool_of(held.ip) == Some(&held.pool);
                assert!(may_give || held.retained.is_some(), "{} is retained without saying so", held.ip);
            }
        }
        for (claim, claimed) in &self.claims {
            for ip in &claimed.addresses {
                assert_eq!(self.claim_of(*ip), Some(&(claim.clone(), claimed.service.clone())), "{ip}");
                let holders = self.holders(*ip);
                assert!(holders.iter().all(|holder| **holder == claimed.service), "{ip} is claimed and held");
            }
        }
        self.check_reservations();
        self.check_tallies();
        for (name, state) in &self.pools {
            self.check_pool(name, state);
        }
    }

    fn check_reservations(&self) {
        for (ip, reservation) in &self.reservations {
            assert!(!reservation.is_empty(), "{ip} is reserved for nobody");
        }
        for (service, ips) in &self.reserved {
            for ip in ips {
                assert!(self.reservations[ip].is_for(service), "{ip} is not reserved for {service}");
            }
        }
        for (_, ip) in &self.expiries {
            assert!(!self.addresses.contains_key(ip), "{ip} is held, and kept for its last holder");
        }
    }

    fn check_tallies(&self) {
        for (pool, usage) in &self.usages {
            let of_pool: BTreeSet<_> = self
                .services
                .iter()
                .filter(|(_, entry)| entry.holding.held.iter().any(|held| held.pool == *pool))
                .map(|(service, _)| service.clone())
                .collect();
            assert_eq!(usage.holders, of_pool, "holders of {pool}");
            for family in Family::BOTH {
                let at = PoolUsage::at(family);
                let held =
                    self.addresses.iter().filter(|(ip, o)| Family::of(**ip) == family && o.pool == *pool);
                assert_eq!(usage.assigned[at], held.count() as u64, "{pool} {family} assigned");
                let all = self.services.values().flat_map(|entry| &entry.holding.held);
                let retained: BTreeSet<IpAddr> = all
                    .filter(|h| h.pool == *pool && h.retained.is_some() && Family::of(h.ip) == family)
                    .map(|h| h.ip)
                    .collect();
                assert!(retained.iter().eq(usage.retained[at].keys()), "{pool} {family} retained");
                let kept = self.reservations.iter().filter(|(ip, reservation)| {
                    Family::of(**ip) == family
                        && reservation.is_kept()
                        && !self.addresses.contains_key(ip)
                        && self.pool_of(**ip) == Some(pool)
                });
                assert_eq!(usage.reserved[at], kept.count() as u64, "{pool} {family} reserved");
            }
        }
    }

    fn check_pool(&self, name: &std::sync::Arc<str>, state: &PoolState) {
        for family in Family::BOTH {
            let taken: BTreeSet<&IpAddr> = self.addresses.keys().chain(self.reservations.keys()).collect();
            let taken = taken.into_iter().filter(|ip| Family::of(**ip) == family);
            let taken = taken.filter(|ip| self.pool_of(**ip) == Some(name)).count();
            assert_eq!(state.space(family).taken(), taken as u128, "{name} {family}");
        }
        let listed: usize = state.shared.values().flat_map(|m| m.values()).map(BTreeSet::len).sum();
        let shared = self.addresses.iter().filter(|(ip, occupied)| {
            occupied.pool == *name
                && self.pool_of(**ip) == Some(name)
                && self.sharing_of(**ip, None).is_some()
        });
        assert_eq!(listed, shared.count(), "index of shared addresses of {name}");
    }
}
