//! Decides which addresses this node announces, by which protocol, and why it does not announce the others.
//!
//! [`Plan`] decides from plain values: Services, EndpointSlices, Nodes, the configuration, the live
//! speakers and the interfaces of this node. It has no I/O and no clock. Its parts own their state; each is
//! in the file of its name:
//!
//! | part | holds |
//! |---|---|
//! | `Nodes`, `Services`, `Endpoints` | the objects, trimmed, and the indexes to find them |
//! | `DirtySet` | what changed since the last call of [`Plan::changes`] |
//! | `Drain` | whether this node is being drained, and how far that is |
//! | `Candidates` | the nodes that can own L2 addresses, and on which interfaces |
//! | `Election` | the owner of each L2 address, the L2 announcements of this node |
//! | `Routes` | the prefixes that Services request, their weights |
//! | `Holds` | the addresses whose routes wait for the data path, or after a withdrawal |
//! | `OpenPeers` | the open sessions, the routes announced over each |
//! | `AnnouncementStates` | for each address, whether it is announced or why not; the problems to report |
//!
//! ```text
//! apply_*, delete_*, reset_* ─▶ Nodes, Services, Endpoints ─▶ DirtySet ─┐
//! set_config, set_live, set_links, set_interfaces, set_time ▶ DirtySet ─┤
//!                                                                       ▼
//!                     changes() ◀─ ChangeList ◀─ Election, Routes ◀─ ClusterView
//!                    problems() ◀─ AnnouncementStates ◀──┘
//! ```
//!
//! The verbs only store their argument and mark what depends on it. [`Plan::changes`] recomputes what is
//! marked, in this order, and returns the difference to what was announced before:
//!
//! 1. `Election::find_candidates`, which may mark addresses;
//! 2. `Routes::select_peers`, which may mark all Services and prefixes;
//! 3. `Routes::request` for each marked Service, which may mark prefixes;
//! 4. `Routes::merge` for each marked prefix;
//! 5. `Election::elect` for each marked address.
//!
//! The changes are ordered: what is new is announced before what is old is withdrawn. A burst of events is
//! computed once, and an event costs what it changes:
//!
//! | event | recomputed |
//! |---|---|
//! | Service, EndpointSlice | the routes of that Service, the owners of its addresses |
//! | another node dies | the owners of the addresses that it owned |
//! | another node joins or changes its labels | the owners of all L2 addresses |
//! | an interface of a node comes | the owners of the addresses that the node can announce there |
//! | an interface of a node goes | the owners of the addresses that the node owned |
//! | labels or exclusion of this node | everything |
//! | pool, advertisement | the addresses in the ranges that it covers |
//! | answer of the data path | the routes of the Services for which it is ready now |
//! | peer: parameters of an open session | nothing |
//! | peer: name or address families | the routes of that peer, the state of every address |
//! | peer: new, deleted, or selected otherwise | the same |
//!
//! Beside the plan, [`membership_gate`] decides when to act on the mesh's view of the other speakers,
//! [`node_status`] builds the status of the `Speaker` object, [`speaker_object`] decides when to write it,
//! [`silent_speakers`] which speakers of other nodes this one reports, [`occurrences`] what Events say, and
//! [`event_queue`] and [`bfd_lateness`] when they are sent.

#![forbid(unsafe_code)]

pub mod announced_lists;
pub mod bfd_lateness;
mod candidates;
mod change;
mod config_diff;
pub mod conflicts;
mod data_path;
mod dirty;
mod drain;
mod election;
mod endpoints;
pub mod event_queue;
mod first_claims;
mod holds;
mod input;
mod links;
pub mod membership_gate;
pub mod node_status;
mod nodes;
pub mod occurrences;
mod open_peers;
mod peer_edit;
mod plan;
mod rank;
mod reason;
mod route_attributes;
mod routes;
mod services;
pub mod silent_speakers;
pub mod speaker_object;
mod states;
mod takeover;
#[cfg(test)]
mod tests;
pub mod trim;
mod turns;
mod view;
mod weights;
pub mod write_pace;

pub use candidates::NodeInterfaces;
pub use change::{AnnouncementChange, AnnouncementState};
pub use data_path::{FamilyProgress, ProbeAnswer, ProxyProgress, WallClock};
pub use drain::DrainPhase;
pub use input::{DrainCause, EndpointNodes, Node, NodeName, Service, Slice, SliceKey};
pub use links::{LinkNetwork, LinkNetworks};
pub use peer_edit::PeerEdit;
pub use plan::Plan;
pub use reason::{NotAnnouncedReason, Protocol};
pub use states::Problem;
pub use takeover::{Takeover, TakeoverCause};
pub use turns::LAST_TURN;
