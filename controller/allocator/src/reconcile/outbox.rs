//! The outputs of the index: decisions, pools whose counts changed, and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::claim_status::ClaimPatch;
use super::departed::DepartedService;
use super::outcome::AllocationReason;
use super::status::{ServiceEvent, StatusPatch};

/// An action for the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The newest decision on the status of a Service. It replaces all earlier ones that were not sent.
    Status {
        /// The Service.
        service: ObjectKey,
        /// The patch to send; `None` if nothing is to be written.
        patch: Option<Box<StatusPatch>>,
    },
    /// The newest decision on the status of a claim. It replaces all earlier ones that were not sent.
    Claim {
        /// The claim.
        claim: ObjectKey,
        /// The patch to send; `None` if nothing is to be written.
        patch: Option<Box<ClaimPatch>>,
    },
    /// A Service that carries statuses of this controller is no longer one of its load balancers. It was
    /// deleted, or has another type or class; then the statuses are to be removed.
    Departed(Box<DepartedService>),
    /// An Event to emit.
    Event(Box<ServiceEvent>),
}

/// Counters since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Number of Services reconciled. An input reconciles one Service and those that wait for what it frees.
    pub evaluations: u64,
    /// Number of Services that got an address they did not hold before.
    pub allocations: u64,
    /// Number of refusals, by reason. A refusal that stays the same counts once.
    pub failures: BTreeMap<AllocationReason, u64>,
    /// Number of times that another program replaced the status of a Service.
    pub status_replacements: u64,
}

/// Outputs that the caller has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    decisions: Vec<Decision>,
    touched_pools: BTreeSet<Arc<str>>,
    counters: Counters,
}

impl Outbox {
    /// Adds the status of a Service.
    pub(super) fn push_status(&mut self, service: ObjectKey, patch: Option<StatusPatch>) {
        self.decisions.push(Decision::Status { service, patch: patch.map(Box::new) });
    }

    /// Adds the status of a claim.
    pub(super) fn push_claim(&mut self, claim: ObjectKey, patch: Option<ClaimPatch>) {
        self.decisions.push(Decision::Claim { claim, patch: patch.map(Box::new) });
    }

    /// Adds a Service that is no longer a load balancer of this controller.
    pub(super) fn push_departed(&mut self, departed: DepartedService) {
        self.decisions.push(Decision::Departed(Box::new(departed)));
    }

    /// Adds Events.
    pub(super) fn push_events(&mut self, events: Vec<ServiceEvent>) {
        self.decisions.extend(events.into_iter().map(|event| Decision::Event(Box::new(event))));
    }

    /// Records that the counts of these pools may have changed.
    pub(super) fn touch_pools(&mut self, pools: impl IntoIterator<Item = Arc<str>>) {
        self.touched_pools.extend(pools);
    }

    /// Counts a reconciliation of a Service.
    pub(super) fn count_evaluation(&mut self) {
        self.counters.evaluations += 1;
    }

    /// Counts a Service that got an address.
    pub(super) fn count_allocation(&mut self) {
        self.counters.allocations += 1;
    }

    /// Counts that another program replaced the status of a Service.
    pub(super) fn count_status_replacement(&mut self) {
        self.counters.status_replacements += 1;
    }

    /// Counts a refusal.
    pub(super) fn count_failure(&mut self, reason: AllocationReason) {
        *self.counters.failures.entry(reason).or_default() += 1;
    }

    /// Removes and returns the decisions, in order.
    pub(super) fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// Removes and returns the pools whose counts may have changed.
    pub(super) fn take_touched_pools(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.touched_pools)
    }

    /// Drops decisions and touched pools, but keeps the counters.
    pub(super) fn discard(&mut self) {
        self.decisions.clear();
        self.touched_pools.clear();
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
}
