//! The decision for one Service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Config;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use super::claim_decision::PendingClaim;
use super::service_records::{Of, shown};
use super::service_request::{Request, families, of_families, request};
use super::status::tell;
use super::wait_queue::{Asker, For};
use super::{AllocationOutcome, AllocationReason, Decision, Index, allocation_request};
use crate::ipam::{
    AllocationRefusal, AllocationRequest, Families, Family, Holding, Ipam, ServiceClaims, named,
};

/// An outcome, and what may change it.
struct Verdict {
    outcome: AllocationOutcome,
    waits: Vec<For>,
}

impl Index {
    /// Decides on one Service and says what is to be written, if anything.
    pub(super) fn converge(&mut self, key: &ObjectKey, now: Timestamp) {
        if self.is_blind(&key.namespace) {
            // Its Namespace may come, or pools that select none.
            if let Some(record) = self.services.get(key) {
                self.waiting.insert(record.age(), vec![For::Config]);
            }
            return;
        }
        let pending = self.pending_claims(key);
        let Some(record) = self.services.get_mut(key) else { return };
        self.counters.evaluations += 1;
        let balancer = &record.observed.balancer;
        let before = self.ipam.holding(key).cloned();
        let allocation_request = allocation_request(&self.namespaces, balancer);
        let had: Vec<Of> = match &record.outcome {
            AllocationOutcome::Undecided => {
                let (as_had, as_named) = shown(&self.ipam, &record.observed);
                as_had.into_iter().flatten().chain(as_named).collect()
            }
            AllocationOutcome::Allocated { holding, .. } => {
                holding.held.iter().map(|held| (held.ip, Some(held.pool.clone()))).collect()
            }
            AllocationOutcome::Refused { .. } => Vec::new(),
        };
        let verdict = verdict(&mut self.ipam, &self.config, balancer, &allocation_request, &had, &pending);
        if let AllocationOutcome::Allocated { holding, .. } = &verdict.outcome {
            let moved = before.is_none_or(|before| !before.ips().eq(holding.ips()));
            self.counters.allocations += u64::from(moved);
        }
        self.waiting.insert((balancer.created, Asker::Service(key.clone())), verdict.waits);
        record.outcome = verdict.outcome;
        record.depart(&mut self.ipam);
        let (patch, events) = tell(&mut record.told, &record.observed, &record.outcome, now);
        if let (AllocationOutcome::Refused { reason, .. }, false) = (&record.outcome, events.is_empty()) {
            *self.counters.failures.entry(*reason).or_default() += 1;
        }
        for ip in patch.iter().flat_map(|patch| &patch.ingress) {
            if !record.promised.contains(ip) {
                record.promised.push(*ip);
            }
        }
        self.decisions.push(Decision::Status { service: key.clone(), patch: patch.map(Box::new) });
        self.decisions.extend(events.into_iter().map(|event| Decision::Event(Box::new(event))));
        // Also where it holds the same: it may have lost it before, to a change of pools.
        self.tell_claims_of(key, now);
    }

    /// Decides again on a Service that has not all that it wants.
    pub(super) fn converge_if_waiting(&mut self, key: &ObjectKey, now: Timestamp) {
        if self.ipam.holding(key).is_none() || self.waiting.has(&Asker::Service(key.clone())) {
            self.converge(key, now);
        }
    }
}

