//! The invariants of the allocator, for tests.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Family, Ipam};

impl Ipam {
    /// Whether an address is held of a refused pool.
    fn is_kept(&self, ip: IpAddr) -> bool {
        self.refused.keys().any(|pool| self.held_of_refused(pool).any(|held| held == ip))
    }

    /// The invariants of design.md, checked the slow way.
    pub(crate) fn check(&self) {
        for (ip, holders) in &self.addresses {
            match self.pool_of(*ip).map(|pool| self.pools[pool].space(Family::of(*ip))) {
                Some(space) => assert!(
                    space.slot(*ip).is_some() && space.first_free() != space.slot(*ip),
                    "{ip} is held and free"
                ),
                None => assert!(self.is_kept(*ip), "{ip} is held of no pool"),
            }
            for (i, a) in holders.iter().enumerate() {
                assert!(self.services[a].holding.addresses.contains(ip));
                for b in &holders[i + 1..] {
                    let (a, b) = (&self.services[a].sharing, &self.services[b].sharing);
                    assert_eq!(a.join(b), Ok(()), "{ip} is held by two");
                }
                for b in &holders[i + 1..] {
                    let (a, b) = (&self.services[a].holding.pool, &self.services[b].holding.pool);
                    assert_eq!(a, b, "{ip} is held of two pools");
                }
            }
        }
        for (service, held) in &self.services {
            assert!(!held.holding.addresses.is_empty());
            for ip in &held.holding.addresses {
                assert!(self.addresses[ip].contains(service));
                assert!(self.is_kept(*ip) || self.pool_of(*ip) == Some(&held.holding.pool));
            }
        }
        for (pool, holders) in &self.refused {
            assert!(!self.pools.contains_key(pool));
            let held = self.services.iter().filter(|(_, held)| held.holding.pool == *pool);
            assert!(held.map(|(service, _)| service).eq(holders), "holders of {pool}");
        }
        for (name, state) in &self.pools {
            for family in [Family::V4, Family::V6] {
                let taken: BTreeSet<&IpAddr> =
                    self.addresses.keys().chain(self.reservations.keys()).collect();
                let taken = taken.into_iter().filter(|ip| Family::of(**ip) == family);
                let taken = taken.filter(|ip| self.pool_of(**ip) == Some(name)).count();
                assert_eq!(state.space(family).taken(), taken as u128, "{name} {family}");
            }
            let listed: usize = state.shared.values().flat_map(|m| m.values()).map(BTreeSet::len).sum();
            let shared = self
                .addresses
                .keys()
                .filter(|ip| self.pool_of(**ip) == Some(name) && self.sharing_of(**ip, None).is_some())
                .filter(|ip| !self.is_kept(**ip));
            assert_eq!(listed, shared.count(), "index of shared addresses of {name}");
        }
    }
}
