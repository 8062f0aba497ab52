//! BFD sessions without I/O: RFC 5880 in asynchronous mode, over the encapsulations of RFC 5881 (single hop)
//! and RFC 5883 (multihop).
//!
//! A [`Session`] is one session with one peer. [`Sessions`] is the table of all sessions of a node: it
//! assigns received packets to sessions, and lets several users share a session. Neither owns a socket or a
//! clock: the shell passes in datagrams and the time, and takes out packets and events. No call blocks. While
//! a session is Up and nothing changes, no call allocates memory.
//!
//! ```text
//! loop {
//!     wait for: a socket readable | sessions.poll_timeout() | a change of configuration
//!     now = clock
//!     while let Some(transmit) = sessions.poll_transmit(now) { send }     // due packets first
//!     for each datagram in the sockets { sessions.handle_datagram(kernel arrival time, …) }
//!     sessions.handle_timeout(now)    // with the time before the sockets were drained
//!     while let Some(transmit) = sessions.poll_transmit(now) { send }     // answers, changes of state
//!     while let Some(event) = sessions.poll_event() { report }
//! }
//! ```
#![forbid(unsafe_code)]

mod config;
mod packet;
mod session;
mod table;

pub use config::{ConfigError, HopMode, Role, SessionConfig};
pub use packet::{ControlPacket, Diagnostic, Discard, DiscardCounters, PACKET_LENGTH, State};
pub use session::{Counters, Event, Session, View};
pub use table::{
    Datagram, MAX_SESSIONS, MAX_USERS, SessionKey, Sessions, TableError, TableEvent, Transmit, Users,
};
