//! A BGP-4 session without I/O: FSM, capabilities, UPDATE encoding, Adj-RIB-Out.
//!
//! A [`Session`] is one peering with one router. It owns no socket and no clock: its shell tells it what
//! happened ([`Session::handle_input`], [`Session::handle_timeout`]) and when, and asks what to do
//! ([`Session::poll_event`]), what to write ([`Session::poll_transmit`]) and when to come back
//! ([`Session::poll_timeout`]). Every call returns at once.
//!
//! What the peer should know is said once, by [`Session::announce`] and [`Session::withdraw`], in whatever state
//! the session is; the session works out the difference to what the peer already knows and sends only that.
//! Bytes are made when the shell pulls them, so a slow peer costs no memory: what it has not read yet is merely
//! a difference that waits.
//!
//! ```text
//! loop {
//!     while let Some(event) = session.poll_event() { Connect => dial, Close => flush what is left and close, … }
//!     if writable { session.poll_transmit(now, 64 * 1024, &mut buffer); write(buffer) }
//!     wait for: socket readable | socket writable | new routes | session.poll_timeout()
//!     session.handle_input(now, …) or session.handle_timeout(now)
//! }
//! ```
//!
//! What it implements: RFC 4271 with MP-BGP (RFC 4760, 2545) for IPv4 and IPv6 unicast, four-octet AS numbers (RFC
//! 6793), route refresh (RFC 2918), extended messages (RFC 8654), IPv4 over IPv6 next hops (RFC 8950), graceful restart as
//! the restarting speaker (RFC 4724), revised error handling (RFC 7606), shutdown communication (RFC 9003), extended
//! optional parameters (RFC 9072, receiving) and the send hold timer (RFC 9687).
//!
//! What it leaves out on purpose: it only opens connections and never accepts one, so there is no collision to detect
//! (RFC 4271 §6.8) and state Active is merely the wait for the next attempt; and it learns no routes: inbound
//! UPDATEs are checked, counted and dropped.
#![forbid(unsafe_code)]

mod attributes;
mod config;
mod family;
pub mod message;
mod reason;
mod rib;
mod session;

pub use attributes::{Attributes, AttributesTooLarge, Community, LargeCommunity, Origin};
pub use config::{ConfigError, NextHops, PeerAs, SessionConfig};
pub use family::Family;
pub use message::notification::{CeaseSubcode, Notification};
pub use reason::{DownReason, Withheld};
pub use session::{Negotiated, Session, SessionEvent, SessionInput, SessionState, Statistics};
