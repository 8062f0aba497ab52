//! A BGP-4 session without I/O: FSM, capabilities, UPDATE encoding, Adj-RIB-Out.
//!
//! A [`Session`] is one peering with one router. It owns no socket and no clock: its shell (the task that
//! owns the TCP connection) passes in bytes, connection changes and the time, and takes out events and bytes.
//! No call blocks.
//!
//! Routes are declarative. [`Session::announce`] and [`Session::withdraw`] set the routes that the peer
//! should have, in any state of the session. The session computes the difference to the routes that the peer
//! already has and sends only that difference. Messages are encoded when the shell pulls them, so a peer that
//! reads slowly costs no memory for messages that wait.
//!
//! # What goes in
//! - [`Session::handle_input`]: start and stop, connection results, received bytes ([`SessionInput`]).
//! - [`Session::handle_timeout`]: the passage of time.
//! - [`Session::announce`], [`Session::withdraw`], [`Session::set_next_hops`]: the routes to advertise.
//! - [`Session::set_keepalive_time`], [`Session::set_connect_retry`], [`Session::reconfigure`]: changed
//!   parameters.
//!
//! # What comes out
//! - [`Session::poll_event`]: what the shell must do or may report ([`SessionEvent`]).
//! - [`Session::poll_transmit`]: bytes for the socket.
//! - [`Session::poll_timeout`]: when to call [`Session::handle_timeout`] next.
//! - [`Session::accepts`], [`Session::poll_transmit_second`]: connections that the peer opens.
//! - [`Session::read_after`]: when to read next, if the peer sends too fast.
//! - [`Session::state`], [`Session::negotiated`], [`Session::withheld`], [`Session::statistics`]: what
//!   operators read.
//!
//! ```text
//! loop {
//!     while let Some(event) = session.poll_event() { Connect => dial, Close => flush and close, … }
//!     if writable { session.poll_transmit(now, 64 * 1024, &mut buffer); write(buffer) }
//!     wait for: socket readable, after session.read_after() | socket writable | new routes |
//!         session.poll_timeout()
//!     if readable { read at most 64 KiB; session.handle_input(now, …) }
//!     session.handle_timeout(now)
//!     let other tasks run
//! }
//! ```
//!
//! # Files and structures
//! - `config.rs`: [`SessionConfig`] and [`NextHops`], the parameters of a session.
//! - `attributes.rs`: [`Attributes`], the path attributes of an announced route. One value is shared by many
//!   routes.
//! - `community.rs`: [`Community`], [`ExtendedCommunity`], [`LargeCommunity`].
//! - `family.rs`: [`Family`], the address families that a session carries.
//! - `rib.rs`: `AdjRibOut`, one per session: for each family the routes that the peer should have, the routes
//!   that it has, and the difference in queues of buckets with equal attributes.
//! - `session/mod.rs`: [`Session`], one per peer: the functions listed above.
//!   - `fsm.rs`: state transitions (RFC 4271 §8), with the state diagram.
//!   - `second.rs`: the connections that a passive session accepts, and their collisions.
//!   - `event.rs`: inputs, events, states, negotiated parameters, statistics.
//!   - `parameters.rs`: changes of the parameters.
//!   - `open.rs`: our OPEN, and the checks on the peer's.
//!   - `timers.rs`: timers and their jitter.
//!   - `receive_rate.rs`: how fast a peer may send.
//!   - `outbox.rs`, `transmit.rs`, `advertise.rs`, `next_hop.rs`: which message comes next, and what an
//!     UPDATE contains.
//! - `message/`: the wire format, usable without a session: one file per message, and for each kind of path
//!   attribute the error handling of RFC 7606.
//! - `reason.rs`: [`DownReason`] and [`Withheld`], the texts that operators read.
//!
//! # Scope
//! Implemented: RFC 4271 with MP-BGP (RFC 4760, RFC 2545) for IPv4 and IPv6 unicast, four-octet AS numbers
//! (RFC 6793), route refresh (RFC 2918, RFC 7313), extended messages (RFC 8654), IPv4 routes with IPv6 next
//! hops (RFC 8950), graceful restart as the restarting speaker (RFC 4724), revised error handling (RFC 7606),
//! shutdown communication (RFC 9003), extended optional parameters (RFC 9072), the send hold timer (RFC 9687)
//! and peers without capabilities (RFC 5492 §3).
//!
//! A session opens connections, or, if it is passive, accepts them and resolves their collisions (RFC 4271
//! §6.8). It never does both.
//!
//! Left out on purpose: a session learns no routes: inbound UPDATEs are checked, counted and dropped.
#![forbid(unsafe_code)]

mod attributes;
mod community;
mod config;
mod family;
pub mod message;
mod reason;
mod rib;
mod session;

pub use attributes::{Attributes, AttributesTooLarge, Origin};
pub use community::{Community, ExtendedCommunity, LargeCommunity};
pub use config::{ConfigError, NextHops, PeerAs, SessionConfig};
pub use family::Family;
pub use message::notification::{CeaseSubcode, Notification};
pub use reason::{DownReason, Withheld};
pub use session::{
    EXPECTED_PREFIXES, FamilyStatus, MAX_MESSAGES_PER_SECOND, MAX_OCTETS_PER_SECOND, Negotiated, Session,
    SessionEvent, SessionInput, SessionState, Statistics,
};
