//! Answers ARP and Neighbor Discovery requests for the addresses that this node announces on the local link
//! (RFC 826, RFC 4861), without I/O.
//!
//! [`Responder`] is the whole protocol as one value: it owns no socket and reads no clock. There is one per
//! speaker, for all interfaces and addresses.
//!
//! ```text
//! set_interface, remove_interface ────────────┐               ┌─▶ poll_transmit  frames and packets to send
//! announce, announce_all_again, withdraw,     ├─▶ Responder ──┼─▶ poll_event     groups to join and leave
//! hand_over, hand_over_all, set_quiet         │               ├─▶ poll_yielded   addresses that others have
//! handle_arp, handle_ndp, handle_timeout(now) ┘               └─▶ poll_timeout   next call of handle_timeout
//! ```
//!
//! After any call, the shell drains `poll_transmit`, `poll_event` and `poll_yielded` and reads `poll_timeout`
//! again.
//!
//! | file | contents |
//! |---|---|
//! | `responder.rs` | [`Responder`]: which address is announced on which interface, answers, defense, yielding |
//! | `schedule.rs` | when the unsolicited announcements of a take-over are due, and how many per 10 ms |
//! | `probing.rs` | which addresses are not announced yet, because another host may have them |
//! | `handover.rs` | until when this node answers for an address that another node takes over |
//! | `groups.rs` | solicited-node multicast groups of one interface |
//! | `interface.rs` | [`Interface`], [`InterfaceSet`] |
//! | `families.rs` | [`ServedFamilies`]: what an interface can announce |
//! | `output.rs` | [`Transmit`], [`GroupEvent`], [`Yielded`] |
//! | `arp.rs`, `ndp.rs` | the two packet formats |
//! | `inquiry.rs` | `inquiry`, [`answered`]: whether other hosts are there |
//! | `router_discovery.rs` | [`RouterDiscovery`]: the router on the link of an unnumbered BGP session |

#![forbid(unsafe_code)]

mod arp;
mod families;
mod groups;
mod handover;
mod inquiry;
mod interface;
mod ndp;
mod output;
mod probing;
mod responder;
mod router_discovery;
mod schedule;

pub use families::{MAX_SERVED_INTERFACES, ServedFamilies, ServedInterfaces};
pub use inquiry::{answered, inquiry};
pub use interface::{Interface, InterfaceSet, Mac};
pub use ndp::{ALL_NODES, NdpPacket, solicited_node};
pub use output::{Claim, Conflict, GroupEvent, OnConflict, Transmit, Yielded};
pub use responder::{AddressCounters, Responder};
pub use router_discovery::{ALL_ROUTERS, RouterDiscovery};
