//! What goes into a session and what comes out of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::{CeaseSubcode, DownReason, Family, NextHops};

/// What happened, as the shell saw it. (Timers have a door of their own, [`crate::Session::handle_timeout`].)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionInput<'a> {
    /// Bring the session up and keep it up.
    ManualStart,
    /// Event 2: take the session down and keep it down until the next [`SessionInput::ManualStart`].
    ///
    /// An established session first withdraws all routes and then sends a Cease, so it stays in
    /// [`SessionState::Established`] until the peer has read the withdrawals, 800 ms at most. If this process restarts
    /// ([`CeaseSubcode::AdministrativeShutdown`]) and both sides negotiated graceful restart, the session leaves its
    /// routes to the peer instead: see [`SessionEvent::CloseForRestart`].
    ManualStop {
        /// Subcode of the Cease (RFC 4486).
        subcode: CeaseSubcode,
        /// Shutdown communication (RFC 9003). Sent with the subcodes that carry a text, truncated to 255 octets.
        text: String,
    },
    /// The connection asked for by [`SessionEvent::Connect`] stands.
    Connected {
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
        /// Where this peer reaches us.
        next_hops: NextHops,
    },
    /// The connection asked for by [`SessionEvent::Connect`] could not be made.
    ConnectFailed {
        /// Why, for the operator.
        reason: String,
    },
    /// The connection ended: the peer closed it (empty reason) or it broke.
    ConnectionClosed {
        /// Why, for the operator.
        reason: String,
    },
    /// Bytes came, in any portions.
    Received(&'a [u8]),
}

/// What the shell must do or may want to know, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Open a TCP connection to the peer, and report [`SessionInput::Connected`] or [`SessionInput::ConnectFailed`].
    Connect,
    /// Close the connection or abandon the attempt to make one. First write what
    /// [`crate::Session::poll_transmit`] still has (a NOTIFICATION at most), as far as the socket takes it without waiting.
    /// Report nothing about this connection any more.
    Close,
    /// Close the connection and write nothing more, not even bytes already pulled. Without a NOTIFICATION the peer
    /// retains the routes for the restart time (RFC 4724 §4).
    CloseForRestart,
    /// The session is up.
    Established(Negotiated),
    /// The session left `from` for the reason given. It comes back by itself, except from
    /// [`DownReason::Stopped`].
    Down {
        /// The state it was in.
        from: SessionState,
        /// Why.
        reason: DownReason,
    },
}

/// State of the FSM (RFC 4271 §8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// Stopped, or waiting after an error (IdleHoldTimer).
    Idle,
    /// A connection is being made.
    Connect,
    /// The last attempt to connect failed, the next waits for the ConnectRetryTimer.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN is accepted, its KEEPALIVE is not here yet.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS number.
    pub peer_asn: u32,
    /// The peer's BGP Identifier.
    pub peer_router_id: Ipv4Addr,
    /// The peer's AS is another than ours.
    pub ebgp: bool,
    /// Hold time in force; zero means none.
    pub hold_time: Duration,
    /// Time between our keepalives, before jitter; zero means none are sent.
    pub keepalive_time: Duration,
    /// Families both sides carry.
    pub families: BTreeSet<Family>,
    /// AS numbers are four octets on the wire (RFC 6793).
    pub four_octet_as: bool,
    /// UPDATEs may be longer than 4096 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// The peer keeps our routes while we restart (RFC 4724); its own restart time otherwise.
    pub graceful_restart: Option<Duration>,
}

/// Counters since the session was made; they survive reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Times the session reached Established ("Connections established" in FRR).
    pub established: u64,
    /// Times the session left Established ("dropped" in FRR).
    pub dropped: u64,
    /// UPDATE messages sent.
    pub updates_sent: u64,
    /// UPDATE messages received.
    pub updates_received: u64,
    /// NOTIFICATION messages sent.
    pub notifications_sent: u64,
    /// NOTIFICATION messages received.
    pub notifications_received: u64,
    /// Prefixes that the peer announced. All are dropped: this speaker learns no routes.
    pub prefixes_received: u64,
    /// UPDATE messages received with an error that does not reset the session (RFC 7606): treat-as-withdraw,
    /// attribute discard or AFI/SAFI disable.
    pub updates_malformed: u64,
}
