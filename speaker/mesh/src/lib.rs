//! Which speakers are alive: SWIM without I/O.
//!
//! [`Mesh`] finds out which of the cluster's speakers are alive, without the API server in the path: the SWIM
//! protocol (by the library foca) over datagrams that are authenticated with HMAC-SHA256. It owns no socket
//! and no clock: datagrams and the time come in, datagrams to send and changes of membership come out.
//!
//! ```text
//! set_peers(now, who should be there) ─┐              ┌─▶ poll_transmit   datagrams to send
//! handle_datagram(now, bytes) ─────────┼──▶ Mesh ─────┼─▶ poll_event      speakers that came and went
//! handle_timeout(now) ─────────────────┘              └─▶ poll_timeout    when to call handle_timeout
//! ```

#![forbid(unsafe_code)]

mod authentication;
mod config;
mod foca_runtime;
mod identity;
mod mesh;

pub use config::Config;
pub use identity::Identity;
pub use mesh::{Counters, Mesh, MeshEvent};
