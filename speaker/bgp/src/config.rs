//! Parameters of a session.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::Family;

/// Shortest hold time other than zero (RFC 4271 §4.2).
const MIN_HOLD_TIME: Duration = Duration::from_secs(3);
/// Longest hold time in seconds: the field has 16 bits (RFC 4271 §4.2).
const MAX_HOLD_TIME: u64 = 65535;
/// Longest restart time in seconds: the field has 12 bits (RFC 4724 §3).
const MAX_RESTART_TIME: u64 = 4095;

/// Parameters of a session. A session adopts changes of [`SessionConfig::keepalive_time`] and
/// [`SessionConfig::connect_retry`] at once; a change of any other one needs a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS number towards this peer.
    pub local_asn: u32,
    /// The AS number that the peer must have.
    pub peer_asn: PeerAs,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Hold time that we offer: 0 (no KEEPALIVEs), or 3 s to 65535 s. The session uses the smaller of both
    /// sides' values (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// Time between KEEPALIVEs. `None`, or more than a third of the negotiated hold time, means that third.
    pub keepalive_time: Option<Duration>,
    /// Longest wait between connection attempts (ConnectRetryTime). The wait begins at 100 ms, or after an
    /// error of the protocol at 1 s, and doubles after each failure.
    pub connect_retry: Duration,
    /// Address families that we offer; not empty.
    pub families: BTreeSet<Family>,
    /// Restart time to offer with graceful restart (RFC 4724 §3), at most 4095 s; `None` offers no graceful
    /// restart. The peer then retains our routes while this process restarts. Announce all routes before
    /// [`crate::SessionInput::ManualStart`]: at the End-of-RIB the peer deletes every retained route that was
    /// not announced again.
    pub graceful_restart: Option<Duration>,
    /// True if the peer opens the connections: the session never connects.
    pub passive: bool,
    /// Until when a session that has not been established yet is one that this process had before it
    /// restarted: the peer may still retain its routes (Restart State bit, RFC 4724 §3). `None` if the
    /// process did not restart.
    pub restarting_until: Option<Instant>,
    /// Whether the node forwards packets as before the restart (Forwarding State bit, RFC 4724 §3). False
    /// after a reboot of the node.
    pub forwarding_preserved: bool,
}

/// Condition on the AS number of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAs {
    /// This AS number.
    Exactly(u32),
    /// Our own AS number: iBGP.
    Internal,
    /// Any AS number but our own: eBGP.
    External,
}

/// Addresses at which a peer reaches this node. A family without one is not advertised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Next hop of IPv4 routes.
    pub v4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes. Without [`NextHops::v4`] also of IPv4 routes, if RFC 8950 was negotiated.
    pub v6: Option<Ipv6Addr>,
    /// Link-local address of this node on a link that it shares with the peer (RFC 2545 §3). It is used
    /// without [`NextHops::v6`] too, as on an unnumbered link.
    pub link_local: Option<Ipv6Addr>,
    /// True if the session itself is between link-local addresses. IPv4 routes then have the IPv6 next hop if
    /// RFC 8950 was negotiated: the peer may have no IPv4 address on the link.
    pub over_link_local: bool,
}

/// Error in a [`SessionConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// AS 0 is reserved (RFC 7607).
    #[error("AS number 0 is reserved")]
    AsZero,
    /// The BGP Identifier must not be zero (RFC 6286 §2.1).
    #[error("router ID must not be 0.0.0.0")]
    RouterIdZero,
    /// The hold time is 1 s or 2 s, or exceeds the 16-bit field (RFC 4271 §4.2).
    #[error("hold time must be 0 or 3 s to 65535 s")]
    HoldTime,
    #[allow(missing_docs)]
    #[error("at least one address family is required")]
    NoFamily,
    /// The restart time exceeds the 12-bit field (RFC 4724 §3).
    #[error("graceful restart time must not exceed 4095 s")]
    RestartTime,
}

impl SessionConfig {
    /// Checks the limits of the protocol.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let hold = self.hold_time;
        if self.local_asn == 0 || self.peer_asn == PeerAs::Exactly(0) {
            Err(ConfigError::AsZero)
        } else if self.router_id.is_unspecified() {
            Err(ConfigError::RouterIdZero)
        } else if !hold.is_zero() && (hold < MIN_HOLD_TIME || hold.as_secs() > MAX_HOLD_TIME) {
            Err(ConfigError::HoldTime)
        } else if self.families.is_empty() {
            Err(ConfigError::NoFamily)
        } else if self.graceful_restart.is_some_and(|time| time.as_secs() > MAX_RESTART_TIME) {
            Err(ConfigError::RestartTime)
        } else {
            Ok(())
        }
    }
}
