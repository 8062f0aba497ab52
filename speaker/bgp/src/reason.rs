//! Texts for operators: why a session is down, and why a family is not advertised.

use std::fmt;

use crate::message::notification::code;
use crate::{CeaseSubcode, Family, Notification};

/// Reason why a session left a state. [`fmt::Display`] writes the text for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The shell stopped the session ([`crate::SessionInput::ManualStop`]).
    Stopped,
    /// The session got new parameters ([`crate::Session::reconfigure`]).
    Reconfigured,
    /// The TCP connection could not be established; the text gives the cause.
    ConnectFailed(String),
    /// The TCP connection was not established before the ConnectRetryTimer expired.
    ConnectTimedOut,
    /// The TCP connection ended without a NOTIFICATION. The text gives the cause; it is empty if the peer
    /// closed the connection.
    ConnectionClosed(String),
    /// No KEEPALIVE or UPDATE arrived within the hold time (RFC 4271 §6.5).
    HoldTimerExpired,
    /// The peer read nothing within the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// The peer restarted: it has opened another connection, and offers graceful restart (RFC 4724 §4.2).
    Replaced,
    /// The BFD session with the peer went Down; the text gives the cause.
    BfdDown(String),
    /// The peer sent a NOTIFICATION.
    Received(Notification),
    /// The peer violated the protocol, and the session sent a NOTIFICATION.
    Sent {
        #[allow(missing_docs)]
        notification: Notification,
        /// The error in words.
        detail: String,
    },
}

impl DownReason {
    /// The values of [`DownReason::kind`] for the end of an established session.
    pub const KINDS: [&str; 9] = [
        "stopped",
        "reconfigured",
        "connection-closed",
        "hold-timer-expired",
        "send-hold-timer-expired",
        "replaced",
        "bfd-down",
        "notification-received",
        "notification-sent",
    ];

    /// Returns the kind of the reason as a label of metrics, without the details.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Reconfigured => "reconfigured",
            Self::ConnectFailed(_) => "connect-failed",
            Self::ConnectTimedOut => "connect-timed-out",
            Self::ConnectionClosed(_) => "connection-closed",
            Self::HoldTimerExpired => "hold-timer-expired",
            Self::SendHoldTimerExpired => "send-hold-timer-expired",
            Self::Replaced => "replaced",
            Self::BfdDown(_) => "bfd-down",
            Self::Received(_) => "notification-received",
            Self::Sent { .. } => "notification-sent",
        }
    }

    /// Returns the NOTIFICATION that the session sent for this reason, as a text; `None` if it sent none.
    #[must_use]
    pub fn notification_sent(&self) -> Option<String> {
        let timer = |code| Some(Notification { code, subcode: 0, data: Vec::new() }.to_string());
        let bfd_down = || Notification::cease(CeaseSubcode::BfdDown, "").to_string();
        match self {
            Self::Sent { notification, detail } => Some(format!("{notification}: {detail}")),
            Self::HoldTimerExpired => timer(code::HOLD_TIMER_EXPIRED),
            Self::SendHoldTimerExpired => timer(code::SEND_HOLD_TIMER_EXPIRED),
            Self::BfdDown(_) => Some(bfd_down()),
            Self::Stopped
            | Self::Reconfigured
            | Self::ConnectFailed(_)
            | Self::ConnectTimedOut
            | Self::ConnectionClosed(_)
            | Self::Replaced
            | Self::Received(_) => None,
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Reconfigured => f.write_str("reconfigured"),
            Self::ConnectFailed(why) => write!(f, "connection attempt failed: {why}"),
            Self::ConnectTimedOut => f.write_str("connection attempt timed out"),
            Self::ConnectionClosed(why) if why.is_empty() => f.write_str("connection closed by the peer"),
            Self::ConnectionClosed(why) => write!(f, "connection lost: {why}"),
            Self::HoldTimerExpired => {
                f.write_str("hold timer expired: received no KEEPALIVE or UPDATE from the peer")
            }
            Self::SendHoldTimerExpired => {
                f.write_str("send hold timer expired: the peer stopped reading from the connection")
            }
            Self::Replaced => f.write_str("replaced by a new connection of the peer, which has restarted"),
            Self::BfdDown(why) => write!(f, "BFD session down: {why}"),
            Self::Received(notification) => write!(f, "peer sent NOTIFICATION {notification}"),
            Self::Sent { notification, detail } => write!(f, "sent NOTIFICATION {notification}: {detail}"),
        }
    }
}

/// Reason why an established session does not advertise the routes of a family. [`fmt::Display`] writes the
/// text for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The configuration does not offer the family on this session.
    NotConfigured(Family),
    /// The peer did not advertise the multiprotocol capability of the family (RFC 4760 §8).
    NotNegotiated(Family),
    /// The node has no next hop of the family, nor an IPv6 next hop that RFC 8950 permits in its place.
    NoNextHop(Family),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured(family) => {
                write!(f, "{family} routes are not advertised: the session is not configured for this family")
            }
            Self::NotNegotiated(family) => {
                write!(f, "{family} routes are not advertised: the peer did not negotiate this family")
            }
            Self::NoNextHop(family) => {
                write!(f, "{family} routes are not advertised: this node has no next hop to offer the peer")
            }
        }
    }
}
