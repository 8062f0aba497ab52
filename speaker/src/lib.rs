//! Announces the addresses of Services from a node, by ARP, NDP and BGP.
//!
//! The crate `fairlead-plan` decides, from plain values, what this node announces and why not the rest. Everything else
//! is shell:
//!
//! ```text
//! watches ─▶ cluster_state ─▶ plan ─▶ tasks::l2 ─▶ ARP, NDP
//! mesh, links ─────┘           │ └──▶ tasks::bgp ─▶ one task per peer
//!                              └────▶ node status ─▶ tasks::speaker_object ─▶ the Speaker object
//! ```

#![forbid(unsafe_code)]

pub mod cluster_state;
mod coordinator;
mod excluded_interfaces;
pub mod flags;
mod metrics;
mod run;
mod tasks;
pub mod trim;
pub mod watches;

pub use run::run;
