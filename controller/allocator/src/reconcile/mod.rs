//! What status each Service and each claim should have.
//!
//! [`Index`] follows Services, claims, Namespaces and the configuration by three verbs: applied, deleted, reset (a
//! complete list). After each it says what is to be written; with nothing to write it says nothing. It is pure: tests
//! feed it typed objects and look at the patches.
//!
//! It only takes note until it is told to begin, which is when this controller leads and everything was listed once:
//! only then is known who holds which address. First all held addresses are taken note of, then the rest is decided,
//! oldest first. From then on the index itself knows who holds what, and a status that says otherwise is put right.

mod claim_decision;
mod condition_digest;
pub mod explain;
mod index;
pub mod objects;
mod observed;
mod pool_evaluation;
pub mod pool_status_schedule;
pub mod pools;
mod retry;
mod service_decision;
mod service_records;
mod service_request;
mod status;
mod wait_queue;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Labels};
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use crate::ipam::{AllocationRequest, Holding, Ipam, Sharing};

pub use claim_decision::ClaimPatch;
pub use condition_digest::{Line, Said, Statement};
pub use observed::Observed;
pub use status::{AllocationReason, ServiceEvent, StatusPatch};

use claim_decision::ClaimRecord;
use service_records::Record;
use wait_queue::Waiting;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Index {
    listed: Listed,
    /// The first pass is done: it decides.
    deciding: bool,
    config: Config,
    namespaces: BTreeMap<String, Labels>,
    services: BTreeMap<ObjectKey, Box<Record>>,
    claims: BTreeMap<ObjectKey, ClaimRecord>,
    /// Claims by the Service that they are for.
    claims_of: BTreeMap<ObjectKey, BTreeSet<(i64, ObjectKey)>>,
    ipam: Ipam,
    waiting: Waiting,
    decisions: Vec<Decision>,
    /// Pools whose counts may have changed.
    touched: BTreeSet<Arc<str>>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    services: bool,
    claims: bool,
    namespaces: bool,
    config: bool,
}

/// What a Service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllocationOutcome {
    /// Nothing can be said yet.
    #[default]
    Undecided,
    /// It has addresses.
    Allocated {
        /// Which.
        holding: Holding,
        /// A pool of them that no advertisement covers for this Service.
        uncovered: Option<Arc<str>>,
        /// What it asks for cannot be understood, so it keeps what it has.
        invalid_request: Option<String>,
    },
    /// It has none.
    Refused {
        /// Why, in one word.
        reason: AllocationReason,
        /// Why, in a sentence.
        message: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The newest word on what is to be written to a Service. It replaces any earlier one that has not been sent.
    Status {
        /// The Service.
        service: ObjectKey,
        /// What to write; `None`: nothing.
        patch: Option<Box<StatusPatch>>,
    },
    /// The same for a claim.
    Claim {
        /// The claim.
        claim: ObjectKey,
        /// What to write; `None`: nothing.
        patch: Option<Box<ClaimPatch>>,
    },
    /// Something to tell whoever looks at the Service.
    Event(Box<ServiceEvent>),
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Services looked at. One event looks at one Service and at those that wait for what it frees.
    pub evaluations: u64,
    /// Services that got an address they did not have.
    pub allocations: u64,
    /// Services that were refused one, by reason; a refusal that stays the same counts once.
    pub failures: BTreeMap<AllocationReason, u64>,
}

impl Index {
    /// Whether everything was listed once.
    pub fn is_listed(&self) -> bool {
        let Listed { services, claims, namespaces, config } = self.listed;
        services && claims && namespaces && config
    }

    /// Whether it decides.
    pub fn is_deciding(&self) -> bool {
        self.deciding
    }

    /// Who holds what.
    pub fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many Services are known, and how many of them wait for an address.
    pub fn service_counts(&self) -> (usize, usize) {
        (self.services.len(), self.waiting.services())
    }

    /// The resourceVersion of a Service as last seen.
    pub fn version_of_service(&self, service: &ObjectKey) -> Option<&str> {
        self.services.get(service).map(|record| &*record.observed.balancer.resource_version)
    }

    /// The resourceVersion of a claim as last seen.
    pub fn version_of_claim(&self, claim: &ObjectKey) -> Option<&str> {
        self.claims.get(claim).map(|record| &*record.claim.resource_version)
    }

    /// What came out for a Service.
    pub fn outcome(&self, service: &ObjectKey) -> Option<&AllocationOutcome> {
        self.services.get(service).map(|record| &record.outcome)
    }

    /// What is to be done, in order.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// Pools whose counts may have changed since the last call.
    pub fn take_touched_pools(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.touched)
    }

    /// Whether, since the last call, an address was released that is kept for its last holder: a pool's status is to say
    /// so soon.
    pub fn take_newly_released(&mut self) -> bool {
        self.ipam.take_newly_released()
    }

    fn namespace_selectors(&self) -> impl Iterator<Item = &Selector> {
        let allocations = self.config.pools.values().filter_map(|pool| pool.allocation.as_ref());
        allocations.flat_map(|allocation| &allocation.namespace_selectors)
    }

    /// Whether labels of a namespace matter that was not seen yet. Deciding without them could put a Service into a pool
    /// where it then stays.
    fn is_blind(&self, namespace: &str) -> bool {
        !self.namespaces.contains_key(namespace) && self.namespace_selectors().next().is_some()
    }

    /// It is `now`, whatever happens next: what was kept for somebody only until now goes to whoever waits for it, not to
    /// who happens to come first.
    fn advance(&mut self, now: Timestamp) {
        let is_due = self.ipam.next_expiry().is_some_and(|due| due <= now);
        self.ipam.advance(now);
        if is_due {
            self.settle(now);
        }
    }
}

/// The facts of a Service that the allocator needs.
fn allocation_request<'a>(
    namespaces: &'a BTreeMap<String, Labels>,
    balancer: &'a LoadBalancer,
) -> AllocationRequest<'a> {
    AllocationRequest {
        service: &balancer.key,
        labels: &balancer.labels,
        namespace_labels: namespaces.get(&balancer.key.namespace),
        sharing: Sharing::of(balancer),
    }
}