fn verdict(
    ipam: &mut Ipam,
    config: &Config,
    service: &LoadBalancer,
    allocation_request: &AllocationRequest<'_>,
    had: &[Of],
    pending: &[PendingClaim],
) -> Verdict {
    let families = match families(service) {
        Ok(families) => families,
        Err((reason, message)) => {
            ipam.release(&service.key);
            return Verdict { outcome: AllocationOutcome::Refused { reason, message }, waits: Vec::new() };
        }
    };
    let request = request(service);
    match &request {
        Ok(request) => keep(ipam, allocation_request, request, families, pending),
        Err(_) => keep(ipam, allocation_request, &Request::default(), families, &[]),
    }
    let request = match request {
        Ok(request) => request,
        Err(why) => return keep_despite(ipam, config, service, why),
    };
    let held = ipam.holding(&service.key).cloned();
    let result = match held.filter(|held| request.is_met_by(held)) {
        Some(held) => Ok(held),
        None => {
            // Of addresses that are asked for, those it has already it may have again.
            if request.addresses.is_empty() {
                ipam.release(&service.key);
            }
            give(ipam, allocation_request, &request, families, had, pending)
        }
    };
    if result.is_err() {
        ipam.release(&service.key);
    }
    match result {
        Ok(mut holding) => {
            let mut waits = Vec::new();
            // One address will do, two were better: the other may come from the same pool. But who asks for that one address
            // has what it asks for.
            let may_grow = matches!(families, Families::Both { required: false, .. });
            if may_grow && holding.held.len() == 1 && request.addresses.is_empty() {
                match extend(ipam, allocation_request, &request, families, pending) {
                    Ok(both) => holding = both,
                    Err(Failure::Request(..)) => waits = vec![For::Config],
                    Err(Failure::AllocationRefusal(why)) => waits = waits_for(ipam, &why, allocation_request),
                }
            }
            Verdict { outcome: allocated(config, service, holding, None), waits }
        }
        Err(Failure::Request(reason, message)) => {
            Verdict { outcome: AllocationOutcome::Refused { reason, message }, waits: vec![For::Config] }
        }
        Err(Failure::AllocationRefusal(why)) => {
            let mut message = why.to_string();
            if request.pool.is_none() {
                message += &refused_pools(ipam, &why);
            }
            let mut waits = waits_for(ipam, &why, allocation_request);
            // Of two addresses that cannot be had, either may be the reason.
            let asked: Vec<For> = request.addresses.iter().map(|ip| For::Address(*ip)).collect();
            waits.extend(asked.into_iter().filter(|one| !waits.contains(one)).collect::<Vec<_>>());
            Verdict {
                outcome: AllocationOutcome::Refused { reason: AllocationReason::of(&why), message },
                waits,
            }
        }
    }
}

/// Lets the Service keep what it holds as far as it still may and its families still want it; else it holds nothing.
fn keep(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &Request,
    families: Families,
    pending: &[PendingClaim],
) {
    let Some(held) = ipam.holding(allocation_request.service).cloned() else { return };
    let wanted = families.wanted();
    let one_of = |family: &Family| held.held.iter().find(|held| Family::of(held.ip) == *family);
    let kept: Vec<(IpAddr, Option<&str>)> =
        wanted.iter().filter_map(one_of).map(|held| (held.ip, Some(&*held.pool))).collect();
    let mut keeps = !kept.is_empty() && ipam.keep(allocation_request, &kept).is_ok();
    if keeps && kept.len() < wanted.len() && matches!(families, Families::Both { required: true, .. }) {
        keeps = extend(ipam, allocation_request, request, families, pending).is_ok();
    }
    if !keeps {
        ipam.release(allocation_request.service);
    }
}

/// Gives a Service that holds one address the other family too: what claims have reserved for it, and none other before a
/// claim that is to have one.
fn extend(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &Request,
    families: Families,
    pending: &[PendingClaim],
) -> Result<Holding, Failure> {
    let claims = of_claims(ipam, allocation_request, request, families, pending);
    let held = ipam.holding(allocation_request.service);
    let lacks = |family: &Family| !held.is_some_and(|held| held.ips().any(|ip| Family::of(ip) == *family));
    let missing = families.wanted().into_iter().find(lacks).filter(|family| claims.awaited.contains(family));
    if let Some(missing) = missing
        && let Some(claim) = pending.iter().find(|claim| claim.families.contains(&missing))
    {
        return Err(claim.into());
    }
    Ok(ipam.extend(allocation_request, families, &claims.reserved, request.pool.as_deref())?.clone())
}

/// What is asked for cannot be understood: nothing is changed for it, and nothing given.
fn keep_despite(ipam: &Ipam, config: &Config, service: &LoadBalancer, why: String) -> Verdict {
    let outcome = match ipam.holding(&service.key) {
        Some(holding) => allocated(config, service, holding.clone(), Some(why)),
        None => AllocationOutcome::Refused { reason: AllocationReason::InvalidRequest, message: why },
    };
    Verdict { outcome, waits: Vec::new() }
}

