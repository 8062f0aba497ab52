//! Inputs and events of a session, its states, negotiated parameters and statistics.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::{CeaseSubcode, DownReason, Family, NextHops};

/// Input of [`crate::Session::handle_input`]: an administrative event, a TCP connection event or a received
/// message of RFC 4271 §8.1. Timers expire in [`crate::Session::handle_timeout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionInput<'a> {
    /// Event 1: bring the session up and keep it up.
    ManualStart,
    /// Event 2: take the session down and keep it down until the next [`SessionInput::ManualStart`].
    ///
    /// An established session first withdraws all routes and then sends a Cease, so it stays in
    /// [`SessionState::Established`] until the peer has read the withdrawals, 800 ms at most. With a drain
    /// time it first asks the peer to prefer other paths, and withdraws after that time. If this process
    /// restarts and both sides negotiated graceful restart, the session leaves its routes to the peer
    /// instead: see [`SessionEvent::CloseForRestart`].
    ManualStop {
        /// Subcode of the Cease (RFC 4486).
        subcode: CeaseSubcode,
        /// Shutdown communication (RFC 9003). Sent with the subcodes that carry a text, truncated to 255
        /// octets.
        text: String,
        /// True if this process restarts, so that the peer may retain the routes.
        restart: bool,
        /// Time for the peer to move traffic to other paths before the routes are withdrawn (RFC 8326).
        drain: Duration,
    },
    /// Start a connection attempt at once, in place of the current attempt or wait: the cause of the last
    /// failure may be gone. Ignored while there is a connection, or the session is stopped.
    ConnectNow,
    /// The BFD session with the peer (RFC 5880) changed to Up, or is Up when the session starts. The session
    /// connects at once.
    BfdUp,
    /// The BFD session changed from Up to Down: the path to the peer failed. Ends the session with Cease 6/10
    /// (RFC 9384), and lets it wait for [`SessionInput::BfdUp`].
    BfdDown {
        /// Cause, for the operator.
        reason: String,
    },
    /// BFD says nothing about the path any more: this node ended the BFD session, or the peer ended it or
    /// enabled it again. An established session remains (RFC 5882 §4.2).
    BfdReleased,
    /// The operator of the peer disabled BFD (AdminDown). An established session remains (RFC 5882 §4.2), and
    /// until the next input about BFD, also a session in strict mode connects (RFC 5882 §4.1).
    BfdDisabled,
    /// Events 16 and 17: the connection requested by [`SessionEvent::Connect`] is established.
    Connected {
        /// Local address and port.
        local: SocketAddr,
        /// Address and port of the peer.
        remote: SocketAddr,
        /// Addresses of this node as next hops for this peer.
        next_hops: NextHops,
    },
    /// Event 17 of a passive session: the peer has opened a connection. Pass it in only while
    /// [`crate::Session::accepts`]. If the session has a connection already, this one becomes the second
    /// one (RFC 4271 §6.8): pass in what it receives as [`SessionInput::SecondReceived`], and write what
    /// [`crate::Session::poll_transmit_second`] returns.
    Accepted {
        /// Local address and port.
        local: SocketAddr,
        /// Address and port of the peer.
        remote: SocketAddr,
        /// Addresses of this node as next hops for this peer.
        next_hops: NextHops,
    },
    /// Bytes of the second connection, in chunks of any size, while [`crate::Session::reads_second`].
    SecondReceived(&'a [u8]),
    /// The second connection ended.
    SecondClosed,
    /// Event 18: the connection requested by [`SessionEvent::Connect`] could not be established.
    ConnectFailed {
        /// Cause, for the operator.
        reason: String,
    },
    /// Event 18: an established connection ended.
    ConnectionClosed {
        /// Cause, for the operator; empty if the peer closed the connection.
        reason: String,
    },
    /// Bytes of the connection, in chunks of any size.
    Received(&'a [u8]),
}

/// Action for the shell, or a change of state that it may report. Events are in order of occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Open a TCP connection to the peer, and pass in [`SessionInput::Connected`] or
    /// [`SessionInput::ConnectFailed`].
    Connect,
    /// Close the connection, or cancel the attempt to establish one. First write what
    /// [`crate::Session::poll_transmit`] still returns (at most a NOTIFICATION), as far as the socket accepts
    /// it without blocking. Pass in no further input of this connection.
    Close,
    /// Close the connection without writing anything more, not even bytes that were already pulled. The peer
    /// retains the routes for the restart time, because it receives no NOTIFICATION (RFC 4724 §4.2).
    CloseForRestart,
    /// The second connection becomes the first one, and the first one, if it still exists, the second one.
    SwitchConnections,
    /// Close the second connection. First write what [`crate::Session::poll_transmit_second`] still returns,
    /// as far as the socket accepts it without blocking. Pass in no further input of this connection.
    CloseSecond,
    /// The peer of a passive session has not connected for 15 s. Reported once until it has.
    Unconnected,
    /// The session entered [`SessionState::Established`].
    Established(Negotiated),
    /// The session, or an attempt to establish it, ended. The session retries unless the reason is
    /// [`DownReason::Stopped`].
    Down {
        /// State before the end.
        from: SessionState,
        #[allow(missing_docs)]
        reason: DownReason,
    },
}

