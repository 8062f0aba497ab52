//! From an outcome to what is written: annotation, ingress, conditions, events.

use std::fmt;
use std::net::IpAddr;

use fairlead_crds::keys;
use fairlead_crds::service::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::{Observed, Outcome};
use crate::ipam::{Holding, Refusal};

/// Reasons in conditions and events. They are part of the API: never renamed, only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The Service has its addresses.
    Allocated,
    /// What it asks for cannot be understood or contradicts itself.
    InvalidRequest,
    /// Every pool it may use is full.
    PoolExhausted,
    /// No pool is open to it.
    NoPoolMatches,
    /// The pool it names does not exist.
    PoolNotFound,
    /// The pool it names is refused, or the pool of the addresses that it has and keeps.
    PoolRefused,
    /// The address it names is another Service's.
    AddressInUse,
    /// The address it names is shared, but not with this Service.
    SharingConflict,
    /// The address it names is in no pool, or not in the pool it names.
    AddressNotInPool,
    /// What it needs or asks for is of another address family.
    FamilyMismatch,
    /// It has no cluster IP.
    NoClusterIP,
    /// An advertisement covers its addresses.
    Covered,
    /// No advertisement covers its addresses: nobody outside can reach them.
    NoAdvertisement,
}

/// What to write to a Service: one merge patch on its `status` subresource.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusPatch {
    /// The Service.
    pub service: ObjectKey,
    /// The version that was decided on; the write fails when there is a newer one.
    pub resource_version: String,
    /// Pool annotation; `Some(None)` removes it, `None` leaves it alone.
    pub pool_annotation: Option<Option<String>>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<IpAddr>,
    /// All conditions, those of others as they were.
    pub conditions: Vec<Condition>,
}

/// Something to tell in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The Service.
    pub service: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Type `Warning`, not `Normal`.
    pub warning: bool,
    /// In one word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

/// What has been said about a Service: its status may not show it yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    conditions: Vec<Condition>,
}

impl Told {
    /// What the status of a Service says that is seen for the first time.
    pub(super) fn by(observed: &Observed) -> Self {
        Self { conditions: observed.conditions.iter().filter(|c| is_ours(c)).cloned().collect() }
    }

    /// What to write, if the status differs from the outcome, and what events to send, if the outcome is news.
    pub(super) fn tell(
        &mut self,
        observed: &Observed,
        outcome: &Outcome,
        now: Timestamp,
    ) -> (Option<StatusPatch>, Vec<Event>) {
        let mut conditions = conditions(outcome);
        for condition in &mut conditions {
            // The time is that of the last change of status, as seen or else as said.
            let earlier = [&observed.conditions, &self.conditions].into_iter().flatten();
            let mut same = earlier.filter(|c| c.type_ == condition.type_ && c.status == condition.status);
            let time =
                same.next().map_or_else(|| Time(whole_seconds(now)), |c| c.last_transition_time.clone());
            condition.last_transition_time = time;
        }
        let events = conditions.iter().filter_map(|c| self.event(c, &observed.balancer)).collect();
        self.conditions.clone_from(&conditions);
        (patch(observed, outcome, conditions), events)
    }

    fn event(&self, condition: &Condition, service: &fairlead_crds::service::LoadBalancer) -> Option<Event> {
        let news = |told: &&Condition| told.type_ == condition.type_ && told.reason == condition.reason;
        if self.conditions.iter().find(news).is_some_and(|told| told.message == condition.message) {
            return None;
        }
        let reason = Reason::parse(&condition.reason)?;
        // That it is covered is as it should be.
        (reason != Reason::Covered).then(|| Event {
            service: service.key.clone(),
            uid: service.uid.clone(),
            warning: reason != Reason::Allocated,
            reason,
            message: condition.message.clone(),
        })
    }
}

impl StatusPatch {
    /// The body of the merge patch.
    pub fn body(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.resource_version });
        if let Some(pool) = &self.pool_annotation {
            metadata["annotations"] = json!({ keys::ALLOCATED_FROM_POOL: pool });
        }
        let ingress: Vec<Value> =
            self.ingress.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        // Null takes the field away; an empty list would stay as one.
        let ingress = if ingress.is_empty() { Value::Null } else { Value::Array(ingress) };
        json!({
            "metadata": metadata,
            "status": { "loadBalancer": { "ingress": ingress }, "conditions": self.conditions },
        })
    }
}

