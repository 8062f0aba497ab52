//! The addresses that each pool could allocate to a Service without an address, or the obstacles.

use std::net::IpAddr;

use fairlead_crds::model::service::ObjectKey;

use super::service_decision::reserved_by_claims;
use super::service_request::ServiceRequest;
use crate::ipam::{AllocationRequest, Families, Family, Ipam, Obstacle};

/// The evaluation of the pools for one Service.
pub(crate) struct PoolEvaluation<'a> {
    /// The allocator, in which the Service holds no address.
    pub(crate) ipam: &'a Ipam,
    pub(crate) allocation_request: &'a AllocationRequest<'a>,
    pub(crate) request: &'a ServiceRequest,
    pub(crate) families: Families,
    /// A claim that the Service waits for.
    pub(crate) pending: Option<ObjectKey>,
}

/// The result of [`PoolEvaluation::evaluate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolFit {
    /// The pool could allocate these addresses.
    Fits {
        offer: Vec<IpAddr>,
        /// The reason why another pool is preferred, if it offers fewer addresses.
        but: Option<String>,
    },
    /// The pool can allocate nothing.
    Unfit(Unfit),
}

/// The obstacles of a pool that can allocate nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// The reasons, each a predicate whose subject is the pool.
    pub(crate) because: Vec<String>,
    /// The conditions under which the pool would fit, all of them.
    pub(crate) unless: Vec<String>,
}