/// State of the FSM (RFC 4271 §8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// The session is stopped, or backs off after an error (IdleHoldTimer).
    Idle,
    /// A connection attempt is in progress.
    Connect,
    /// The last connection attempt failed; the next starts when the ConnectRetryTimer expires. A passive
    /// session waits for a connection of the peer.
    Active,
    /// The connection is established; the session waits for the OPEN of the peer.
    OpenSent,
    /// The session accepted the OPEN of the peer and waits for its first KEEPALIVE.
    OpenConfirm,
    /// The session advertises routes.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Parameters that both sides agreed on in their OPENs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// AS number of the peer.
    pub peer_asn: u32,
    /// BGP Identifier of the peer.
    pub peer_router_id: Ipv4Addr,
    /// True if the peer is in another AS.
    pub ebgp: bool,
    /// Hold time in use; zero disables the HoldTimer.
    pub hold_time: Duration,
    /// Time between our KEEPALIVEs, before jitter; zero sends none.
    pub keepalive_time: Duration,
    /// Address families that both sides offer.
    pub families: BTreeSet<Family>,
    /// True if AS_PATH has four-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// True if UPDATEs to the peer may be longer than 4096 octets (RFC 8654).
    pub extended_messages: bool,
    /// True if IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// True if the peer offers route refresh (RFC 2918).
    pub route_refresh: bool,
    /// True if both sides offer enhanced route refresh (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Restart time of the peer if it offers graceful restart (RFC 4724): such a peer retains our routes
    /// while this process restarts.
    pub graceful_restart: Option<Duration>,
    /// True if the peer retains our routes after a NOTIFICATION and an expired hold timer too (RFC 8538).
    pub graceful_notification: bool,
    /// Codes of the capabilities of the peer that have an invalid length and therefore count as not offered.
    pub malformed_capabilities: BTreeSet<u8>,
}

/// Counters since the session was created. Reconnecting does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Octets received, in all states.
    pub octets_received: u64,
    /// Messages received, of all types.
    pub messages_received: u64,
    /// Times the session reached Established ("Connections established" in FRR).
    pub established: u64,
    /// Times the session left Established ("dropped" in FRR).
    pub dropped: u64,
    /// Messages sent, of all types.
    pub messages_sent: u64,
    /// OPEN messages sent.
    pub opens_sent: u64,
    /// OPEN messages received that were well-formed.
    pub opens_received: u64,
    /// KEEPALIVE messages sent.
    pub keepalives_sent: u64,
    /// KEEPALIVE messages received.
    pub keepalives_received: u64,
    /// ROUTE-REFRESH messages received, of all subtypes.
    pub route_refreshes_received: u64,
    /// UPDATE messages sent.
    pub updates_sent: u64,
    /// UPDATE messages received.
    pub updates_received: u64,
    /// NOTIFICATION messages sent.
    pub notifications_sent: u64,
    /// NOTIFICATION messages received.
    pub notifications_received: u64,
    /// Prefixes that the peer announced. The session drops all of them.
    pub prefixes_received: u64,
    /// UPDATE messages received with an error that does not reset the session (RFC 7606): treat-as-withdraw,
    /// attribute discard or AFI/SAFI disable.
    pub updates_malformed: u64,
}
