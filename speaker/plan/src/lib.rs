//! What this node announces, and why not the rest: a pure function of Services, endpoints, Nodes, configuration
//! and the live speakers, kept up to date by differences.
//!
//! [`Plan`] is an index with the verbs `apply_*`, `remove_*` and `reset_*` (a re-list). They only note what
//! changed; [`Plan::changes`] decides what follows from it and returns the difference to what was announced
//! before. So a burst of events is decided once, and an event costs what it touches:
//!
//! | event | recomputed |
//! |---|---|
//! | Service, EndpointSlice | that Service's routes, its addresses' owners |
//! | another node dies | the owners of the addresses that it owned |
//! | another node comes, changes labels | the owners of all L2 addresses |
//! | this node's labels, exclusion | everything |
//! | pool, advertisement | the addresses in the ranges that it covers |
//! | peer | that peer's routes |
//!
//! What is new is announced before what is old is withdrawn.

mod change;
mod config_diff;
mod decided;
mod election;
mod input;
pub mod membership_gate;
pub mod node_status;
mod plan;
mod problems;
mod rank;
mod reason;
mod routes;
pub mod speaker_object;
#[cfg(test)]
mod tests;

pub use change::{AnnouncementChange, AnnouncementState, Work};
pub use input::{Node, NodeName, Service, Slice, SliceKey};
pub use plan::Plan;
pub use problems::Problem;
pub use reason::{NotAnnouncedReason, Protocol};
