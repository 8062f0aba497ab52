//! The invariants of the allocator, for tests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::pool_state::PoolState;
use super::{Family, Ipam};

impl Ipam {
    /// Asserts that the parts agree and that no two Services hold an address unless they share it.
    pub(crate) fn assert_invariants(&self) {
        for (ip, occupied) in self.ledger.all_occupied() {
            if let Some(pool) = self.pools.containing(ip) {
                let space = self.pools.state(pool).unwrap().space(Family::of(ip));
                assert!(space.first_free() != space.slot(ip), "{ip} is held and free");
            }
            assert!(!occupied.holders().is_empty());
            for (i, a) in occupied.holders().iter().enumerate() {
                let a = self.ledger.entry(a).unwrap();
                let held = a.holding.held.iter().find(|held| held.ip == ip).unwrap();
                assert_eq!(held.pool, *occupied.pool(), "{ip} is held of two pools");
                for b in &occupied.holders()[i + 1..] {
                    let b = self.ledger.entry(b).unwrap();
                    assert_eq!(a.sharing.join(&b.sharing), Ok(()), "{ip} has two holders");
                }
            }
        }
        for (service, entry) in self.ledger.entries() {
            assert!(!entry.holding.held.is_empty());
            for held in &entry.holding.held {
                assert!(self.holders(held.ip).contains(service));
                let contains = self.pools.containing(held.ip) == Some(&held.pool);
                assert!(contains || held.retained.is_some(), "{} is retained without a reason", held.ip);
            }
        }
        for (claim, claimed) in self.claims.all() {
            for ip in &claimed.addresses {
                assert_eq!(self.claim_of(*ip), Some(&(claim.clone(), claimed.service.clone())), "{ip}");
                let holders = self.holders(*ip);
                assert!(holders.iter().all(|holder| **holder == claimed.service), "{ip} is claimed and held");
            }
        }
        self.assert_reservations();
        self.assert_usage();
        self.pools.assert_consistent();
        for (name, state) in self.pools.states() {
            self.assert_pool(name, state);
        }
    }

    fn assert_reservations(&self) {
        for (ip, reservation) in self.reservations.all() {
            assert!(!reservation.is_empty(), "{ip} has a reservation without a reason");
        }
        for (service, ips) in self.reservations.all_by_service() {
            for ip in ips {
                let reservation = self.reservations.get(*ip).unwrap();
                assert!(reservation.is_for(service), "{ip} is not reserved for {service}");
            }
        }
        for ip in self.reservations.all_expiries() {
            assert!(!self.ledger.is_held(ip), "{ip} is held and in cool-down");
        }
    }

    fn assert_usage(&self) {
        for pool in self.usage.pool_names() {
            let holders = self
                .ledger
                .entries()
                .filter(|(_, entry)| entry.holding.held.iter().any(|held| held.pool == *pool))
                .map(|(service, _)| service);
            assert!(self.usage.holders(pool).eq(holders), "holders of {pool}");
            for family in Family::BOTH {
                let counts = self.counts(pool, family);
                let occupied = self.ledger.all_occupied();
                let held = occupied.filter(|(ip, o)| Family::of(*ip) == family && o.pool() == pool);
                assert_eq!(counts.assigned, held.count() as u128, "{pool} {family} assigned");
                let all = self.ledger.entries().flat_map(|(_, entry)| &entry.holding.held);
                let retained: BTreeSet<IpAddr> = all
                    .filter(|h| h.pool == *pool && h.retained.is_some() && Family::of(h.ip) == family)
                    .map(|h| h.ip)
                    .collect();
                assert!(
                    retained.into_iter().eq(self.usage.retained(pool, family)),
                    "{pool} {family} retained"
                );
                let reserved = self.reservations.all().filter(|(ip, reservation)| {
                    Family::of(*ip) == family
                        && reservation.is_lasting()
                        && !self.ledger.is_held(*ip)
                        && self.pools.containing(*ip) == Some(pool)
                });
                assert_eq!(counts.reserved, reserved.count() as u128, "{pool} {family} reserved");
            }
        }
    }

    fn assert_pool(&self, name: &Arc<str>, state: &PoolState) {
        let held = || self.ledger.all_occupied().map(|(ip, _)| ip);
        let reserved = self.reservations.all().map(|(ip, _)| ip);
        let nodes = self.nodes.addresses();
        let unavailable: BTreeSet<IpAddr> = held().chain(reserved).chain(nodes).collect();
        for family in Family::BOTH {
            let of_family = unavailable.iter().filter(|ip| Family::of(**ip) == family);
            let taken = of_family.filter(|ip| self.pools.containing(**ip) == Some(name)).count();
            assert_eq!(state.space(family).taken(), taken as u128, "{name} {family}");
        }
        let shared = self.ledger.all_occupied().filter(|(ip, occupied)| {
            occupied.pool() == name
                && self.pools.containing(*ip) == Some(name)
                && self.sharing_on(*ip, None).is_some()
        });
        assert_eq!(state.shared_count(), shared.count(), "shared addresses of {name}");
    }
}
