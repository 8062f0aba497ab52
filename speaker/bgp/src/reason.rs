//! Why something is not: a session that went down, a family that is not announced.

use std::fmt;

use crate::{Family, Notification};

/// Why a session left its state. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// [`crate::SessionInput::ManualStop`].
    Stopped,
    /// The TCP connection could not be made.
    ConnectFailed(String),
    /// The TCP connection was not made before the ConnectRetryTimer expired.
    ConnectTimedOut,
    /// The TCP connection ended without a NOTIFICATION.
    ConnectionClosed(String),
    /// Nothing came from the peer for the hold time.
    HoldTimerExpired,
    /// The peer took nothing from us for the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// The peer ended the session.
    Received(Notification),
    /// We ended the session, because of what the peer sent.
    Sent {
        /// What we told the peer.
        notification: Notification,
        /// What was wrong, in words.
        detail: String,
    },
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::ConnectFailed(why) => write!(f, "cannot connect: {why}"),
            Self::ConnectTimedOut => f.write_str("cannot connect: no answer"),
            Self::ConnectionClosed(why) if why.is_empty() => f.write_str("connection closed by the peer"),
            Self::ConnectionClosed(why) => write!(f, "connection lost: {why}"),
            Self::HoldTimerExpired => f.write_str("hold timer expired: nothing heard from the peer"),
            Self::SendHoldTimerExpired => f.write_str("send hold timer expired: the peer stopped reading"),
            Self::Received(notification) => write!(f, "peer sent NOTIFICATION {notification}"),
            Self::Sent { notification, detail } => write!(f, "sent NOTIFICATION {notification}: {detail}"),
        }
    }
}

/// Why the routes of a family are not announced on an established session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Our configuration does not offer the family on this session.
    NotConfigured(Family),
    /// The peer does not carry the family (no multiprotocol capability for it).
    NotNegotiated(Family),
    /// There is no next hop of the family, nor one that RFC 8950 would allow in its place.
    NoNextHop(Family),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured(family) => {
                write!(f, "{family} is not carried: the session is not configured for it")
            }
            Self::NotNegotiated(family) => write!(f, "{family} is not carried: the peer has not enabled it"),
            Self::NoNextHop(family) => {
                write!(f, "{family} is not carried: this node has no next hop for it towards the peer")
            }
        }
    }
}