/// Why a Service got nothing.
enum Failure {
    /// What it asks for contradicts what it is, or itself.
    Request(AllocationReason, String),
    /// It cannot be had.
    AllocationRefusal(AllocationRefusal),
}

impl From<&PendingClaim> for Failure {
    fn from(PendingClaim { claim, why, .. }: &PendingClaim) -> Self {
        let message = format!("IPClaim {claim} has not reserved all that it is to for this Service: {why}");
        Self::Request(AllocationReason::ClaimPending, message)
    }
}

impl From<AllocationRefusal> for Failure {
    fn from(refusal: AllocationRefusal) -> Self {
        Self::AllocationRefusal(refusal)
    }
}

fn give(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &Request,
    families: Families,
    had: &[Of],
    pending: &[PendingClaim],
) -> Result<Holding, Failure> {
    if request.addresses.is_empty() {
        let claims = of_claims(ipam, allocation_request, request, families, pending);
        let pool = request.pool.as_deref();
        // A claim moves no address: it counts where the Service needs one.
        if let Some(holding) = ipam.give_beside_the_rest(allocation_request, had, families, &claims, pool) {
            return Ok(holding.clone());
        }
        if !claims.reserved.is_empty() {
            return Ok(ipam.assign_and_extend(allocation_request, &claims.reserved, families, pool)?.clone());
        }
        if let Some(claim) = pending.first() {
            return Err(claim.into());
        }
        return Ok(match &request.pool {
            Some(pool) => ipam.allocate_from(allocation_request, pool, families)?.clone(),
            None => ipam.allocate(allocation_request, families)?.clone(),
        });
    }
    of_families(&request.addresses, families)
        .map_err(|message| Failure::Request(AllocationReason::FamilyMismatch, message))?;
    if let Some(pool) = &request.pool {
        if ipam.pool(pool).is_none() {
            return Err(ipam.why_no_pool(pool).into());
        }
        if let Some(ip) = request.addresses.iter().find(|ip| ipam.pool_name_of(**ip) != Some(pool)) {
            let message = format!("{ip} is not in IPAddressPool {pool}, which is asked for too");
            return Err(Failure::Request(AllocationReason::AddressNotInPool, message));
        }
    }
    let mut addresses: Vec<IpAddr> = request.addresses.iter().copied().collect();
    addresses.sort_by_key(|ip| Family::of(*ip) != families.first());
    let several_pools = matches!(families, Families::Both { required: true, .. });
    Ok(ipam.assign(allocation_request, &addresses, several_pools)?.clone())
}

/// Whether a Service that does not hold all of these addresses might be given them, as it is and asks.
pub(super) fn might_be_given(
    ipam: &Ipam,
    service: &LoadBalancer,
    allocation_request: &AllocationRequest<'_>,
    addresses: &[IpAddr],
) -> bool {
    let (Ok(families), Ok(request)) = (families(service), request(service)) else { return false };
    let wanted = families.wanted();
    let required = matches!(families, Families::Both { required: true, .. });
    let holds = |ip: &IpAddr| ipam.holding(&service.key).is_some_and(|held| held.ips().any(|one| one == *ip));
    let of: BTreeSet<Family> = addresses.iter().map(|ip| Family::of(*ip)).collect();
    let as_needed = of.len() == addresses.len()
        && of.iter().all(|family| wanted.contains(family))
        && (of.len() == wanted.len() || !required);
    let of_pool = |pool: &str| addresses.iter().all(|ip| ipam.pool_name_of(*ip) == Some(pool));
    let asked: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    let as_asked = request.pool.as_deref().is_none_or(of_pool)
        && (request.addresses.is_empty() || request.addresses == asked);
    let named = request.pool.is_some() || !request.addresses.is_empty();
    !addresses.iter().all(holds)
        && as_needed
        && as_asked
        && ipam.might_give(allocation_request, addresses, required, named)
}

