//! The decision on one Service: which addresses it keeps and which it gets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Pool};
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};

use super::claim_decision::PendingClaim;
use super::coverage::{is_covered, unpermitted_attributes};
use super::displayed::{DisplayedAddresses, PooledAddress};
use super::observed::ObservedService;
use super::outcome::{AllocationOutcome, AllocationReason};
use super::service_request::{ServiceRequest, needed_families};
use super::wait_queue::RetryTrigger;
use crate::ipam::{
    AllocationRefusal, AllocationRequest, Families, Family, Holding, Ipam, ServiceClaims, list_pools,
};

/// The result of [`decide`].
pub(super) struct ServiceDecision {
    pub(super) outcome: AllocationOutcome,
    /// The changes after which a retry may succeed or improve the outcome.
    pub(super) triggers: Vec<RetryTrigger>,
}

/// The cause of a decision without an address.
enum Failure {
    /// The request contradicts itself or the Service, or a claim is pending.
    Request(AllocationReason, String),
    /// The allocator refused.
    Allocation(AllocationRefusal),
}

impl From<&PendingClaim> for Failure {
    fn from(PendingClaim { claim, why, .. }: &PendingClaim) -> Self {
        let message = format!(
            "waiting for IPClaim {claim}, which has not yet reserved every address this Service needs: {why}"
        );
        Self::Request(AllocationReason::ClaimPending, message)
    }
}

impl From<AllocationRefusal> for Failure {
    fn from(refusal: AllocationRefusal) -> Self {
        Self::Allocation(refusal)
    }
}

/// Decides on a Service and changes its addresses in `ipam`. `previous` are the addresses that it had before
/// ([`previous_addresses`]), `pending` the claims that it waits for.
pub(super) fn decide(
    ipam: &mut Ipam,
    config: &Config,
    service: &LoadBalancer,
    allocation_request: &AllocationRequest<'_>,
    previous: &[PooledAddress],
    pending: &[PendingClaim],
) -> ServiceDecision {
    if service.is_deleting {
        return keep_until_deleted(ipam, config, service, allocation_request);
    }
    let families = match needed_families(service) {
        Ok(families) => families,
        Err((reason, message)) => {
            ipam.release(&service.key);
            let outcome = AllocationOutcome::Refused { reason, message };
            return ServiceDecision { outcome, triggers: Vec::new() };
        }
    };
    let request = ServiceRequest::parse(service);
    match &request {
        Ok(request) => keep(ipam, allocation_request, request, families, pending),
        Err(_) => keep(ipam, allocation_request, &ServiceRequest::default(), families, &[]),
    }
    let request = match request {
        Ok(request) => request,
        Err(why) => return keep_despite_invalid_request(ipam, config, service, why),
    };
    let held = ipam.holding(&service.key).cloned();
    let result = match held.filter(|held| request.is_met_by(held)) {
        Some(held) => Ok(held),
        None => {
            // Requested addresses that the Service already holds stay available to it.
            if request.addresses.is_empty() {
                ipam.release(&service.key);
            }
            allocate(ipam, allocation_request, &request, families, previous, pending)
        }
    };
    if result.is_err() {
        ipam.release(&service.key);
    }
    match result {
        Ok(mut holding) => {
            let mut triggers = Vec::new();
            // With PreferDualStack, a Service that holds one address gets the second when that is available,
            // unless it requests the one address.
            let may_grow = matches!(families, Families::Both { required: false, .. });
            if may_grow && holding.held.len() == 1 && request.addresses.is_empty() {
                match extend(ipam, allocation_request, &request, families, pending) {
                    Ok(both) => holding = both,
                    Err(Failure::Request(..)) => triggers = vec![RetryTrigger::PoolsChanged],
                    Err(Failure::Allocation(why)) => {
                        let own = holding.held.first().map(|held| held.pool.to_string());
                        let request = ServiceRequest { pool: request.pool.clone().or(own), ..request };
                        triggers = retry_triggers(ipam, &why, allocation_request, &request);
                    }
                }
            }
            ServiceDecision { outcome: allocated(config, service, holding, None), triggers }
        }
        Err(Failure::Request(reason, message)) => {
            let outcome = AllocationOutcome::Refused { reason, message };
            ServiceDecision { outcome, triggers: vec![RetryTrigger::PoolsChanged] }
        }
        Err(Failure::Allocation(why)) => {
            let mut message = why.to_string();
            if request.pool.is_none() && may_be_due_to_refused_pools(&why) {
                message += &refused_note(ipam);
            }
            message += &pools_of_other_classes(config, &why);
            let triggers = retry_triggers(ipam, &why, allocation_request, &request);
            let reason = AllocationReason::of(&why);
            ServiceDecision { outcome: AllocationOutcome::Refused { reason, message }, triggers }
        }
    }
}

