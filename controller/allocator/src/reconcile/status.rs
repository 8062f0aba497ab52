//! The status of a Service for an outcome: annotation, ingress, conditions and events.

use std::borrow::Cow;
use std::net::IpAddr;

use fairlead_crds::conditions::RawCondition;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names;
use fairlead_crds::objects::LoadBalancerIngress;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::announcement::Verdict;
use super::condition_digest::{ConditionDigests, ServiceCondition};
use super::observed::{ObservedService, address_of};
use super::outcome::{AllocationOutcome, AllocationReason};
use crate::ipam::{Held, Holding, Retained};

/// The maximum of the octets of all annotations of an object (`TotalAnnotationSizeLimitB` in
/// `apimachinery/pkg/api/validation/objectmeta.go`).
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// A merge patch for a Service, sent to its `status` subresource.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusPatch {
    /// The Service.
    pub service: ObjectKey,
    /// The version on which the patch was decided. The API server rejects the patch if there is a newer one.
    pub resource_version: String,
    /// Value of the pool annotation: `Some(None)` removes the annotation, `None` does not change it.
    pub pool_annotation: Option<Option<String>>,
    /// The addresses in `status.loadBalancer.ingress`.
    pub ingress: Vec<IpAddr>,
    /// The observed entries with more than an address. Those of `ingress` keep their fields, those without an
    /// address stay.
    pub special_ingress: Vec<LoadBalancerIngress>,
    /// The conditions that this controller writes.
    pub conditions: Vec<ServiceCondition>,
    /// True if the patch changes only the condition `fairlead.dev/Advertised`, or adds the condition
    /// `fairlead.dev/Covered`. Other patches are sent first.
    pub is_background: bool,
    /// All other conditions, unchanged.
    pub other_conditions: Vec<RawCondition>,
}

/// An Event to emit for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ServiceEvent {
    pub service: ObjectKey,
    /// UID of the Service.
    pub uid: String,
    /// True for type `Warning`, false for type `Normal`.
    pub warning: bool,
    pub reason: AllocationReason,
    pub message: String,
}

impl StatusPatch {
    /// Returns the body of the merge patch.
    pub fn body(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.resource_version });
        if let Some(pool) = &self.pool_annotation {
            metadata["annotations"] = json!({ names::ALLOCATED_FROM_POOL: pool });
        }
        let special = |ip: &IpAddr| self.special_ingress.iter().find(|entry| address_of(entry) == Some(*ip));
        let entry = |ip: &IpAddr| {
            special(ip).map_or_else(|| json!({ "ip": ip, "ipMode": "VIP" }), |entry| json!(entry))
        };
        let others = self.special_ingress.iter().filter(|entry| address_of(entry).is_none());
        let ingress: Vec<Value> =
            self.ingress.iter().map(entry).chain(others.map(|entry| json!(entry))).collect();
        // Null removes the field; an empty list would remain as an empty list.
        let ingress = if ingress.is_empty() { Value::Null } else { Value::Array(ingress) };
        let ours = self.conditions.iter().map(ServiceCondition::to_condition);
        let conditions: Vec<RawCondition> = self.other_conditions.iter().cloned().chain(ours).collect();
        json!({
            "metadata": metadata,
            "status": { "loadBalancer": { "ingress": ingress }, "conditions": conditions },
        })
    }
}

/// The status that a Service should have.
pub(super) struct DesiredStatus {
    conditions: Vec<ServiceCondition>,
    digests: ConditionDigests,
    /// The patch, if the observed status differs.
    pub(super) patch: Option<StatusPatch>,
}

