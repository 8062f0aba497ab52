//! The obstacles between a Service and a pool, and the address that the pool has for it. Allocation and its
//! explanation use the same functions.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Closed, Pool};
use fairlead_crds::model::family::Family;

use super::Ipam;
use super::admission::{NotAdmitted, admits};
use super::pool_state::PoolState;
use super::refusal::AllocationRefusal;
use super::request::{AllocationRequest, Families};
use super::space::Slot;

/// The reason why a pool does not give a Service an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The pool is refused.
    PoolRefused,
    /// The pool allocates nothing.
    Closed(Closed),
    /// The pool serves only Services that name it.
    NotAutomatic,
    /// The pool does not admit the Service.
    NotAdmitted(NotAdmitted),
    /// The pool has no addresses of this family.
    Lacks(Family),
    /// Every address of this family has a holder or is reserved for another Service.
    Full(Family),
}

impl Ipam {
    /// Returns every obstacle that keeps a Service from getting addresses of `families` from a pool; empty if
    /// there is none. `named` is true if the Service names the pool.
    pub fn obstacles(
        &self,
        pool: &str,
        request: &AllocationRequest<'_>,
        families: Families,
        named: bool,
    ) -> Vec<Obstacle> {
        let Some(state) = self.pools.state(pool) else { return vec![Obstacle::PoolRefused] };
        let mut obstacles: Vec<Obstacle> = restrictions(state, request, named).collect();
        let wanted = families.wanted();
        let unavailable: Vec<Obstacle> =
            wanted.iter().filter_map(|family| self.find_address(state, request, *family).err()).collect();
        let one_is_sufficient = matches!(families, Families::Both { required: false, .. });
        if !one_is_sufficient || unavailable.len() == wanted.len() {
            obstacles.extend(unavailable);
        }
        obstacles
    }

    /// Returns true if the pool is in force and no restriction keeps the Service from it.
    pub(super) fn is_open(&self, pool: &str, request: &AllocationRequest<'_>, named: bool) -> bool {
        let state = self.pools.state(pool);
        state.is_some_and(|state| restrictions(state, request, named).next().is_none())
    }

    /// Returns an error if the pool allocates nothing or does not admit the Service.
    pub(super) fn check_open(
        &self,
        state: &PoolState,
        request: &AllocationRequest<'_>,
        named: bool,
    ) -> Result<(), AllocationRefusal> {
        let name: Arc<str> = state.pool().name.as_str().into();
        match restrictions(state, request, named).next() {
            Some(Obstacle::Closed(why)) => Err(AllocationRefusal::PoolClosed(name, why)),
            Some(Obstacle::NotAdmitted(why)) => {
                Err(AllocationRefusal::NotAdmitted(name, why.explain(state.pool())))
            }
            _ => Ok(()),
        }
    }

    /// Returns an address of the pool: one that is reserved for the Service, or else the first, in order of
    /// allocation, that is free or that the Service may share.
    pub(super) fn find_address(
        &self,
        state: &PoolState,
        request: &AllocationRequest<'_>,
        family: Family,
    ) -> Result<IpAddr, Obstacle> {
        let space = state.space(family);
        if space.is_empty() {
            return Err(Obstacle::Lacks(family));
        }
        if let Some(own) = self.own_reservation(request.service, &state.pool().name, family) {
            return Ok(own);
        }
        let shared = self.first_joinable(state, request, family);
        let slot = [space.first_free(), shared].into_iter().flatten().min();
        slot.map(|slot| space.address(slot)).ok_or(Obstacle::Full(family))
    }

    /// Returns the first address of the pool whose holders the Service may join.
    fn first_joinable(
        &self,
        state: &PoolState,
        request: &AllocationRequest<'_>,
        family: Family,
    ) -> Option<Slot> {
        let group = state.group(request.sharing.group()?, request.service);
        state.first_joinable(family, group, &request.sharing.ports, |ip| {
            self.reservations.obstruction(ip, request.service).is_none() && !self.nodes.contains(ip)
        })
    }
}

/// Returns the restrictions of a pool for a Service, independent of its free addresses.
pub(super) fn restrictions(
    state: &PoolState,
    request: &AllocationRequest<'_>,
    named: bool,
) -> impl Iterator<Item = Obstacle> {
    let pool = state.pool();
    let closed = pool.closed.map(Obstacle::Closed);
    let automatic = (!named && !pool.auto_assign).then_some(Obstacle::NotAutomatic);
    let admitted = admits(pool, request).err().map(Obstacle::NotAdmitted);
    [closed, automatic, admitted].into_iter().flatten()
}

impl Obstacle {
    /// Returns the predicate of a sentence whose subject is the pool.
    pub fn explain(&self, pool: &Pool) -> String {
        match self {
            Self::PoolRefused => "is refused: see its condition Accepted".to_owned(),
            Self::Closed(Closed::Disabled) => "is disabled".to_owned(),
            Self::Closed(Closed::Deleting) => "is being deleted".to_owned(),
            Self::NotAutomatic => "is only for Services that name it (autoAssign is false)".to_owned(),
            Self::NotAdmitted(why) => why.explain(pool),
            Self::Lacks(family) => format!("has no {family} addresses"),
            Self::Full(family) => format!("has no free {family} address"),
        }
    }

    /// Returns true if the obstacle does not affect a Service that requests a particular address.
    pub fn is_about_free_addresses(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Lacks(_))
    }

    /// Returns the condition, in the subjunctive, under which the obstacle would not exist.
    pub fn counterfactual(&self, request: &AllocationRequest<'_>) -> String {
        match self {
            Self::PoolRefused => "the pool were accepted".to_owned(),
            Self::Closed(Closed::Disabled) => "spec.disabled were false".to_owned(),
            Self::Closed(Closed::Deleting) => "it were not being deleted".to_owned(),
            Self::NotAutomatic => {
                "spec.autoAssign were true, or the Service named the pool (fairlead.dev/address-pool)"
                    .to_owned()
            }
            Self::NotAdmitted(NotAdmitted::Namespace) => {
                format!("spec.serviceAllocation admitted namespace {}", request.service.namespace)
            }
            Self::NotAdmitted(NotAdmitted::Labels) => {
                "a selector in spec.serviceAllocation.serviceSelectors matched the Service's labels"
                    .to_owned()
            }
            Self::Lacks(family) => format!("it had {family} addresses"),
            Self::Full(family) => format!("one of its {family} addresses were free"),
        }
    }
}
