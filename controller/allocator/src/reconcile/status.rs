//! From an outcome to what is written: annotation, ingress, conditions, events.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use fairlead_crds::model::config::Closed;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::condition_digest::{Said, Statement};
use super::{AllocationOutcome, Observed};
use crate::ipam::{AllocationRefusal, Held, Holding, Retained};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Reasons in conditions and events. They are part of the API: never renamed, only added to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AllocationReason {
            $($(#[$doc])* $name,)*
        }

        impl AllocationReason {
            const ALL: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

reasons! {
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
    /// The pool it names is disabled: it gives nothing more.
    PoolDisabled,
    /// The pool it names is being deleted.
    PoolDeleting,
    /// It keeps addresses that their pool would not give it now.
    Retained,
    /// The address it names is another Service's.
    AddressInUse,
    /// The address it names is kept for another Service: by a claim, or for a while after that released it.
    AddressReserved,
    /// A claim for it has nothing reserved yet.
    ClaimPending,
    /// A claim cannot be understood.
    InvalidClaim,
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
    /// Our conditions.
    pub statements: Vec<Statement>,
    /// Those of others, as they were.
    pub other_conditions: Vec<Condition>,
}

/// Something to tell in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent {
    /// The Service.
    pub service: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Type `Warning`, not `Normal`.
    pub warning: bool,
    /// In one word.
    pub reason: AllocationReason,
    /// In a sentence.
    pub message: String,
}

/// What to write, if the status differs from the outcome, and what events to send, if the outcome is news after what has
/// been `told`.
pub(super) fn tell(
    told: &mut Said,
    observed: &Observed,
    outcome: &AllocationOutcome,
    now: Timestamp,
) -> (Option<StatusPatch>, Vec<ServiceEvent>) {
    let mut statements = statements(outcome);
    for statement in &mut statements {
        // The time is that of the last change of status, as seen or else as said.
        let earlier = [observed.said.line(statement.type_), told.line(statement.type_)];
        let same = earlier.into_iter().flatten().find(|line| line.status == statement.status);
        statement.since = same.map_or(now.as_second(), |line| line.since);
    }
    let said = Said::of(&statements);
    let mut events = Vec::new();
    for statement in &statements {
        let line = said.line(statement.type_);
        if line.is_some_and(|line| line.is_news_after(told.line(statement.type_))) {
            events.extend(event(statement, &observed.balancer));
        }
    }
    *told = said;
    (patch(observed, outcome, said, statements), events)
}

fn event(statement: &Statement, service: &LoadBalancer) -> Option<ServiceEvent> {
    let Statement { reason, ref message, .. } = *statement;
    // That it is covered is as it should be.
    (reason != AllocationReason::Covered).then(|| ServiceEvent {
        service: service.key.clone(),
        uid: service.uid.clone(),
        warning: reason != AllocationReason::Allocated,
        reason,
        message: message.to_string(),
    })
}

impl StatusPatch {
    /// The body of the merge patch.
    pub fn body(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.resource_version });
        if let Some(pool) = &self.pool_annotation {
            metadata["annotations"] = json!({ names::ALLOCATED_FROM_POOL: pool });
        }
        let ingress: Vec<Value> =
            self.ingress.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        // Null takes the field away; an empty list would stay as one.
        let ingress = if ingress.is_empty() { Value::Null } else { Value::Array(ingress) };
        let ours = self.statements.iter().map(Statement::condition);
        let conditions: Vec<Condition> = self.other_conditions.iter().cloned().chain(ours).collect();
        json!({
            "metadata": metadata,
            "status": { "loadBalancer": { "ingress": ingress }, "conditions": conditions },
        })
    }
}

