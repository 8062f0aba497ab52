//! The status of an IPClaim: addresses, pool and conditions.

use std::net::IpAddr;

use fairlead_crds::conditions::{self, ConditionStatus, NewCondition};
use fairlead_crds::model::claim::{Claim, ClaimRequest};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names::{BOUND, READY, RESERVED, STALLED, reasons};
use fairlead_crds::v1beta1::IPClaimStatus;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::health;
use super::object_events::{EventObject, ObjectEvent, problems};
use super::observed_claims::ClaimRecord;
use super::outcome::AllocationReason;
use crate::ipam::{Claimed, Family, Holding, Ipam, Retained};

/// The conditions of claims.
pub(super) const CLAIM_CONDITIONS: [&str; 4] = [RESERVED, BOUND, READY, STALLED];

/// A merge patch for an IPClaim, sent to its `status` subresource.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ClaimPatch {
    pub claim: ObjectKey,
    /// The version on which the patch was decided.
    pub resource_version: String,
    pub status: IPClaimStatus,
    /// The claim for Events, and the problems that the status shows.
    pub problems: (EventObject, Vec<ObjectEvent>),
}

impl ClaimPatch {
    /// Returns the patch that changes the observed status to that of the decision; `None` if they are equal.
    pub(super) fn new(
        record: &ClaimRecord,
        ipam: &Ipam,
        service_exists: bool,
        now: Timestamp,
    ) -> Option<Self> {
        let claim = record.claim();
        let status = status(record, ipam, service_exists, now);
        (status != claim.status).then(|| {
            let object = event_object(claim);
            let problems = problems(&object, &claim.status.conditions, &status.conditions);
            Self {
                claim: claim.key.clone(),
                resource_version: claim.resource_version.clone(),
                status,
                problems: (object, problems),
            }
        })
    }

    /// Returns the body of the merge patch.
    pub fn body(&self) -> Value {
        let IPClaimStatus { observed_generation, addresses, pool, bound_service, conditions } = &self.status;
        json!({
            "metadata": { "resourceVersion": self.resource_version },
            // Null removes a field.
            "status": {
                "observedGeneration": observed_generation, "addresses": addresses, "pool": pool,
                "boundService": bound_service, "conditions": conditions,
            },
        })
    }
}

fn event_object(claim: &Claim) -> EventObject {
    EventObject {
        kind: "IPClaim".to_owned(),
        namespace: Some(claim.key.namespace.clone()),
        name: claim.key.name.clone(),
        uid: Some(claim.uid.clone()),
    }
}

/// Formats addresses as a list.
pub(super) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Returns the message that addresses stay reserved.
pub(super) fn stays_reserved(addresses: &[IpAddr]) -> String {
    let stay = if addresses.len() == 1 { "stays" } else { "stay" };
    format!("{} {stay} reserved", list(addresses))
}

/// Returns the message that a claim keeps addresses that its pool no longer offers.
pub(super) fn retained_message(claimed: &Claimed, why: Retained) -> String {
    let Claimed { addresses, pool, .. } = claimed;
    format!("{}: IPAddressPool {pool} {}", stays_reserved(addresses), why.explain())
}

fn status(record: &ClaimRecord, ipam: &Ipam, service_exists: bool, now: Timestamp) -> IPClaimStatus {
    let claim = record.claim();
    let claimed = ipam.claimed(&claim.key);
    let mut addresses = claimed.map(|claimed| claimed.addresses.clone()).unwrap_or_default();
    if let Ok(ClaimRequest::FromPool { families, .. }) = &claim.request {
        // Addresses that were chosen once stay in the status, so that the claim prefers them later.
        let all = [addresses, claim.status_addresses()].concat();
        let one = |family: &Family| all.iter().find(|ip| Family::of(**ip) == *family).copied();
        addresses = families.iter().filter_map(one).collect();
    }
    let previous_pool = claim.status.pool.clone().filter(|_| !addresses.is_empty());
    let pool = claimed.map(|claimed| claimed.pool.to_string()).or(previous_pool);
    let reserved = reserved(record, ipam, &addresses);
    let bound = bound(claim, ipam, service_exists);
    let bound_service = (bound.status == ConditionStatus::True).then(|| claim.service.name.clone());
    let is_reserved = reserved.status == ConditionStatus::True;
    let health = health::of(claim.is_deleting, is_reserved, &reserved.reason, &reserved.message);
    // A claim that was not decided on yet has no refusal, and is not reserved.
    let health = health.filter(|condition| condition.type_ != STALLED || record.refusal().is_some());
    let new: Vec<NewCondition> = [reserved.clone(), bound].into_iter().chain(health).collect();
    let new = new.into_iter().map(|condition| condition.observed_generation(claim.generation));
    let conditions = conditions::merge(&claim.status.conditions, &CLAIM_CONDITIONS, new, now);
    let addresses = addresses.iter().map(ToString::to_string).collect();
    IPClaimStatus { observed_generation: claim.generation, addresses, pool, bound_service, conditions }
}

/// Returns the condition `Reserved`: true if all addresses that the claim asks for are reserved.
fn reserved(record: &ClaimRecord, ipam: &Ipam, addresses: &[IpAddr]) -> NewCondition {
    let claimed = ipam.claimed(&record.claim().key);
    let retained = claimed.and_then(|claimed| ipam.retained_by_claim(claimed));
    match (record.refusal(), claimed, retained) {
        (Some((reason, message)), ..) => {
            NewCondition::new(RESERVED, false, reason.to_string(), message.clone())
        }
        (None, Some(claimed), Some(why)) => {
            let reason = match why {
                Retained::PoolRefused => AllocationReason::PoolRefused,
                Retained::NodeAddress { .. } => AllocationReason::NodeAddress,
                Retained::PoolGone => AllocationReason::PoolGone,
                Retained::NoLongerInPool | Retained::NotAdmitted(_) => AllocationReason::Retained,
            };
            NewCondition::new(RESERVED, true, reason.to_string(), retained_message(claimed, why))
        }
        (None, Some(claimed), None) => {
            let message = format!("{} from IPAddressPool {}", list(addresses), claimed.pool);
            NewCondition::new(RESERVED, true, reasons::RESERVED, message)
        }
        (None, None, _) => NewCondition::new(RESERVED, false, reasons::PENDING, ""),
    }
}

/// Returns the condition `Bound`: true if the Service holds a reserved address.
fn bound(claim: &Claim, ipam: &Ipam, service_exists: bool) -> NewCondition {
    let service = &claim.service;
    let no = |reason: &'static str, message: String| NewCondition::new(BOUND, false, reason, message);
    let Some(claimed) = ipam.claimed(&claim.key) else {
        return no(reasons::NOT_RESERVED, "no address is reserved".to_owned());
    };
    if !service_exists {
        let message =
            format!("Service {service} does not exist or is not a load balancer of this controller's class");
        return no(reasons::SERVICE_NOT_FOUND, message);
    }
    let held: Vec<IpAddr> = ipam.holding(service).into_iter().flat_map(Holding::ips).collect();
    if held.is_empty() {
        let message = format!("Service {service} has no address: see its conditions");
        return no(reasons::SERVICE_HAS_NO_ADDRESS, message);
    }
    if claimed.addresses.iter().any(|ip| held.contains(ip)) {
        let message = format!("Service {service} holds a reserved address");
        return NewCondition::new(BOUND, true, reasons::BOUND, message);
    }
    let held = list(&held);
    let message =
        format!("Service {service} holds {held} and gets a reserved address after it releases {held}");
    no(reasons::SERVICE_HOLDS_ANOTHER, message)
}
