//! Addresses in a status that this controller did not write.
//!
//! The API is authoritative, so that all controllers that observe it reach the same state: the Service keeps
//! the displayed addresses, unless an older Service displays them too. A Service that holds one of them, but
//! does not display it, gets another address.

use std::sync::Arc;

use fairlead_crds::model::claim::{Claim, ClaimRequest};
use fairlead_crds::model::service::{ObjectKey, pool_of_nth};

use super::displayed::keep_displayed;
use super::namespaces::Namespaces;
use super::observed::ObservedService;
use super::observed_claims::ObservedClaims;
use super::service_decision::might_be_given;
use super::service_records::{ExternalWriter, ServiceRecords};
use crate::ipam::{AllocationRefusal, Claimed, Holding, Ipam, ReservedFor};

/// The objects that an external write displaced. They must be reconciled, in this order.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    /// Services that lost an address.
    pub(super) services: Vec<Arc<ObjectKey>>,
    /// Services whose shared address moved to another pool.
    pub(super) sharers: Vec<ObjectKey>,
    /// Claims that lost their reservation.
    pub(super) claims: Vec<ObjectKey>,
}

/// Gives a Service the addresses in its status, which `writer` wrote. Addresses that a user wrote are
/// accepted only if the Service could be given them.
pub(super) fn resolve_external_write(
    ipam: &mut Ipam,
    services: &ServiceRecords,
    namespaces: &Namespaces,
    key: &ObjectKey,
    writer: ExternalWriter,
) -> Displaced {
    let mut displaced = Displaced::default();
    let Some(record) = services.get(key) else { return displaced };
    let observed = record.observed();
    let balancer = &observed.balancer;
    let is_as_displayed = |held: &Holding| {
        let pools = balancer.allocated_from.as_ref();
        held.ips().eq(balancer.ingress.iter().copied())
            && pools.is_none_or(|pools| *pools == held.pools().join(","))
    };
    if ipam.holding(key).is_some_and(is_as_displayed) {
        return displaced;
    }
    if writer == ExternalWriter::Controller {
        displaced.sharers = move_sharers(ipam, services, observed);
    }
    let request = namespaces.allocation_request(balancer);
    if writer == ExternalWriter::Other && !might_be_given(ipam, balancer, &request, &balancer.ingress) {
        return displaced;
    }
    let seniority = (record.seniority(), key);
    // Each round displaces one object, of which there are few.
    while let Err(why) = keep_displayed(ipam, &request, observed) {
        match why {
            AllocationRefusal::InUse { address, holder, .. } => {
                let Some(other) = services.get(&holder) else { break };
                let is_older = (other.seniority(), &*holder) < seniority;
                if (other.displays(address) && is_older) || !ipam.holders(address).contains(&holder) {
                    break;
                }
                ipam.release_without_cooldown(&holder);
                displaced.services.push(holder);
            }
            AllocationRefusal::Reserved { by: ReservedFor::Claim { claim, .. }, .. } => {
                ipam.unclaim(&claim);
                displaced.claims.push(claim);
            }
            AllocationRefusal::Reserved { address, by: ReservedFor::LastHolder { .. } } => {
                ipam.end_cooldown(address);
            }
            _ => break,
        }
    }
    displaced
}

/// Returns true if another controller wrote the addresses in the status of a claim. `old` is the claim as
/// observed before, `claimed` the reservation of this controller.
pub(super) fn is_external_claim_write(old: Option<&Claim>, claim: &Claim, claimed: Option<&Claimed>) -> bool {
    let shown = claim.status_addresses();
    let changed = old.is_none_or(|old| old.status_addresses() != shown);
    let agrees = claimed.is_some_and(|claimed| {
        // An incomplete claim also lists the addresses that it had before.
        let listed = !claim.is_fully_reserved() && claimed.addresses.iter().all(|ip| shown.contains(ip));
        claimed.addresses == shown || listed
    });
    let wanted = match &claim.request {
        Ok(ClaimRequest::Addresses(wanted)) => shown.iter().all(|ip| wanted.contains(ip)),
        Ok(ClaimRequest::FromPool { .. }) | Err(_) => true,
    };
    changed && wanted && !agrees && !shown.is_empty() && claim.is_partly_reserved()
}

/// Frees the addresses in the status of a claim for it: another controller reserved them.
pub(super) fn resolve_external_claim_write(
    ipam: &mut Ipam,
    services: &mut ServiceRecords,
    claims: &ObservedClaims,
    key: &ObjectKey,
) -> Displaced {
    let mut displaced = Displaced::default();
    let Some(claim) = claims.get(key).map(|record| record.claim()) else { return displaced };
    let age = (claim.created, key);
    for ip in claim.status_addresses() {
        for holder in ipam.holders(ip) {
            let displays = services.get(holder).is_some_and(|record| record.displays(ip));
            if **holder != claim.service && !displays {
                displaced.services.push(holder.clone());
            }
        }
        if let Some((other, _)) = ipam.claim_of(ip)
            && let Some(record) = claims.get(other)
            && other != key
        {
            let other_claim = record.claim();
            let is_older = (other_claim.created, other) < age;
            if !(other_claim.is_partly_reserved() && other_claim.status_addresses().contains(&ip) && is_older)
            {
                displaced.claims.push(other.clone());
            }
        }
        ipam.end_cooldown(ip);
    }
    ipam.unclaim(key);
    displaced.claims.iter().for_each(|other| ipam.unclaim(other));
    for holder in &displaced.services {
        ipam.release_without_cooldown(holder);
        if let Some(record) = services.get_mut(holder) {
            record.reserve_displayed(ipam);
        }
    }
    displaced
}

/// Moves shared addresses to the pools that the annotation of their oldest sharer names: all sharers of an
/// address hold it of one pool. Returns the other sharers.
fn move_sharers(ipam: &mut Ipam, services: &ServiceRecords, observed: &ObservedService) -> Vec<ObjectKey> {
    let ObservedService { balancer, .. } = observed;
    let Some(pools) = &balancer.allocated_from else { return Vec::new() };
    let mut moved = Vec::new();
    for (n, ip) in balancer.ingress.iter().enumerate() {
        let holders = ipam.holders(*ip);
        let by_age = holders.iter().filter_map(|key| Some((services.get(key)?.created(), key)));
        if by_age.min().is_none_or(|(_, oldest)| **oldest != balancer.key) {
            continue;
        }
        let others: Vec<ObjectKey> =
            holders.iter().filter(|key| ***key != balancer.key).map(|key| ObjectKey::clone(key)).collect();
        if !others.is_empty() && ipam.move_sharers(*ip, pool_of_nth(pools, n)) {
            moved.extend(others);
        }
    }
    moved
}