/// Our conditions on a Service of this outcome; their time is still to be set.
fn conditions(outcome: &Outcome) -> Vec<Condition> {
    match outcome {
        Outcome::Undecided => Vec::new(),
        Outcome::Refused { reason, message } => {
            vec![condition(keys::ALLOCATED, false, *reason, message.clone())]
        }
        Outcome::Allocated { holding, pool_refused, covered, invalid_request } => {
            let Holding { pool, addresses } = holding;
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(" and ");
            let source = format!("{addresses} from IPAddressPool {pool}");
            let allocated = match invalid_request {
                None if *pool_refused => (
                    Reason::PoolRefused,
                    format!("keeps {source}, which is refused: see its condition Accepted"),
                ),
                None => (Reason::Allocated, source),
                Some(why) => (Reason::InvalidRequest, format!("keeps {source}: {why}")),
            };
            let advertised = if *covered {
                (Reason::Covered, "an advertisement covers these addresses".to_owned())
            } else {
                let message = format!(
                    "no L2Advertisement and no BGPAdvertisement covers IPAddressPool {pool} for this Service"
                );
                (Reason::NoAdvertisement, message)
            };
            vec![
                condition(keys::ALLOCATED, true, allocated.0, allocated.1),
                condition(keys::ADVERTISED, *covered, advertised.0, advertised.1),
            ]
        }
    }
}

fn condition(type_: &str, status: bool, reason: Reason, message: String) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_string(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// The patch that makes the status what it should be; `None` when it is.
fn patch(observed: &Observed, outcome: &Outcome, ours: Vec<Condition>) -> Option<StatusPatch> {
    let (pool, ingress) = match outcome {
        Outcome::Undecided => return None,
        Outcome::Refused { .. } => (None, Vec::new()),
        Outcome::Allocated { holding, .. } => (Some(holding.pool.to_string()), holding.addresses.clone()),
    };
    let same_pool = observed.pool_annotation == pool;
    let balancer = &observed.balancer;
    let seen: Vec<&Condition> = observed.conditions.iter().filter(|c| is_ours(c)).collect();
    let same_conditions = seen.len() == ours.len() && ours.iter().all(|c| seen.contains(&c));
    if same_pool && !observed.odd_ingress && balancer.ingress == ingress && same_conditions {
        return None;
    }
    let others = observed.conditions.iter().filter(|c| !is_ours(c)).cloned();
    Some(StatusPatch {
        service: balancer.key.clone(),
        resource_version: balancer.resource_version.clone(),
        pool_annotation: (!same_pool).then_some(pool),
        ingress,
        conditions: others.chain(ours).collect(),
    })
}

fn is_ours(condition: &Condition) -> bool {
    condition.type_ == keys::ALLOCATED || condition.type_ == keys::ADVERTISED
}

/// The API keeps no fractions of a second.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl Reason {
    const ALL: [Self; 13] = [
        Self::Allocated,
        Self::InvalidRequest,
        Self::PoolExhausted,
        Self::NoPoolMatches,
        Self::PoolNotFound,
        Self::PoolRefused,
        Self::AddressInUse,
        Self::SharingConflict,
        Self::AddressNotInPool,
        Self::FamilyMismatch,
        Self::NoClusterIP,
        Self::Covered,
        Self::NoAdvertisement,
    ];

    /// The reason for what the allocator says.
    pub fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoPoolMatches { .. } | Refusal::NotAdmitted(..) => Self::NoPoolMatches,
            Refusal::NoSuchPool(_) => Self::PoolNotFound,
            Refusal::PoolRefused(_) => Self::PoolRefused,
            Refusal::FamilyMismatch(..) => Self::FamilyMismatch,
            Refusal::Exhausted { .. } => Self::PoolExhausted,
            Refusal::NotInPool(_) | Refusal::SeveralPools(_) => Self::AddressNotInPool,
            Refusal::InUse { conflict, .. } if conflict.is_between_sharers() => Self::SharingConflict,
            Refusal::InUse { .. } => Self::AddressInUse,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.to_string() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
