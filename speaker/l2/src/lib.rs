//! ARP and NDP answering and gratuitous announcements, without I/O.
//!
//! [`Responder`] answers for the addresses this node announces on the local link (RFC 826, RFC 4861) and
//! tells the neighbours when it takes one over. It owns no socket and no clock: frames and the time come in,
//! frames to send and multicast groups to join come out. [`owner`] decides which node announces an address.
//!
//! ```text
//! set_interface / announce / withdraw ─┐                    ┌─▶ poll_transmit   frames and packets to send
//! handle_arp / handle_ndp(now, bytes) ─┼──▶ Responder ──────┼─▶ poll_event      groups to join and leave
//! handle_timeout(now) ─────────────────┘                    └─▶ poll_timeout    when to call handle_timeout
//! ```

#![forbid(unsafe_code)]

mod arp;
mod handover;
mod ndp;
mod owner;
mod responder;
mod schedule;

pub use ndp::{ALL_NODES, solicited_node};
pub use owner::{Candidate, owner, rank};
pub use responder::{Counters, Counts, Event, Interface, InterfaceSet, Mac, NdpPacket, Responder, Transmit};
