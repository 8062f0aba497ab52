//! Choosing among what is free, and saying why nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::service::ObjectKey;

use super::sharing::common;
use super::space::Slot;
use super::{Demand, Families, Family, Holding, Ipam, PoolState, Refusal};

impl Ipam {
    /// Addresses for `families` out of the first of `pools` that has them; both families always from one pool.
    pub(super) fn choose_among(
        &self,
        pools: &[Arc<str>],
        demand: &Demand<'_>,
        families: Families,
    ) -> Option<Holding> {
        let first_with = |wanted: &[Family]| {
            pools.iter().find_map(|pool| {
                let state = self.pools.get(pool)?;
                let choose = |family: &Family| {
                    self.own_reserved(demand, pool, *family)
                        .or_else(|| state.choose(demand, *family, &self.reservations))
                };
                let addresses = wanted.iter().map(choose).collect::<Option<Vec<_>>>()?;
                Some(Holding { pool: pool.clone(), addresses })
            })
        };
        match families {
            Families::One(family) => first_with(&[family]),
            Families::Both { first, required: true } => first_with(&[first, first.other()]),
            Families::Both { first, required: false } => first_with(&[first, first.other()])
                .or_else(|| first_with(&[first]))
                .or_else(|| first_with(&[first.other()])),
        }
    }

    /// An address of the pool that is free but for the Service's own reservation: what it had last comes first.
    fn own_reserved(&self, demand: &Demand<'_>, pool: &Arc<str>, family: Family) -> Option<IpAddr> {
        let mut reserved = self.reserved.get(demand.service)?.iter().filter(|ip| Family::of(**ip) == family);
        let is_free = |ip: &&IpAddr| {
            !self.addresses.contains_key(ip)
                && self.reservations.get(ip).is_some_and(|all| all.len() == 1)
                && self.pool_of(**ip) == Some(pool)
        };
        reserved.find(is_free).copied()
    }

    /// Why none of `pools`, all open to the Service, gave an address.
    pub(super) fn why_none(&self, pools: &[Arc<str>], families: Families) -> Refusal {
        let (mut suitable, mut full) = (Vec::new(), Vec::new());
        for pool in pools {
            let Some(state) = self.pools.get(pool) else { continue };
            let lacks = |family: Family| state.space(family).is_empty();
            // Where both are required a pool of one family is no candidate at all.
            let hopeless = match families {
                Families::One(family) => lacks(family),
                Families::Both { required: true, .. } => lacks(Family::V4) || lacks(Family::V6),
                Families::Both { required: false, .. } => lacks(Family::V4) && lacks(Family::V6),
            };
            if !hopeless {
                suitable.push(pool.clone());
                let is_full = |f: &Family| !lacks(*f) && state.space(*f).first_free().is_none();
                full.extend(families.wanted().iter().filter(|f| is_full(f)).map(|f| (pool.clone(), *f)));
            }
        }
        if suitable.is_empty() {
            Refusal::FamilyMismatch(pools.to_vec(), families)
        } else {
            Refusal::Exhausted { pools: suitable, families, full }
        }
    }
}

impl PoolState {
    /// The first address, in order of allocation, that is free or that the Service may share.
    fn choose(
        &self,
        demand: &Demand<'_>,
        family: Family,
        reservations: &BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    ) -> Option<IpAddr> {
        let space = self.space(family);
        let shared = demand.sharing.group().and_then(|group| {
            let by_ports = self.shared.get(&(family, group.clone()))?;
            let joinable =
                by_ports.iter().filter(|(ports, _)| common(ports, &demand.sharing.ports).is_none());
            // Reservations do not last: nearly always it is the first.
            let open = |slot: &&Slot| !reservations.contains_key(&space.address(**slot));
            joinable.filter_map(|(_, slots)| slots.iter().find(open).copied()).min()
        });
        let slot = [space.first_free(), shared].into_iter().flatten().min()?;
        Some(space.address(slot))
    }
}
