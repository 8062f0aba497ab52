//! What a session is told once.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::Family;

/// Parameters of a session. A change of any of them needs a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The AS number this peer sees.
    pub local_asn: u32,
    /// The AS number the peer must show.
    pub peer_asn: PeerAs,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Hold time offered: zero (no keepalives), or 3 s to 65535 s. The smaller of both sides' is used.
    pub hold_time: Duration,
    /// Time between keepalives; `None`, or more than a third of the negotiated hold time, means that third.
    pub keepalive_time: Option<Duration>,
    /// The longest wait between attempts to connect (ConnectRetryTime). Waits begin at one second and double.
    pub connect_retry: Duration,
    /// Families offered; not empty.
    pub families: BTreeSet<Family>,
    /// Offer graceful restart (RFC 4724) with this restart time, at most 4095 s: the peer then keeps our routes while
    /// this process restarts. Announce all routes before [`crate::SessionInput::ManualStart`], for what has not been
    /// announced when the session comes up is gone from the peer at the End-of-RIB.
    /// A process that wants its routes kept while it restarts drops its connections without
    /// [`crate::SessionInput::ManualStop`]: a Cease would withdraw them.
    pub graceful_restart: Option<Duration>,
}

/// What AS number a peer must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Exactly(u32),
    /// Ours, whatever it is: iBGP.
    Internal,
    /// Any but ours: eBGP.
    External,
}

/// The addresses under which a peer reaches this node. A family that has none is not announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// For IPv4 routes.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 routes, and for IPv4 routes without [`NextHops::v4`] where RFC 8950 has been negotiated.
    pub v6: Option<Ipv6Addr>,
    /// Our link-local address on a link shared with the peer (RFC 2545 §3); also usable without [`NextHops::v6`], as on
    /// an unnumbered link.
    pub link_local: Option<Ipv6Addr>,
}

/// Why a configuration cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// AS 0 is reserved (RFC 7607).
    #[error("AS number 0 cannot be used")]
    AsZero,
    /// The identifier must not be zero (RFC 6286).
    #[error("router ID 0.0.0.0 cannot be used")]
    RouterIdZero,
    /// One or two seconds, or more than the field holds (RFC 4271 §4.2).
    #[error("hold time must be 0 or 3 s to 65535 s")]
    HoldTime,
    /// Nothing could ever be announced.
    #[error("a session needs at least one address family")]
    NoFamily,
    /// More than the field holds (RFC 4724 §3).
    #[error("graceful restart time must be at most 4095 s")]
    RestartTime,
}

impl SessionConfig {
    /// Checks the limits that the protocol sets.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let hold = self.hold_time;
        if self.local_asn == 0 || self.peer_asn == PeerAs::Exactly(0) {
            Err(ConfigError::AsZero)
        } else if self.router_id.is_unspecified() {
            Err(ConfigError::RouterIdZero)
        } else if !hold.is_zero() && (hold < Duration::from_secs(3) || hold.as_secs() > 65535) {
            Err(ConfigError::HoldTime)
        } else if self.families.is_empty() {
            Err(ConfigError::NoFamily)
        } else if self.graceful_restart.is_some_and(|t| t.as_secs() > 4095) {
            Err(ConfigError::RestartTime)
        } else {
            Ok(())
        }
    }
}