impl PoolEvaluation<'_> {
    /// Evaluates a pool.
    pub(crate) fn evaluate(&self, pool: &str) -> PoolFit {
        let mut unfit = Unfit::default();
        let requested = self.request.pool.as_deref();
        let is_requested = requested == Some(pool);
        if let Some(requested) = requested.filter(|_| !is_requested) {
            unfit.push(
                format!("is not the IPAddressPool that the Service requests, {requested}"),
                "the Service requested it",
            );
        }
        let addresses = &self.request.addresses;
        let mismatch =
            if addresses.is_empty() { None } else { self.request.check_families(self.families).err() };
        let exact = !addresses.is_empty() && mismatch.is_none();
        if exact {
            self.check_addresses(pool, &mut unfit);
        }
        let (needs, named_by_claim) = self.needs(pool);
        // A requested address also selects its pool.
        let is_named = is_requested || !addresses.is_empty() || named_by_claim == Some(pool);
        for obstacle in self.obstacles(pool, needs, is_named, exact) {
            unfit.push(self.explain(pool, &obstacle), obstacle.counterfactual(self.allocation_request));
        }
        if let Some(why) = mismatch {
            unfit.push(why, format!("the Service requested {}", describe(self.families)));
        }
        if let Some(claim) = &self.pending {
            unfit.push(
                format!("allocates nothing until IPClaim {claim} has reserved its addresses"),
                format!("IPClaim {claim} were deleted"),
            );
        }
        if !unfit.because.is_empty() {
            return PoolFit::Unfit(unfit);
        }
        if exact {
            let in_pool = addresses.iter().copied().filter(|ip| self.ipam.pool_name_of(*ip) == Some(pool));
            return PoolFit::Fits { offer: in_pool.collect(), but: None };
        }
        let offer = self.ipam.offer(pool, self.allocation_request, needs);
        let but = self.preferred_pool(pool, &offer);
        PoolFit::Fits { offer, but }
    }

    /// Adds what prevents the allocation of the requested addresses, as far as it concerns this pool. If the
    /// addresses may be of two pools, a pool also depends on the other one.
    fn check_addresses(&self, pool: &str, unfit: &mut Unfit) {
        let addresses = &self.request.addresses;
        let required = matches!(self.families, Families::Both { required: true, .. });
        let several = required && self.request.pool.is_none();
        if several && addresses.iter().all(|ip| self.ipam.pool_name_of(*ip) != Some(pool)) {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            unfit.push(
                format!("contains neither {}, which the Service requests", addresses.join(" nor ")),
                "it contained one of them",
            );
        }
        for ip in addresses.iter().copied() {
            let owner = self.ipam.pool_name_of(ip);
            if owner != Some(pool) && !several {
                unfit.push(
                    format!("does not contain {ip}, which the Service requests"),
                    format!("it contained {ip}"),
                );
            } else if let Err(why) = self.ipam.check_taking(self.allocation_request, ip) {
                let unless = if owner.is_some() { "were free" } else { "were in an IPAddressPool" };
                unfit.push(why.to_string(), format!("{ip} {unless}"));
            } else if let Some(other) = owner.filter(|owner| *owner != pool) {
                for obstacle in self.obstacles(other, self.families, true, true) {
                    let why = self.explain(other, &obstacle);
                    unfit.push(
                        format!("IPAddressPool {other}, which contains {ip}, {why}"),
                        format!("IPAddressPool {other} could allocate {ip}"),
                    );
                }
            }
        }
    }

    /// Returns what prevents a pool from allocating. If addresses are requested, it does not matter whether
    /// others are free.
    fn obstacles(&self, pool: &str, families: Families, named: bool, exact: bool) -> Vec<Obstacle> {
        let mut all = self.ipam.obstacles(pool, self.allocation_request, families, named);
        all.retain(|obstacle| !exact || !obstacle.is_about_free_addresses());
        all
    }

    fn explain(&self, pool: &str, obstacle: &Obstacle) -> String {
        let refused = || "is refused: see its condition Accepted".to_owned();
        self.ipam.pool(pool).map_or_else(refused, |pool| obstacle.explain(pool))
    }

    /// Returns the families that a pool has to provide, and the pool of the address that a claim has
    /// reserved, which provides the other family as if the Service requested it. If each family may come from
    /// another pool, a family is left out if a claim has reserved it or if only other pools have it.
    fn needs(&self, pool: &str) -> (Families, Option<&str>) {
        let required = matches!(self.families, Families::Both { required: true, .. });
        if !required || !self.request.addresses.is_empty() {
            return (self.families, None);
        }
        let service = self.allocation_request.service;
        match reserved_by_claims(self.ipam, service, self.request, self.families)[..] {
            [ip] => (Families::One(Family::of(ip).other()), self.ipam.pool_name_of(ip)),
            [] if self.request.pool.is_none() => {
                let elsewhere = |family: &Family| self.is_only_elsewhere(pool, *family);
                let needs = match self.families.wanted().into_iter().filter(elsewhere).collect::<Vec<_>>()[..]
                {
                    [one] => Families::One(one.other()),
                    _ => self.families,
                };
                (needs, None)
            }
            _ => (self.families, None),
        }
    }

    /// Returns true if other pools have an address of this family for the Service and this pool has none.
    fn is_only_elsewhere(&self, pool: &str, family: Family) -> bool {
        let one = Families::One(family);
        let lacks = |pool: &str| self.ipam.obstacles(pool, self.allocation_request, one, true);
        let gives = |pool: &str| self.ipam.obstacles(pool, self.allocation_request, one, false).is_empty();
        lacks(pool).iter().any(Obstacle::is_about_free_addresses)
            && self.ipam.pools_in_order().any(|other| gives(other))
    }

    /// Returns why a pool with addresses of both families is not used for a Service that needs only one: one
    /// address of a pool with a `serviceAllocation` is preferred to two of a pool without.
    fn preferred_pool(&self, pool: &str, offer: &[IpAddr]) -> Option<String> {
        let has_both = offer.len() > 1 && matches!(self.families, Families::Both { required: false, .. });
        if !has_both || self.request.pool.is_some() || self.ipam.pool(pool)?.allocation.is_some() {
            return None;
        }
        let first = self.ipam.first_pinned(self.allocation_request, self.families)?;
        Some(format!("{first} has a serviceAllocation and is tried first"))
    }
}

impl Unfit {
    fn push(&mut self, because: impl Into<String>, unless: impl Into<String>) {
        self.because.push(because.into());
        self.unless.push(unless.into());
    }
}

/// Describes the addresses that a Service needs.
pub(crate) fn describe(families: Families) -> String {
    match families {
        Families::One(family) => format!("an {family} address"),
        Families::Both { .. } => "an IPv4 and an IPv6 address".to_owned(),
    }
}
