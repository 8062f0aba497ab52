//! What one pool would do for a Service that holds nothing, and what would have to be different for it to do something.

use std::net::IpAddr;

use fairlead_crds::model::service::ObjectKey;

use super::explain::Part;
use super::service_decision::claimed;
use super::service_request::{Request, of_families};
use crate::ipam::{AllocationRequest, Families, Family, Ipam, Obstacle};

/// See the head of this file.
pub(super) struct Judge<'a> {
    /// As if the Service held nothing.
    pub(super) ipam: &'a Ipam,
    pub(super) allocation_request: &'a AllocationRequest<'a>,
    pub(super) request: &'a Request,
    pub(super) families: Families,
    /// A claim for the Service that comes before all pools, and has not what it is to have.
    pub(super) pending: Option<ObjectKey>,
}

/// What is in the way, and what would have to be different.
#[derive(Default)]
struct Unfit {
    because: Vec<String>,
    unless: Vec<String>,
}

impl Unfit {
    fn push(&mut self, because: impl Into<String>, unless: impl Into<String>) {
        self.because.push(because.into());
        self.unless.push(unless.into());
    }
}

impl Judge<'_> {
    /// The part of a pool.
    pub(super) fn part(&self, pool: &str) -> Part {
        let mut unfit = Unfit::default();
        let named = self.request.pool.as_deref();
        let is_named = named == Some(pool);
        if let Some(named) = named.filter(|_| !is_named) {
            unfit.push(
                format!("is not the one that the Service asks for, {named}"),
                "the Service asked for it",
            );
        }
        let asked = &self.request.addresses;
        let mismatch = if asked.is_empty() { None } else { of_families(asked, self.families).err() };
        let exact = !asked.is_empty() && mismatch.is_none();
        if exact {
            self.check_addresses(pool, &mut unfit);
        }
        let (needs, of) = self.needs(pool);
        // Whoever asks for an address names its pool by that.
        let is_named = is_named || !asked.is_empty() || of == Some(pool);
        for obstacle in self.obstacles(pool, needs, is_named, exact) {
            unfit.push(self.explain(pool, &obstacle), obstacle.counterfactual(self.allocation_request));
        }
        if let Some(why) = mismatch {
            unfit.push(why, format!("the Service asked for {} of it", needed(self.families)));
        }
        if let Some(claim) = &self.pending {
            unfit.push(
                format!("gives nothing before IPClaim {claim} has reserved what it is to"),
                format!("IPClaim {claim} were deleted"),
            );
        }
        if !unfit.because.is_empty() {
            return Part::Unfit { because: unfit.because, unless: unfit.unless };
        }
        if exact {
            let of_pool = asked.iter().copied().filter(|ip| self.ipam.pool_name_of(*ip) == Some(pool));
            return Part::Fits { offer: of_pool.collect(), but: None };
        }
        let offer = self.ipam.offer(pool, self.allocation_request, needs);
        let but = self.goes_before(pool, &offer);
        Part::Fits { offer, but }
    }

    /// What is in the way of giving the addresses that are asked for, as far as they concern a pool: its own, and where
    /// they may be of several pools, the other without which it gives nothing either.
    fn check_addresses(&self, pool: &str, unfit: &mut Unfit) {
        let asked = &self.request.addresses;
        let required = matches!(self.families, Families::Both { required: true, .. });
        let several = required && self.request.pool.is_none();
        if several && asked.iter().all(|ip| self.ipam.pool_name_of(*ip) != Some(pool)) {
            let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
            unfit.push(
                format!("has neither {}, which the Service asks for", asked.join(" nor ")),
                "it had one of them",
            );
        }
        for ip in asked.iter().copied() {
            let of = self.ipam.pool_name_of(ip);
            if of != Some(pool) && !several {
                unfit.push(format!("does not have {ip}, which the Service asks for"), format!("it had {ip}"));
            } else if let Err(why) = self.ipam.check_taking(self.allocation_request, ip) {
                let unless = if of.is_some() { "were free" } else { "were of an IPAddressPool" };
                unfit.push(why.to_string(), format!("{ip} {unless}"));
            } else if let Some(other) = of.filter(|of| *of != pool) {
                for obstacle in self.obstacles(other, self.families, true, true) {
                    let why = self.explain(other, &obstacle);
                    unfit.push(
                        format!("IPAddressPool {other}, which has {ip}, {why}"),
                        format!("IPAddressPool {other} gave {ip}"),
                    );
                }
            }
        }
    }

    /// What keeps a pool from giving. To who asks for an address it does not matter that no other is free.
    fn obstacles(&self, pool: &str, families: Families, named: bool, exact: bool) -> Vec<Obstacle> {
        let mut all = self.ipam.obstacles(pool, self.allocation_request, families, named);
        all.retain(|obstacle| !exact || !obstacle.is_about_free_addresses());
        all
    }

    fn explain(&self, pool: &str, obstacle: &Obstacle) -> String {
        let refused = || "is refused: see its condition Accepted".to_owned();
        self.ipam.pool(pool).map_or_else(refused, |pool| obstacle.explain(pool))
    }

    /// What a pool has to give: where each family may be of another pool, not the family of an address that a claim has
    /// reserved, nor one that only others have. And the pool of what is reserved, which gives the rest as if it were named.
    fn needs(&self, pool: &str) -> (Families, Option<&str>) {
        let required = matches!(self.families, Families::Both { required: true, .. });
        if !required || !self.request.addresses.is_empty() {
            return (self.families, None);
        }
        match claimed(self.ipam, self.allocation_request.service, self.request, self.families)[..] {
            [ip] => (Families::One(Family::of(ip).other()), self.ipam.pool_name_of(ip)),
            [] if self.request.pool.is_none() => {
                let others = |family: &Family| self.only_others_have(pool, *family);
                let needs = match self.families.wanted().into_iter().filter(others).collect::<Vec<_>>()[..] {
                    [one] => Families::One(one.other()),
                    _ => self.families,
                };
                (needs, None)
            }
            _ => (self.families, None),
        }
    }

    /// Whether other pools have an address of this family for the Service, and this one has none.
    fn only_others_have(&self, pool: &str, family: Family) -> bool {
        let one = Families::One(family);
        let lacks = |pool: &str| self.ipam.obstacles(pool, self.allocation_request, one, true);
        let gives = |pool: &str| self.ipam.obstacles(pool, self.allocation_request, one, false).is_empty();
        lacks(pool).iter().any(Obstacle::is_about_free_addresses)
            && self.ipam.pools_in_order().any(|other| gives(other))
    }

    /// Why a pool that has both families, of which one will do, gives nothing: one address of a pool with a
    /// `serviceAllocation` comes before both of one without.
    fn goes_before(&self, pool: &str, offer: &[IpAddr]) -> Option<String> {
        let has_both = offer.len() > 1 && matches!(self.families, Families::Both { required: false, .. });
        if !has_both || self.request.pool.is_some() || self.ipam.pool(pool)?.allocation.is_some() {
            return None;
        }
        let first = self.ipam.first_pinned(self.allocation_request, self.families)?;
        Some(format!("{first} has a serviceAllocation and goes before"))
    }
}

/// In words, what a Service needs.
pub(super) fn needed(families: Families) -> String {
    match families {
        Families::One(family) => format!("an {family} address"),
        Families::Both { .. } => "an IPv4 and an IPv6 address".to_owned(),
    }
}