/// Our conditions on a Service of this outcome; their time is still to be set.
fn statements(outcome: &AllocationOutcome) -> Vec<Statement> {
    match outcome {
        AllocationOutcome::Undecided => Vec::new(),
        AllocationOutcome::Refused { reason, message } => {
            vec![Statement::new(names::ALLOCATED, false, *reason, message.clone())]
        }
        AllocationOutcome::Allocated { holding, uncovered, invalid_request } => {
            let source = source(holding);
            let retained = holding.held.iter().find_map(|held| Some((&held.pool, held.retained?)));
            let allocated = match (retained, invalid_request) {
                (Some((pool, why)), invalid) => {
                    let reason = match why {
                        Retained::PoolRefused => AllocationReason::PoolRefused,
                        Retained::NoLongerInPool | Retained::NotAdmitted(_) => AllocationReason::Retained,
                    };
                    let invalid = invalid.as_ref().map(|why| format!("; and {why}")).unwrap_or_default();
                    (reason, format!("keeps {source}: IPAddressPool {pool} {}{invalid}", why.explain()))
                }
                (None, Some(why)) => (AllocationReason::InvalidRequest, format!("keeps {source}: {why}")),
                (None, None) => (AllocationReason::Allocated, source),
            };
            let advertised = match uncovered {
                None => (AllocationReason::Covered, Cow::Borrowed("an advertisement covers these addresses")),
                Some(pool) => {
                    let message = format!(
                        "no L2Advertisement and no BGPAdvertisement covers IPAddressPool {pool} for this Service"
                    );
                    (AllocationReason::NoAdvertisement, Cow::Owned(message))
                }
            };
            vec![
                Statement::new(names::ALLOCATED, true, allocated.0, allocated.1),
                Statement::new(names::ADVERTISED, uncovered.is_none(), advertised.0, advertised.1),
            ]
        }
    }
}

/// An outcome in words.
pub(super) fn summary(outcome: &AllocationOutcome) -> String {
    let all = statements(outcome);
    let Some(first) = all.first() else { return "nothing is decided yet".to_owned() };
    format!("{}: {}", first.reason, first.message)
}

/// The addresses and where they are from.
fn source(holding: &Holding) -> String {
    match holding.held.as_slice() {
        [a, b] if a.pool == b.pool => format!("{} and {} from IPAddressPool {}", a.ip, b.ip, a.pool),
        held => {
            let each = |Held { ip, pool, .. }: &Held| format!("{ip} from IPAddressPool {pool}");
            held.iter().map(each).collect::<Vec<_>>().join(" and ")
        }
    }
}

/// The patch that makes the status what it should be; `None` when it is.
fn patch(
    observed: &Observed,
    outcome: &AllocationOutcome,
    said: Said,
    statements: Vec<Statement>,
) -> Option<StatusPatch> {
    let (pool, ingress) = match outcome {
        AllocationOutcome::Undecided => return None,
        AllocationOutcome::Refused { .. } => (None, Vec::new()),
        AllocationOutcome::Allocated { holding, .. } => {
            (Some(holding.pools().join(",")), holding.ips().collect::<Vec<IpAddr>>())
        }
    };
    let same_pool = observed.pool_annotation == pool;
    let balancer = &observed.balancer;
    if same_pool && !observed.odd && balancer.ingress == ingress && observed.said == said {
        return None;
    }
    Some(StatusPatch {
        service: balancer.key.clone(),
        resource_version: balancer.resource_version.clone(),
        pool_annotation: (!same_pool).then_some(pool),
        ingress,
        statements,
        other_conditions: observed.other_conditions.clone(),
    })
}

/// The API keeps no fractions of a second.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl AllocationReason {
    /// The reason for what the allocator says.
    pub fn of(refusal: &AllocationRefusal) -> Self {
        match refusal {
            AllocationRefusal::NoPool
            | AllocationRefusal::NoPoolMatches(_)
            | AllocationRefusal::NotAdmitted(..) => Self::NoPoolMatches,
            AllocationRefusal::NoSuchPool(_) => Self::PoolNotFound,
            AllocationRefusal::PoolRefused(_) => Self::PoolRefused,
            AllocationRefusal::PoolClosed(_, Closed::Disabled) => Self::PoolDisabled,
            AllocationRefusal::PoolClosed(_, Closed::Deleting) => Self::PoolDeleting,
            AllocationRefusal::FamilyMismatch(..) => Self::FamilyMismatch,
            AllocationRefusal::Exhausted { .. } => Self::PoolExhausted,
            AllocationRefusal::NotInPool(_) | AllocationRefusal::SeveralPools(_) => Self::AddressNotInPool,
            AllocationRefusal::InUse { conflict, .. } if conflict.is_between_sharers() => {
                Self::SharingConflict
            }
            AllocationRefusal::InUse { .. } => Self::AddressInUse,
            AllocationRefusal::Reserved { .. } => Self::AddressReserved,
        }
    }

    /// Whether it says that a Service keeps what its pool would not give now.
    pub(super) fn is_of_retained_addresses(self) -> bool {
        matches!(self, Self::Retained | Self::PoolRefused)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(reason, _)| *reason)
    }
}

impl fmt::Display for AllocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
