//! Parameters of a session.

use std::fmt;
use std::time::Duration;

/// Bound on intervals: the fields of a packet have 32 bits of microseconds.
const MAX_INTERVAL: Duration = Duration::from_micros(u32::MAX as u64);

/// Parameters of a session. The names in parentheses are those of RFC 5880 §6.8.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Whether the session sends packets before it receives any.
    pub role: Role,
    /// Minimum interval between periodic packets that this system prefers to send while the session is Up,
    /// above zero (bfd.DesiredMinTxInterval). Unless the session is Up, the interval is at least 1 s.
    pub desired_min_tx: Duration,
    /// Minimum interval between received packets that this system supports, above zero
    /// (bfd.RequiredMinRxInterval).
    pub required_min_rx: Duration,
    /// Number of packets that the peer must miss before it declares the session down, at least 1
    /// (bfd.DetectMult).
    pub detect_multiplier: u8,
    /// Minimum interval between received Echo packets that this system loops back; zero forbids them. Must be
    /// zero on multihop sessions.
    pub required_min_echo_rx: Duration,
    /// Minimum TTL of packets of a multihop session, at least 1. A single-hop session requires 255 (RFC 5881
    /// §5).
    pub minimum_ttl: u8,
}

/// Whether the session begins to send packets (RFC 5880 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The session sends packets whether or not it receives any.
    Active,
    /// The session sends packets only while it receives packets from the peer.
    Passive,
}

/// Whether the peer is on a directly connected link. The two modes have UDP ports of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HopMode {
    /// RFC 5881, port 3784.
    Single,
    /// RFC 5883, port 4784.
    Multi,
}

impl fmt::Display for HopMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single-hop",
            Self::Multi => "multihop",
        })
    }
}

impl HopMode {
    /// Returns the UDP destination port of Control packets.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Single => 3784,
            Self::Multi => 4784,
        }
    }
}

/// Error in a [`SessionConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// RFC 5880 §4.1: zero is reserved.
    #[error("the transmit interval must not be zero")]
    TransmitIntervalZero,
    /// Zero requests that the peer send no periodic packets, so the session would always go down.
    #[error("the receive interval must not be zero")]
    ReceiveIntervalZero,
    /// An interval exceeds the 32-bit field of microseconds.
    #[error("intervals must not exceed 4294 s")]
    IntervalTooLong,
    /// RFC 5880 §4.1: zero is reserved.
    #[error("the detect multiplier must not be zero")]
    DetectMultiplierZero,
}

impl SessionConfig {
    /// Checks the limits of the protocol.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let intervals = [self.desired_min_tx, self.required_min_rx, self.required_min_echo_rx];
        if self.desired_min_tx < Duration::from_micros(1) {
            Err(ConfigError::TransmitIntervalZero)
        } else if self.required_min_rx < Duration::from_micros(1) {
            Err(ConfigError::ReceiveIntervalZero)
        } else if intervals.into_iter().any(|interval| interval > MAX_INTERVAL) {
            Err(ConfigError::IntervalTooLong)
        } else if self.detect_multiplier == 0 {
            Err(ConfigError::DetectMultiplierZero)
        } else {
            Ok(())
        }
    }
}
