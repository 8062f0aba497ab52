//! The fast failure detector without I/O: whether the kernels of other nodes answer ICMP echo requests.
//!
//! The kernel of a node answers echo requests in its network stack, also while no process of the node runs.
//! So a few unanswered requests show within 150 ms that a node is not there, where a protocol between
//! processes must wait for the slowest process that is alive.
//!
//! [`Prober`] sends one request to every peer in each interval. It owns neither a socket nor a clock:
//!
//! ```text
//! loop {
//!     wait for: the sockets | prober.poll_timeout() | other peers
//!     for each reply in the sockets { prober.handle_reply(kernel arrival time, source, tick) }
//!     prober.handle_timeout(now)        // with the time before the sockets were drained
//!     while let Some(request) = prober.poll_transmit() { send }
//!     prober.handle_sent(clock)         // the requests have left
//!     report prober.silences()
//! }
//! ```
//!
//! # Rules
//!
//! - **The lateness of this node is nobody's silence.** A request counts as missed only if this node looked
//!   for the reply on time. A request that was not sent is not missed.
//! - **If nobody answers, this node may be cut off.** A missed request counts against a peer only if another
//!   peer answered a request of the same interval ([`Silence::witnessed`]). After two intervals without any
//!   answer the counts begin at zero. Silence of all peers is reported, but not as witnessed.
//! - **A peer that never answered proves nothing**: a firewall may drop its ICMP packets. It is asked once a
//!   second, as is a peer that has not answered for ten seconds.
//! - **A wrong verdict costs speed.** If a peer answers within two seconds after the verdict, twice as many
//!   missed requests are required of it for ten minutes.
//! - **Silence is not death.** The caller compares the verdict with what it receives from the process.
//!
//! Up to 16 nodes, each probes all others. In a larger cluster, four nodes watch each node ([`watched_by`]).
//! A node sends at most 200 requests per second.
#![forbid(unsafe_code)]

mod detection;
mod packet;
mod peer;
mod prober;
mod watchers;

pub use detection::{Detection, InvalidDetection, Timing};
pub use packet::{ECHO_LENGTH, EchoIdentity};
pub use peer::Silence;
pub use prober::{Counters, EchoRequest, Prober};
pub use watchers::{ALL_PAIRS, WATCHERS, watched_by};