/// Returns the outcome for a Service that is being deleted: it keeps its addresses until it is gone, and gets
/// no others.
fn keep_until_deleted(
    ipam: &mut Ipam,
    config: &Config,
    service: &LoadBalancer,
    allocation_request: &AllocationRequest<'_>,
) -> ServiceDecision {
    if let Some(held) = ipam.holding(&service.key).cloned() {
        let held: Vec<(IpAddr, Option<&str>)> =
            held.held.iter().map(|held| (held.ip, Some(&*held.pool))).collect();
        if ipam.keep(allocation_request, &held).is_err() {
            ipam.release(&service.key);
        }
    }
    let outcome = match ipam.holding(&service.key) {
        Some(holding) => allocated(config, service, holding.clone(), None),
        None => AllocationOutcome::Refused {
            reason: AllocationReason::ServiceDeleting,
            message: "the Service is being deleted, so it gets no address".to_owned(),
        },
    };
    ServiceDecision { outcome, triggers: Vec::new() }
}

/// Returns the addresses that a Service had before: those of the last outcome, or those in its status.
pub(super) fn previous_addresses(
    ipam: &Ipam,
    observed: &ObservedService,
    outcome: &AllocationOutcome,
) -> Vec<PooledAddress> {
    match outcome {
        AllocationOutcome::Undecided => {
            let DisplayedAddresses { by_range, by_annotation } = DisplayedAddresses::read(ipam, observed);
            by_range.into_iter().flatten().chain(by_annotation).collect()
        }
        AllocationOutcome::Allocated { holding, .. } => {
            holding.held.iter().map(|held| (held.ip, Some(held.pool.clone()))).collect()
        }
        AllocationOutcome::Refused { .. } => Vec::new(),
    }
}

/// Returns true if a Service that does not hold all of these addresses could be given them.
pub(super) fn might_be_given(
    ipam: &Ipam,
    service: &LoadBalancer,
    allocation_request: &AllocationRequest<'_>,
    addresses: &[IpAddr],
) -> bool {
    let (Ok(families), Ok(request)) = (needed_families(service), ServiceRequest::parse(service)) else {
        return false;
    };
    let wanted = families.wanted();
    let required = matches!(families, Families::Both { required: true, .. });
    let holds = |ip: &IpAddr| ipam.holding(&service.key).is_some_and(|held| held.ips().any(|one| one == *ip));
    let given: BTreeSet<Family> = addresses.iter().map(|ip| Family::of(*ip)).collect();
    let families_match = given.len() == addresses.len()
        && given.iter().all(|family| wanted.contains(family))
        && (given.len() == wanted.len() || !required);
    let all_in = |pool: &str| addresses.iter().all(|ip| ipam.pool_name_of(*ip) == Some(pool));
    let unordered: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    let request_matches = request.pool.as_deref().is_none_or(all_in)
        && (request.addresses.is_empty() || request.addresses == unordered);
    !addresses.iter().all(holds)
        && families_match
        && request_matches
        && ipam.can_assign(allocation_request, addresses, required, request.names_pool())
}

/// Returns the addresses that claims have reserved for a Service: one of each family that it needs, from the
/// pool that it requests.
pub(crate) fn reserved_by_claims(
    ipam: &Ipam,
    service: &ObjectKey,
    request: &ServiceRequest,
    families: Families,
) -> Vec<IpAddr> {
    let claimed: Vec<IpAddr> = ipam.claimed_for(service).collect();
    let matches_pool =
        |ip: &IpAddr| request.pool.as_deref().is_none_or(|pool| ipam.pool_name_of(*ip) == Some(pool));
    let one_of =
        |family: Family| claimed.iter().find(|ip| Family::of(**ip) == family && matches_pool(ip)).copied();
    families.wanted().into_iter().filter_map(one_of).collect()
}

