//! What a pool has for a Service, and what is in the way: what allocation decides by, and what it explains.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Closed;

use super::pool_state::PoolState;
use super::space::Slot;
use super::{
    AllocationRefusal, AllocationRequest, Families, Family, Held, Holding, Ipam, NotAdmitted, admits,
};

/// Why a pool gives a Service nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The pool is refused.
    PoolRefused,
    /// It gives nothing more.
    Closed(Closed),
    /// It is only for Services that name it.
    NotAutomatic,
    /// It is not open to the Service.
    NotAdmitted(NotAdmitted),
    /// It has no addresses of this family.
    Lacks(Family),
    /// All its addresses of this family are held, or kept for others.
    Full(Family),
}

impl Ipam {
    /// Everything that keeps a Service from getting addresses of `families` from a pool, `named` by the Service or not.
    /// Nothing: the pool has them. It is what allocation decides by.
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
        let each: Vec<Obstacle> =
            wanted.iter().filter_map(|family| self.pick(state, request, *family).err()).collect();
        // One of two is enough where both are not required.
        let optional = matches!(families, Families::Both { required: false, .. });
        if !optional || each.len() == wanted.len() {
            obstacles.extend(each);
        }
        obstacles
    }

    /// What a pool that has it would give to a Service that holds nothing.
    pub fn offer(&self, pool: &str, request: &AllocationRequest<'_>, families: Families) -> Vec<IpAddr> {
        let holding = self.choose(&[pool.into()], request, families, true);
        holding.into_iter().flat_map(|holding| holding.held.into_iter().map(|held| held.ip)).collect()
    }

    /// The pool with a `serviceAllocation` that would give an address to a Service that names none and holds nothing.
    pub fn first_pinned(&self, request: &AllocationRequest<'_>, families: Families) -> Option<Arc<str>> {
        self.choose(self.pools.pinned(), request, families, false)?.pools().into_iter().next()
    }

    /// Addresses for `families` out of the first of `pools` that has them; both families from one pool.
    pub(super) fn choose(
        &self,
        pools: &[Arc<str>],
        request: &AllocationRequest<'_>,
        families: Families,
        named: bool,
    ) -> Option<Holding> {
        let first_with = |wanted: &[Family]| {
            pools.iter().find_map(|pool| {
                let state = self.pools.state(pool)?;
                if restrictions(state, request, named).next().is_some() {
                    return None;
                }
                let mut held = Vec::with_capacity(wanted.len());
                for family in wanted {
                    let ip = self.pick(state, request, *family).ok()?;
                    held.push(Held { ip, pool: pool.clone(), retained: None });
                }
                Some(Holding { held })
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

    /// Addresses of which at least one is kept for the Service since it released it: what it had last, with the other family
    /// as [`Ipam::extend`] adds it.
    pub(super) fn choose_released(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let open = |pool: &str| {
            let state = self.pools.state(pool);
            state.is_some_and(|state| restrictions(state, request, false).next().is_none())
        };
        let kept = |family| {
            let (ip, pool) = self.last_released(request.service, family, open)?;
            Some(Held { ip, pool, retained: None })
        };
        let kept: Vec<Held> = families.wanted().into_iter().filter_map(kept).collect();
        let required = matches!(families, Families::Both { required: true, .. });
        if let [first, other] = kept.as_slice()
            && (required || first.pool == other.pool)
        {
            return Some(Holding { held: kept });
        }
        let mut alone = kept.into_iter().map(|held| Holding { held: vec![held] });
        let with_the_other = |one: Holding| self.extended(request, one, families, &[], None).ok();
        alone.clone().find_map(with_the_other).or_else(|| alone.next().filter(|_| !required))
    }

    /// Both families where both are required, each from the first pool that has it.
    pub(super) fn choose_of_two(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> Option<Holding> {
        let Families::Both { first, required: true } = families else { return None };
        let mut held = Vec::with_capacity(2);
        for family in [first, first.other()] {
            let one = |pools: &[Arc<str>]| self.choose(pools, request, Families::One(family), false);
            held.extend(one(self.pools.pinned()).or_else(|| one(self.pools.unpinned()))?.held);
        }
        Some(Holding { held })
    }

    /// Whether a pool gives anything to the Service at all.
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

    /// An address of the pool: one that is kept for the Service, or else the first, in order of allocation, that is free
    /// or that it may share.
    fn pick(
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

    /// Returns the first address of the pool whose holders share it with Services like this one.
    fn first_joinable(
        &self,
        state: &PoolState,
        request: &AllocationRequest<'_>,
        family: Family,
    ) -> Option<Slot> {
        let group = state.group(request.sharing.group()?, request.service);
        state.first_joinable(family, group, &request.sharing.ports, |ip| {
            self.reservations.obstruction(ip, request.service).is_none()
        })
    }

    /// Why none of `pools`, all open to the Service, gave addresses.
    pub(super) fn why_none(
        &self,
        pools: &[Arc<str>],
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let both = matches!(families, Families::Both { required: true, .. });
        let has = |family: Family| {
            pools
                .iter()
                .filter(move |pool| self.pools.state(*pool).is_some_and(|s| !s.space(family).is_empty()))
        };
        let wanted = families.wanted();
        let lacking = wanted.iter().filter(|family| has(**family).next().is_none()).count();
        if lacking == wanted.len() || (both && lacking > 0) {
            return AllocationRefusal::FamilyMismatch(pools.to_vec(), families);
        }
        let suitable = |pool: &&Arc<str>| {
            let state = self.pools.state(*pool);
            state.is_some_and(|s| wanted.iter().any(|family| !s.space(*family).is_empty()))
        };
        // For this Service: what is kept for it, or what it may share, is there.
        let is_full = |pool: &Arc<str>, family: Family| {
            let state = self.pools.state(pool);
            state.is_some_and(|state| self.pick(state, request, family) == Err(Obstacle::Full(family)))
        };
        let mut full: Vec<(Arc<str>, Family)> = Vec::new();
        for family in &wanted {
            // Where both are required, it takes one of the first that is nowhere to be had; then the other is tried.
            if both && (!full.is_empty() || !has(*family).all(|pool| is_full(pool, *family))) {
                continue;
            }
            full.extend(has(*family).filter(|p| is_full(p, *family)).map(|p| (p.clone(), *family)));
        }
        AllocationRefusal::Exhausted {
            pools: pools.iter().filter(suitable).cloned().collect(),
            families,
            full,
        }
    }

    /// Why no pool gave anything to a Service that names none.
    pub(super) fn why_nothing(
        &self,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let open = |name: &&Arc<str>| {
            self.pools.state(*name).is_some_and(|state| restrictions(state, request, false).next().is_none())
        };
        let open: Vec<Arc<str>> = self.pools_in_order().filter(open).cloned().collect();
        if open.is_empty() {
            self.why_no_pool_matches(request)
        } else {
            self.why_none(&open, request, families)
        }
    }

    /// Why a pool that is named, or that the Service has an address of, gave it nothing.
    pub(super) fn why_none_of(
        &self,
        pool: &Arc<str>,
        request: &AllocationRequest<'_>,
        families: Families,
    ) -> AllocationRefusal {
        let Some(state) = self.pools.state(pool) else { return self.why_no_pool(pool) };
        let none = |()| self.why_none(std::slice::from_ref(pool), request, families);
        self.check_open(state, request, true).map_or_else(|why| why, none)
    }

    /// Why neither `own`, the pool of the address that a Service has, nor any other gave it the other family: only what
    /// is missing matters, or it would wait for what it has.
    pub(super) fn why_no_more(
        &self,
        own: &Arc<str>,
        request: &AllocationRequest<'_>,
        missing: Families,
    ) -> AllocationRefusal {
        let open = |name: &&Arc<str>| {
            let state = self.pools.state(*name);
            state.is_some_and(|state| restrictions(state, request, *name == own).next().is_none())
        };
        let open: Vec<Arc<str>> = self.pools_in_order().filter(open).cloned().collect();
        if open.is_empty() {
            self.why_none_of(own, request, missing)
        } else {
            self.why_none(&open, request, missing)
        }
    }

    /// Why no pool is open to a Service that names none.
    pub(super) fn why_no_pool_matches(&self, request: &AllocationRequest<'_>) -> AllocationRefusal {
        if self.pools.is_empty() {
            return AllocationRefusal::NoPool;
        }
        let mut closed = Vec::new();
        for name in self.pools_in_order() {
            let Some(state) = self.pools.state(name) else { continue };
            if let Some(obstacle) = restrictions(state, request, false).next() {
                closed.push((name.clone(), obstacle.explain(state.pool())));
            }
        }
        AllocationRefusal::NoPoolMatches(closed)
    }

    /// Why there is no pool of this name to allocate from.
    pub fn why_no_pool(&self, pool: &str) -> AllocationRefusal {
        match self.pools.refused(pool) {
            Some((name, _)) => AllocationRefusal::PoolRefused(name.clone()),
            None => AllocationRefusal::NoSuchPool(pool.to_owned()),
        }
    }
}

/// Returns the restrictions of a pool for a Service, independent of its free addresses.
fn restrictions(
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
    /// In words for the operator, to come after the pool's name.
    pub fn explain(&self, pool: &fairlead_crds::model::config::Pool) -> String {
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

    /// Whether it is only that nothing is free, which does not matter to who asks for an address.
    pub fn is_about_free_addresses(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Lacks(_))
    }

    /// What would have to be different.
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