impl DesiredStatus {
    /// Returns the status for an outcome, and for a conflict with another program if there is one.
    /// `published` are the conditions of the last decision. While `keeps_advertised`, a different verdict on
    /// the announcements alone causes no patch.
    pub(super) fn new(
        published: &ConditionDigests,
        observed: &ObservedService,
        outcome: &AllocationOutcome,
        verdict: Option<&Verdict>,
        keeps_advertised: bool,
        conflict: Option<&str>,
        now: Timestamp,
    ) -> Self {
        let pool = PoolAnnotation::new(observed, outcome);
        let mut conditions = conditions(outcome, &pool);
        if matches!(outcome, AllocationOutcome::Allocated { .. }) {
            conditions.extend(verdict.map(Verdict::condition));
        }
        conditions.extend(conflict.filter(|_| !conditions.is_empty()).map(|message| {
            let reason = AllocationReason::StatusConflict;
            ServiceCondition::new(names::STATUS_CONFLICT, true, reason, message.to_owned())
        }));
        for condition in &mut conditions {
            let earlier = [observed.conditions.get(condition.type_), published.get(condition.type_)];
            let same = earlier.into_iter().flatten().find(|earlier| earlier.status == condition.status);
            condition.since = same.map_or(now.as_second(), |earlier| earlier.since);
        }
        let mut digests = ConditionDigests::of(&conditions);
        let mut patch = patch(observed, outcome, pool, digests, &conditions);
        if keeps_advertised && patch.as_ref().is_some_and(|patch| patch.is_background) {
            digests.advertised = observed.conditions.advertised;
            patch = None;
        }
        Self { conditions, digests, patch }
    }

    /// Returns the patch and the events for the conditions whose status or reason differs from those already
    /// `published`. Then stores the new conditions in `published`. A Service that `moved` to other addresses
    /// also gets an event if the reason stays the same.
    pub(super) fn publish(
        self,
        published: &mut ConditionDigests,
        balancer: &LoadBalancer,
        moved: bool,
    ) -> (Option<StatusPatch>, Vec<ServiceEvent>) {
        let mut events = Vec::new();
        for condition in &self.conditions {
            let previous = published.get(condition.type_);
            let moved = moved && condition.type_ == names::ALLOCATED;
            let new = self.digests.get(condition.type_);
            if moved || new.is_some_and(|new| new.differs_in_reason_from(previous)) {
                events.extend(event(condition, balancer));
            }
        }
        *published = self.digests;
        (self.patch, events)
    }
}

/// The value of the pool annotation.
enum PoolAnnotation {
    /// The Service has no address.
    None,
    Value(String),
    /// The other annotations leave no room for it.
    NoRoom,
}

impl PoolAnnotation {
    fn new(observed: &ObservedService, outcome: &AllocationOutcome) -> Self {
        let AllocationOutcome::Allocated { holding, .. } = outcome else { return Self::None };
        let value = holding.pools().join(",");
        let octets = observed.other_annotations + names::ALLOCATED_FROM_POOL.len() + value.len();
        if octets <= MAX_ANNOTATIONS { Self::Value(value) } else { Self::NoRoom }
    }
}

/// Returns the reason and the message of the first condition.
pub(crate) fn summary(outcome: &AllocationOutcome) -> String {
    let all = conditions(outcome, &PoolAnnotation::None);
    let Some(first) = all.first() else { return "not reconciled yet".to_owned() };
    format!("{}: {}", first.reason, first.message)
}

fn event(condition: &ServiceCondition, service: &LoadBalancer) -> Option<ServiceEvent> {
    let ServiceCondition { type_, reason, ref message, .. } = *condition;
    // Coverage is the normal state and needs no event. The speakers report announcements.
    (reason != AllocationReason::Covered && type_ != names::ADVERTISED).then(|| ServiceEvent {
        service: service.key.clone(),
        uid: service.uid.clone(),
        warning: reason != AllocationReason::Allocated,
        reason,
        message: message.to_string(),
    })
}

