//! The state of a Service, from its status and the speakers that live.

use std::net::IpAddr;

use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names::{ADVERTISED, ALLOCATED, COVERED, STATUS_CONFLICT};
use fairlead_crds::objects::Service;
use jiff::Timestamp;
use serde::Serialize;

use crate::cluster::{Snapshot, condition, service_conditions};

/// The state of a Service, the worst first: a Service has the first of these states that applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum ServiceState {
    /// The Service has no address.
    Pending,
    /// No advertisement selects the addresses.
    NotCovered,
    /// No live speaker announces the addresses.
    NotAnnounced,
    /// A speaker announces the addresses, and another program replaces the status.
    Conflict,
    /// The controller has not written whether the addresses are announced.
    Allocated,
    /// Live speakers announce the addresses.
    Announced,
}

/// A Service of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub namespace: String,
    pub name: String,
    pub state: ServiceState,
    /// The reason for the state, of the condition or of this program; empty if there is none.
    pub reason: String,
    pub message: String,
    pub addresses: Vec<IpAddr>,
    /// The value of the annotation `fairlead.dev/ip-allocated-from-pool`.
    pub pool: Option<String>,
    /// The time since which the condition that decided has had its status.
    pub since: Option<Timestamp>,
}

impl ServiceStatus {
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Returns true if nothing is wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.state >= ServiceState::Allocated
    }

    /// Returns the state of a Service. `is_any_live` tells if a speaker is ready.
    pub(crate) fn of(snapshot: &Snapshot, service: &Service, balancer: &LoadBalancer) -> Self {
        let is_any_live = !snapshot.live_nodes().is_empty();
        Self::with_live(snapshot, service, balancer, is_any_live)
    }

    fn with_live(snapshot: &Snapshot, service: &Service, balancer: &LoadBalancer, is_any_live: bool) -> Self {
        let conditions = service_conditions(service);
        let find = |type_: &str| condition(conditions, type_);
        let is = |type_: &str, status: &str| find(type_).filter(|found| found.status() == status);
        let of = |state, found: Option<&fairlead_crds::conditions::RawCondition>| {
            let reason = found.map(|found| found.reason().to_owned()).unwrap_or_default();
            let message = found.map(|found| found.message().to_owned()).unwrap_or_default();
            (state, reason, message, found.and_then(|found| found.last_transition_time()))
        };
        let own = |state, reason: &str, message: String| (state, reason.to_owned(), message, None);
        let (state, reason, message, since) = if balancer.ingress.is_empty() {
            match is(ALLOCATED, "False") {
                Some(refused) => of(ServiceState::Pending, Some(refused)),
                None => own(ServiceState::Pending, "NotReconciled", not_reconciled(snapshot)),
            }
        } else if let Some(uncovered) = is(COVERED, "False") {
            of(ServiceState::NotCovered, Some(uncovered))
        } else if let Some(silent) = is(ADVERTISED, "False") {
            let is_uncovered = silent.reason() == "NoAdvertisement";
            let state = if is_uncovered { ServiceState::NotCovered } else { ServiceState::NotAnnounced };
            of(state, Some(silent))
        } else if !is_any_live && !snapshot.is_unread("speakers") {
            let message = "no speaker is ready, so no node announces the addresses".to_owned();
            own(ServiceState::NotAnnounced, "NoSpeaker", message)
        } else if let Some(conflict) = is(STATUS_CONFLICT, "True") {
            of(ServiceState::Conflict, Some(conflict))
        } else {
            match is(ADVERTISED, "True") {
                Some(announced) => of(ServiceState::Announced, Some(announced)),
                None => of(ServiceState::Allocated, find(ALLOCATED)),
            }
        };
        Self {
            namespace: balancer.key.namespace.clone(),
            name: balancer.key.name.clone(),
            state,
            reason,
            message,
            addresses: balancer.ingress.clone(),
            pool: balancer.allocated_from.clone(),
            since,
        }
    }
}

/// Returns the state of every Service of the instance.
pub(crate) fn all(snapshot: &Snapshot) -> Vec<ServiceStatus> {
    let is_any_live = !snapshot.live_nodes().is_empty();
    let shown = snapshot.balancers().filter(|(_, balancer)| snapshot.shows(&balancer.key.namespace));
    shown
        .map(|(service, balancer)| ServiceStatus::with_live(snapshot, service, &balancer, is_any_live))
        .collect()
}

/// Explains why the controller has not written the condition `fairlead.dev/Allocated`.
pub(crate) fn not_reconciled(snapshot: &Snapshot) -> String {
    let why = snapshot.leader.problem(&snapshot.instance.namespace, snapshot.now);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("no controller has written the status of this Service{why}")
}
