//! Detects which speakers are alive, without I/O and without the API server: SWIM (by the library foca) over
//! datagrams that are authenticated with HMAC-SHA256.
//!
//! [`Mesh`] is the whole protocol as one value: it owns no socket and reads no clock. There is one per
//! speaker.
//!
//! ```text
//! set_peers(now, listed speakers) ──┐             ┌─▶ poll_transmit  datagrams to send
//! handle_datagram(now, from, bytes) ┼──▶ Mesh ────┼─▶ poll_event     speakers that came up or went down,
//! handle_evidence, handle_refusal,  │             │                  and when evidence is needed
//! handle_silences, set_interfaces   │             │
//! handle_timeout(now), leave(now) ──┘             └─▶ poll_timeout   when to call handle_timeout
//! ```
//!
//! After any call, the shell drains `poll_transmit` and `poll_event` and reads `poll_timeout` again.
//!
//! | file | contents |
//! |---|---|
//! | `mesh.rs` | [`Mesh`]: members, missing peers, reported deaths, leaving |
//! | `foca_runtime.rs` | the side effects of foca as queues |
//! | `authentication.rs` | the datagram format |
//! | `config.rs` | [`Config`]: timing |
//! | `identity.rs` | [`Identity`]: one run of one speaker |
//! | `isolation.rs` | whether silence is the death of others or the isolation of this node |
//! | `reports.rs` | on which interfaces each speaker can announce addresses |
//! | `suspects.rs` | nodes whose kernel is silent or whose port is closed, until they are dead |

#![forbid(unsafe_code)]

mod authentication;
mod config;
mod foca_runtime;
mod identity;
mod isolation;
mod mesh;
mod reports;
mod suspects;

pub use config::Config;
pub use identity::Identity;
pub use isolation::{Evidence, IsolationCause};
pub use mesh::{Counters, Mesh, MeshEvent};