/// What claims there are for a Service. It waits for none where they have something for it, or where it asks for addresses.
fn of_claims(
    ipam: &Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &Request,
    families: Families,
    pending: &[PendingClaim],
) -> ServiceClaims {
    let reserved = claimed(ipam, allocation_request.service, request, families);
    let waits = reserved.is_empty() && request.addresses.is_empty();
    let awaited = pending.iter().filter(|_| waits).flat_map(|claim| claim.families.iter().copied());
    ServiceClaims { awaited: awaited.collect(), reserved }
}

/// What claims have reserved for a Service and it wants: one address of each family that it needs.
pub(super) fn claimed(
    ipam: &Ipam,
    service: &ObjectKey,
    request: &Request,
    families: Families,
) -> Vec<IpAddr> {
    let claimed: Vec<IpAddr> = ipam.claimed_for(service).collect();
    let of_pool =
        |ip: &IpAddr| request.pool.as_deref().is_none_or(|pool| ipam.pool_name_of(*ip) == Some(pool));
    let of = |family: Family| claimed.iter().find(|ip| Family::of(**ip) == family && of_pool(ip)).copied();
    families.wanted().into_iter().filter_map(of).collect()
}

impl Request {
    /// Whether what is held is what is asked for.
    fn is_met_by(&self, held: &Holding) -> bool {
        let addresses: BTreeSet<IpAddr> = held.ips().collect();
        self.pool.as_deref().is_none_or(|pool| held.held.iter().all(|held| *held.pool == *pool))
            && (self.addresses.is_empty() || self.addresses == addresses)
    }
}

/// What may help a Service that was refused.
fn waits_for(ipam: &Ipam, why: &AllocationRefusal, allocation_request: &AllocationRequest<'_>) -> Vec<For> {
    let mut waits = vec![For::Config];
    match why {
        AllocationRefusal::Exhausted { full, .. } => {
            for (pool, family) in full {
                waits.push(For::Free(pool.clone(), *family));
                if let Some(group) = ipam.group_in(pool, allocation_request) {
                    let join = For::Join(pool.clone(), group);
                    if !waits.contains(&join) {
                        waits.push(join);
                    }
                }
            }
        }
        AllocationRefusal::InUse { address, .. } | AllocationRefusal::Reserved { address, .. } => {
            waits.push(For::Address(*address));
        }
        _ => {}
    }
    waits
}

fn allocated(
    config: &Config,
    service: &LoadBalancer,
    holding: Holding,
    invalid_request: Option<String>,
) -> AllocationOutcome {
    let covered = |pool: &Arc<str>| {
        config.pool(pool).is_some_and(|pool| {
            config.l2_for(pool, &service.labels).next().is_some()
                || config.bgp_for(pool, &service.labels).next().is_some()
        })
    };
    let uncovered = holding.held.iter().map(|held| &held.pool).find(|pool| !covered(pool)).cloned();
    AllocationOutcome::Allocated { holding, uncovered, invalid_request }
}

/// Which pools might have served a Service that names none, were they not refused.
fn refused_pools(ipam: &Ipam, why: &AllocationRefusal) -> String {
    let refused: Vec<Arc<str>> = ipam.refused_pools().cloned().collect();
    let may_help = match why {
        AllocationRefusal::NoPoolMatches(_)
        | AllocationRefusal::FamilyMismatch(..)
        | AllocationRefusal::Exhausted { .. }
        | AllocationRefusal::NotInPool(_)
        | AllocationRefusal::SeveralPools(_) => true,
        AllocationRefusal::NoPool
        | AllocationRefusal::NoSuchPool(_)
        | AllocationRefusal::PoolRefused(_)
        | AllocationRefusal::PoolClosed(..)
        | AllocationRefusal::NotAdmitted(..)
        | AllocationRefusal::Reserved { .. }
        | AllocationRefusal::InUse { .. } => false,
    };
    match refused.len() {
        0 => String::new(),
        _ if !may_help => String::new(),
        1 => format!("; {} is refused", named(&refused)),
        _ => format!("; {} are refused", named(&refused)),
    }
}