/// Returns the conditions for an outcome. Their transition times are not set yet.
fn conditions(outcome: &AllocationOutcome, pool: &PoolAnnotation) -> Vec<ServiceCondition> {
    match outcome {
        AllocationOutcome::Undecided => Vec::new(),
        AllocationOutcome::Refused { reason, message } => {
            vec![ServiceCondition::new(names::ALLOCATED, false, *reason, message.clone())]
        }
        AllocationOutcome::Allocated { holding, uncovered, unpermitted, invalid_request } => {
            let source = source(holding);
            let mut retained =
                holding.held.iter().filter_map(|held| Some((&held.pool, held.retained.as_ref()?)));
            // A restart recognizes the pools that disappeared by the reason.
            let gone = retained.clone().find(|(_, why)| **why == Retained::PoolGone);
            let retained = gone.or_else(|| retained.next());
            let mut allocated = match (retained, invalid_request) {
                (Some((pool, why)), invalid) => {
                    let reason = match why {
                        Retained::PoolRefused => AllocationReason::PoolRefused,
                        Retained::NodeAddress { .. } => AllocationReason::NodeAddress,
                        Retained::PoolGone => AllocationReason::PoolGone,
                        Retained::NoLongerInPool | Retained::NotAdmitted(_) => AllocationReason::Retained,
                    };
                    let invalid = invalid.as_ref().map(|why| format!("; and {why}")).unwrap_or_default();
                    (reason, format!("keeps {source}: IPAddressPool {pool} {}{invalid}", why.explain()))
                }
                (None, Some(why)) => (AllocationReason::InvalidRequest, format!("keeps {source}: {why}")),
                (None, None) => (AllocationReason::Allocated, source),
            };
            if matches!(pool, PoolAnnotation::NoRoom) {
                allocated.1 += &format!(
                    "; without the annotation {}, because all annotations together may have at most \
                     {MAX_ANNOTATIONS} octets: remove or shorten some",
                    names::ALLOCATED_FROM_POOL
                );
            }
            let coverage = match uncovered {
                None => (AllocationReason::Covered, covered(unpermitted.as_deref())),
                Some(pool) => {
                    let message = format!(
                        "no L2Advertisement or BGPAdvertisement covers IPAddressPool {pool} for this Service"
                    );
                    (AllocationReason::NoAdvertisement, Cow::Owned(message))
                }
            };
            vec![
                ServiceCondition::new(names::ALLOCATED, true, allocated.0, allocated.1),
                ServiceCondition::new(names::COVERED, uncovered.is_none(), coverage.0, coverage.1),
            ]
        }
    }
}

/// Returns the message about covered addresses, with the part of the annotations that has no effect.
fn covered(unpermitted: Option<&str>) -> Cow<'static, str> {
    let covered = "an advertisement covers these addresses";
    match unpermitted {
        None => Cow::Borrowed(covered),
        Some(problem) => Cow::Owned(format!("{covered}; {problem}")),
    }
}

/// Formats the addresses and their pools.
fn source(holding: &Holding) -> String {
    match holding.held.as_slice() {
        [a, b] if a.pool == b.pool => format!("{} and {} from IPAddressPool {}", a.ip, b.ip, a.pool),
        held => {
            let each = |Held { ip, pool, .. }: &Held| format!("{ip} from IPAddressPool {pool}");
            held.iter().map(each).collect::<Vec<_>>().join(" and ")
        }
    }
}

/// Returns the patch that changes the observed status to that of the outcome; `None` if they are equal.
fn patch(
    observed: &ObservedService,
    outcome: &AllocationOutcome,
    pool: PoolAnnotation,
    digests: ConditionDigests,
    conditions: &[ServiceCondition],
) -> Option<StatusPatch> {
    let ingress = match outcome {
        AllocationOutcome::Undecided => return None,
        AllocationOutcome::Refused { .. } => Vec::new(),
        AllocationOutcome::Allocated { holding, .. } => holding.ips().collect::<Vec<IpAddr>>(),
    };
    let pool = match pool {
        PoolAnnotation::None | PoolAnnotation::NoRoom => None,
        PoolAnnotation::Value(value) => Some(value),
    };
    let same_pool = observed.pool_annotation == pool;
    let balancer = &observed.balancer;
    let same_addresses = same_pool && balancer.ingress == ingress && !observed.is_malformed;
    if same_addresses && observed.conditions == digests {
        return None;
    }
    // An earlier version did not write `Covered`.
    let covered = observed.conditions.covered.or(digests.covered);
    let others = ConditionDigests { advertised: digests.advertised, covered, ..observed.conditions };
    Some(StatusPatch {
        service: balancer.key.clone(),
        resource_version: balancer.resource_version.clone(),
        pool_annotation: (!same_pool).then_some(pool),
        ingress,
        special_ingress: observed.special_ingress.clone(),
        conditions: conditions.to_vec(),
        is_background: same_addresses && others == digests,
        other_conditions: observed.other_conditions.clone(),
    })
}
