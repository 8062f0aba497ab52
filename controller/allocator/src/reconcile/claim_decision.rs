//! The decision on one IPClaim, and the claims that a Service waits for.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::claim::{Claim, ClaimRequest};
use fairlead_crds::model::config::Labels;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};

use super::claim_status::{retained_message, stays_reserved};
use super::observed_claims::{ClaimRefusal, ObservedClaims};
use super::outcome::AllocationReason;
use super::service_request::{ServiceRequest, needed_families};
use super::wait_queue::RetryTrigger;
use crate::ipam::{AllocationRefusal, Families, Family, Holding, Ipam};

/// The result of [`reserve`].
#[derive(Debug)]
pub(super) struct ClaimDecision {
    pub(super) refusal: Option<ClaimRefusal>,
    /// The changes after which a retry may succeed.
    pub(super) triggers: Vec<RetryTrigger>,
}

/// A claim that has not reserved every address that it is for.
#[derive(Debug)]
pub(crate) struct PendingClaim {
    pub(crate) claim: ObjectKey,
    /// The reason, for the user.
    pub(super) why: String,
    /// The families that the claim reserves.
    pub(super) families: Vec<Family>,
}

/// Reserves the addresses that a claim asks for, if they are available.
pub(super) fn reserve(ipam: &mut Ipam, claim: &Claim, namespace_labels: Option<&Labels>) -> ClaimDecision {
    let (mut refusal, triggers) = match &claim.request {
        Err(why) => {
            ipam.adopt_claim(claim);
            (Some((AllocationReason::InvalidClaim, why.message.clone())), Vec::new())
        }
        Ok(wanted) => match ipam.claim(claim, wanted, namespace_labels) {
            Ok(_) => (None, Vec::new()),
            Err(why) => {
                let held = ipam.holding(&claim.service).into_iter().flat_map(Holding::ips);
                let triggers = retry_triggers(claim, wanted, held, &why);
                (Some((AllocationReason::of(&why), why.to_string())), triggers)
            }
        },
    };
    if let (Some((_, message)), Some(claimed)) = (&mut refusal, ipam.claimed(&claim.key)) {
        *message += &format!("; {}", stays_reserved(&claimed.addresses));
    }
    ClaimDecision { refusal, triggers }
}

/// Returns the claims for a Service, the oldest first, that have not reserved all their addresses or have
/// reserved ones that no pool contains. Claims whose addresses the Service could not take are left out.
pub(super) fn pending_claims(
    claims: &ObservedClaims,
    ipam: &Ipam,
    balancer: &LoadBalancer,
) -> Vec<PendingClaim> {
    let mut of_service = claims.of_service(&balancer.key).peekable();
    if of_service.peek().is_none() {
        return Vec::new();
    }
    let (Ok(needed), Ok(request)) = (needed_families(balancer), ServiceRequest::parse(balancer)) else {
        return Vec::new();
    };
    let records = of_service.filter_map(|key| Some((key, claims.get(key)?)));
    let relevant =
        records.filter(|(_, record)| may_serve(ipam, record.claim(), needed, request.pool.as_deref()));
    let pending = relevant.filter_map(|(key, record)| {
        let why = match record.refusal() {
            Some((_, why)) => why.clone(),
            None => {
                let claimed = ipam.claimed(key)?;
                let why = ipam.retained_by_claim(claimed)?;
                let unpooled = claimed.addresses.iter().any(|ip| ipam.pool_name_of(*ip).is_none());
                unpooled.then(|| retained_message(claimed, why))?
            }
        };
        let families = match &record.claim().request {
            Ok(ClaimRequest::Addresses(wanted)) => wanted.iter().map(|ip| Family::of(*ip)).collect(),
            Ok(ClaimRequest::FromPool { families, .. }) => families.clone(),
            Err(_) => Family::BOTH.to_vec(),
        };
        Some(PendingClaim { claim: key.clone(), why, families })
    });
    pending.collect()
}

/// Returns true if a claim may reserve an address of one of these families, and of `pool` if the Service
/// requests one. If a pool or family is not known, it matches.
fn may_serve(ipam: &Ipam, claim: &Claim, families: Families, pool: Option<&str>) -> bool {
    let is_needed = |family: Family| families.wanted().contains(&family);
    let matches_pool = |other: Option<&str>| pool.is_none() || other.is_none() || pool == other;
    match &claim.request {
        Ok(ClaimRequest::FromPool { pool, families }) => {
            matches_pool(Some(pool)) && families.iter().copied().any(is_needed)
        }
        Ok(ClaimRequest::Addresses(addresses)) => {
            let claimed = ipam.claimed(&claim.key).map(|claimed| &*claimed.pool);
            let pool_of = |ip: IpAddr| ipam.pool_name_of(ip).or(claimed);
            addresses.iter().any(|ip| is_needed(Family::of(*ip)) && matches_pool(pool_of(*ip)))
        }
        Err(_) => true,
    }
}

/// Returns the changes after which a refused claim may succeed or be refused for another reason. `held` are
/// the addresses that the Service holds.
fn retry_triggers(
    claim: &Claim,
    wanted: &ClaimRequest,
    held: impl Iterator<Item = IpAddr>,
    why: &AllocationRefusal,
) -> Vec<RetryTrigger> {
    let mut triggers = Vec::new();
    match why {
        AllocationRefusal::Exhausted { full, .. } => {
            let freed = |(pool, family): &(_, _)| RetryTrigger::AddressFreed(Arc::clone(pool), *family);
            triggers.extend(full.iter().map(freed));
        }
        AllocationRefusal::InUse { address, .. }
        | AllocationRefusal::Reserved { address, .. }
        | AllocationRefusal::NodeAddress { address, .. } => {
            triggers.push(RetryTrigger::AddressChanged(*address));
        }
        AllocationRefusal::PoolRefused(pool)
        | AllocationRefusal::PoolClosed(pool, _)
        | AllocationRefusal::NotAdmitted(pool, _) => {
            triggers.push(RetryTrigger::PoolChanged(pool.clone()));
        }
        _ => {}
    }
    if let ClaimRequest::FromPool { pool, .. } = wanted {
        let trigger = RetryTrigger::PoolChanged(pool.as_str().into());
        if !triggers.contains(&trigger) {
            triggers.push(trigger);
        }
    }
    let addresses = match wanted {
        ClaimRequest::Addresses(wanted) => wanted.clone(),
        // The claim may reserve addresses that it had before, and those that its Service holds.
        ClaimRequest::FromPool { .. } => claim.status_addresses().into_iter().chain(held).collect(),
    };
    for ip in addresses {
        let trigger = RetryTrigger::AddressChanged(ip);
        if !triggers.contains(&trigger) {
            triggers.push(trigger);
        }
    }
    triggers
}