/// Keeps the held addresses that the pool still allows and whose families the Service still needs; else
/// releases all.
fn keep(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &ServiceRequest,
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

/// Gives a Service that holds one address an address of the other family, reserved by a claim if there is
/// one. If a pending claim will reserve that family, the Service waits for it.
fn extend(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &ServiceRequest,
    families: Families,
    pending: &[PendingClaim],
) -> Result<Holding, Failure> {
    let claims = service_claims(ipam, allocation_request, request, families, pending);
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

/// Returns the outcome for an invalid request: the Service keeps its addresses and gets no others.
fn keep_despite_invalid_request(
    ipam: &Ipam,
    config: &Config,
    service: &LoadBalancer,
    why: String,
) -> ServiceDecision {
    let outcome = match ipam.holding(&service.key) {
        Some(holding) => allocated(config, service, holding.clone(), Some(why)),
        None => AllocationOutcome::Refused { reason: AllocationReason::InvalidRequest, message: why },
    };
    ServiceDecision { outcome, triggers: Vec::new() }
}

/// Chooses new addresses for a Service.
fn allocate(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &ServiceRequest,
    families: Families,
    previous: &[PooledAddress],
    pending: &[PendingClaim],
) -> Result<Holding, Failure> {
    if request.addresses.is_empty() {
        let claims = service_claims(ipam, allocation_request, request, families, pending);
        let pool = request.pool.as_deref();
        // A claim does not move an address that the Service can keep; it applies only to a missing address.
        if let Some(holding) =
            ipam.allocate_missing_family(allocation_request, previous, families, &claims, pool)
        {
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
    request
        .check_families(families)
        .map_err(|message| Failure::Request(AllocationReason::FamilyMismatch, message))?;
    if let Some(pool) = &request.pool {
        if ipam.pool(pool).is_none() {
            return Err(ipam.diagnose_pool_name(pool).into());
        }
        if let Some(ip) = request.addresses.iter().find(|ip| ipam.pool_name_of(**ip) != Some(pool)) {
            let message = format!("{ip} is not in IPAddressPool {pool}, which the Service also requests");
            return Err(Failure::Request(AllocationReason::AddressNotInPool, message));
        }
    }
    let mut addresses: Vec<IpAddr> = request.addresses.iter().copied().collect();
    addresses.sort_by_key(|ip| Family::of(*ip) != families.first());
    let several_pools = matches!(families, Families::Both { required: true, .. });
    Ok(ipam.assign(allocation_request, &addresses, several_pools)?.clone())
}

/// Returns the claims for a Service in the form that the allocator needs. The Service waits for no claim if
/// others have reserved addresses for it, or if it requests addresses.
fn service_claims(
    ipam: &Ipam,
    allocation_request: &AllocationRequest<'_>,
    request: &ServiceRequest,
    families: Families,
    pending: &[PendingClaim],
) -> ServiceClaims {
    let reserved = reserved_by_claims(ipam, allocation_request.service, request, families);
    let waits = reserved.is_empty() && request.addresses.is_empty();
    let awaited = pending.iter().filter(|_| waits).flat_map(|claim| claim.families.iter().copied());
    ServiceClaims { awaited: awaited.collect(), reserved }
}

/// Returns the changes after which a refused Service may succeed, or be refused for another reason.
fn retry_triggers(
    ipam: &Ipam,
    why: &AllocationRefusal,
    allocation_request: &AllocationRequest<'_>,
    request: &ServiceRequest,
) -> Vec<RetryTrigger> {
    let mut triggers: BTreeSet<RetryTrigger> = BTreeSet::new();
    match why {
        AllocationRefusal::Exhausted { full, open_full, .. } => {
            for family in open_full {
                triggers.insert(RetryTrigger::OpenAddressFreed(*family));
                triggers.extend(allocation_request.sharing_groups().map(RetryTrigger::OpenAddressShared));
            }
            for (pool, family) in full {
                // One trigger for all open pools: there may be thousands of pools and of waiting Services.
                let is_open = request.pool.is_none() && ipam.is_open_to_all(pool);
                let group = ipam.group_in(pool, allocation_request);
                if is_open {
                    triggers.insert(RetryTrigger::OpenAddressFreed(*family));
                    triggers.extend(group.map(RetryTrigger::OpenAddressShared));
                } else {
                    triggers.insert(RetryTrigger::AddressFreed(pool.clone(), *family));
                    triggers.extend(group.map(|group| RetryTrigger::AddressShared(pool.clone(), group)));
                }
            }
        }
        AllocationRefusal::InUse { address, .. }
        | AllocationRefusal::Reserved { address, .. }
        | AllocationRefusal::NodeAddress { address, .. }
        | AllocationRefusal::NotInPool(address) => {
            triggers.insert(RetryTrigger::AddressChanged(*address));
        }
        AllocationRefusal::SeveralPools(addresses) => {
            triggers.extend(addresses.iter().map(|ip| RetryTrigger::AddressChanged(*ip)));
        }
        AllocationRefusal::NoSuchPool(pool) => {
            triggers.insert(RetryTrigger::PoolChanged(pool.as_str().into()));
        }
        AllocationRefusal::PoolRefused(pool)
        | AllocationRefusal::PoolClosed(pool, _)
        | AllocationRefusal::NotAdmitted(pool, _) => {
            triggers.insert(RetryTrigger::PoolChanged(pool.clone()));
        }
        AllocationRefusal::NoPool
        | AllocationRefusal::NoPoolMatches(_)
        | AllocationRefusal::FamilyMismatch(..) => {}
    }
    match &request.pool {
        Some(pool) => drop(triggers.insert(RetryTrigger::PoolChanged(pool.as_str().into()))),
        None => {
            triggers.insert(RetryTrigger::RefusedPoolsChanged);
            if request.addresses.is_empty() {
                let exhausted = matches!(why, AllocationRefusal::Exhausted { .. });
                triggers.insert(RetryTrigger::AnyPoolChanged { exhausted });
                let shares = allocation_request.sharing.group().is_some();
                triggers.extend(shares.then_some(RetryTrigger::SharedAddressesChanged));
            }
        }
    }
    // If two addresses are requested, the refusal names only one of them.
    triggers.extend(request.addresses.iter().map(|ip| RetryTrigger::AddressChanged(*ip)));
    triggers.into_iter().collect()
}

fn allocated(
    config: &Config,
    service: &LoadBalancer,
    holding: Holding,
    invalid_request: Option<String>,
) -> AllocationOutcome {
    let pools = holding.held.iter().map(|held| &held.pool);
    let uncovered = pools.clone().find(|pool| !is_covered(config, pool, &service.labels)).cloned();
    let unpermitted = unpermitted_attributes(config, pools.map(|pool| &**pool), service);
    AllocationOutcome::Allocated { holding, uncovered, unpermitted, invalid_request }
}

/// Returns a note about pools of other load balancer classes, if the Service requests one of them or none of
/// its own class exists.
fn pools_of_other_classes(config: &Config, why: &AllocationRefusal) -> String {
    let class = |pool: &Pool| match &pool.class {
        Some(class) => format!("loadBalancerClass {class:?}"),
        None => "Services without a loadBalancerClass".to_owned(),
    };
    let requested = match why {
        AllocationRefusal::NoSuchPool(name) => config.other_pools.get(name),
        AllocationRefusal::NotInPool(ip) => {
            let contains = |pool: &&Pool| pool.ranges.iter().any(|range| range.contains(*ip));
            config.other_pools.values().find(contains)
        }
        AllocationRefusal::NoPool if !config.other_pools.is_empty() => {
            return " for this load balancer class: see spec.loadBalancerClass of the pools".to_owned();
        }
        _ => None,
    };
    match (requested, why) {
        (Some(pool), AllocationRefusal::NoSuchPool(_)) => {
            format!(" for this load balancer class: it is for {}", class(pool))
        }
        (Some(pool), _) => {
            format!("; IPAddressPool {}, which contains it, is for {}", pool.name, class(pool))
        }
        (None, _) => String::new(),
    }
}

/// Returns whether a refused pool might have served a Service that names no pool.
fn may_be_due_to_refused_pools(why: &AllocationRefusal) -> bool {
    match why {
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
        | AllocationRefusal::NodeAddress { .. }
        | AllocationRefusal::InUse { .. } => false,
    }
}

/// Returns a note about refused pools for the message of a Service that names no pool.
pub(super) fn refused_note(ipam: &Ipam) -> String {
    let mut refused = ipam.refused_pools();
    if !ipam.names_pools() {
        let any = refused.next().is_some();
        return if any { "; some IPAddressPools are refused".to_owned() } else { String::new() };
    }
    let refused: Vec<Arc<str>> = refused.cloned().collect();
    match refused.len() {
        0 => String::new(),
        1 => format!("; {} is refused", list_pools(&refused)),
        _ => format!("; {} are refused", list_pools(&refused)),
    }
}
