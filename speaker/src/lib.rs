//! The speaker: announces the addresses of Services from one node, by ARP, NDP and BGP.
//!
//! The crate `fairlead-plan` decides what this node announces, and why it does not announce the rest. This
//! crate owns the I/O: watches, sockets, timers and writes. `run.rs` lists its tasks.
//!
//! ```text
//! watches ──────▶ coordinator ──▶ plan ─┬─▶ tasks::l2 ─────────────▶ ARP, NDP
//! tasks::mesh ──────▲                   ├─▶ tasks::bgp ────────────▶ TCP, one task per peer
//! tasks::links ─────┘                   └─▶ tasks::speaker_object ─▶ Speaker object
//! ```

#![forbid(unsafe_code)]

mod cluster_state;
mod coordinator;
mod deletions;
mod excluded_interfaces;
pub mod flags;
mod mesh_link;
mod metrics;
mod run;
#[cfg(debug_assertions)]
mod stall;
mod tasks;
mod trim;
mod watches;

pub use run::run;
