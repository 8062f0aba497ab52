//! The status that each Service and each IPClaim should have. Pure.
//!
//! In: Services, claims, Namespaces and the configuration, as the watches report them; the start and the end
//! of a term of leadership; resolved writes; the time. Out: [`Decision`]s (a patch, or none, for each
//! reconciled object, and Events), the pools whose counts changed, [`Counters`].
//!
//! The [`Index`] is a composite. Each part owns its fields, which are private to its file; the other files
//! contain functions over the parts:
//!
//! | part | contains |
//! |---|---|
//! | `index` | the inputs: what each one stores and reconciles |
//! | `sync_state` | the received lists, and whether this controller decides |
//! | `allocations` | the passes: the order in which objects are adopted, reconciled and retried |
//! | `service_records` | the observed Services, the last outcome of each, the addresses of in-doubt writes |
//! | `observed_claims` | the observed claims, the last refusal of each, the claims by Service |
//! | `namespaces` | the labels of Namespaces |
//! | `wait_queue` | the objects that lack an address, by the changes after which they are retried |
//! | `outbox` | the outputs that were not taken yet |
//! | [`ipam`](crate::ipam) | the holders, reservations and cool-downs of addresses |
//!
//! `service_request` parses what a Service asks for; `service_decision` and `claim_decision` decide on one
//! object; `external_write` resolves addresses that another controller or a user wrote; `pool_waiters`
//! selects the waiting objects that a change of pools concerns, `retry` orders them; `status` and
//! `claim_status` build patches. `write_conflicts` bounds the writes of claims and configuration objects that
//! another program replaces. `objects`, `pools` and `pool_status_schedule` contain the configuration
//! objects and their statuses. `departed` cleans up Services that left, and `removal`
//! describes the removal of Fairlead.
//!
//! Order of calls:
//!
//! 1. `services_reset`, `claims_reset`, `namespaces_reset`, [`Index::set_config`], in any order. Until
//!    [`Index::begin`], the index only stores what it observes.
//! 2. [`Index::begin`], when this controller leads and every kind was listed: adopts the held addresses of
//!    all objects, then reconciles the objects, the oldest first. Without all lists it could give a held
//!    address to another Service.
//! 3. Any number of inputs, then [`Index::take_decisions`] once. [`Index::write_resolved`] is an input like a
//!    watch event: the caller calls it when no write of a Service is queued, in flight or in doubt any more,
//!    and takes the resulting decisions with those of the other inputs.
//! 4. [`Index::step_down`], when the term ends.
//!
//! While the index decides, its own record of holders is authoritative, and a status that differs is
//! overwritten. `external_write` describes the exceptions.

pub(crate) mod allocations;
pub mod announcement;
mod claim_decision;
mod claim_status;
mod condition_digest;
mod cooldowns;
mod coverage;
mod departed;
mod displayed;
mod external_write;
mod finalizers;
mod health;
mod index;
mod left_objects;
mod namespaces;
mod object_events;
pub mod objects;
mod observed;
mod observed_claims;
mod outbox;
mod outcome;
pub(crate) mod pool_evaluation;
pub mod pool_status_schedule;
mod pool_waiters;
pub mod pools;
mod removal;
mod retry;
pub(crate) mod service_decision;
mod service_records;
pub(crate) mod service_request;
pub(crate) mod status;
mod status_conflict;
mod sync_state;
mod wait_queue;
pub mod write_conflicts;

#[cfg(test)]
mod tests;

pub use claim_status::ClaimPatch;
pub use condition_digest::{ConditionDigest, ConditionDigests, ServiceCondition};
pub use cooldowns::RecordedCooldown;
pub use departed::{DepartedService, MarkedService, Written, uninstall_patch};
pub use index::Index;
pub use object_events::{EventObject, ObjectEvent, ReportedProblems};
pub use observed::ObservedService;
pub use outbox::{Counters, Decision};
pub use outcome::{AllocationOutcome, AllocationReason};
pub use removal::Removal;
pub use status::{ServiceEvent, StatusPatch};
