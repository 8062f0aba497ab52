//! Announces the addresses of Services from a node, by ARP, NDP and BGP.
//!
//! [`plan`] decides, from plain values, what this node announces and why not the rest. Everything else is shell:
//!
//! ```text
//! watches ─▶ known ─▶ plan ─▶ engine::l2 ─▶ ARP, NDP
//! mesh, links ──┘      │ └──▶ engine::bgp ─▶ one task per peer
//!                      └────▶ status ─▶ writer ─▶ the Speaker object
//! ```

#![forbid(unsafe_code)]

mod decide;
mod engine;
pub mod flags;
mod interfaces;
pub mod known;
mod links;
pub mod liveness;
mod metrics;
pub mod plan;
mod run;
pub mod status;
pub mod trim;
pub mod watches;
mod writer;

pub use run::run;
