//! Path attributes that the shell sets on a route.

use std::collections::BTreeSet;

use crate::session::largest_update;
use crate::{Community, ExtendedCommunity, LargeCommunity};

/// Path attributes of an announced route. The session adds AS_PATH and the next hop, which depend on the
/// peer.
///
/// Routes with equal attributes share UPDATE messages, and should share one [`std::sync::Arc`] of this value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// ORIGIN (RFC 4271 §5.1.1).
    pub origin: Origin,
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4); `None` omits the attribute.
    pub med: Option<u32>,
    /// LOCAL_PREF (RFC 4271 §5.1.5), sent to iBGP peers only; `None` sends 100.
    pub local_pref: Option<u32>,
    /// Additional occurrences of our AS number in the AS_PATH (AS path prepending), at most
    /// [`Attributes::MAX_PREPEND`]. Sent to eBGP peers only: a router in our AS would take its own AS number
    /// in the path for a loop (RFC 4271 §9).
    pub as_path_prepend: u8,
    /// True to send AGGREGATOR (RFC 4271 §5.1.7) with our AS number and BGP Identifier.
    pub aggregator: bool,
    /// COMMUNITIES (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// EXTENDED_COMMUNITIES (RFC 4360).
    pub extended_communities: BTreeSet<ExtendedCommunity>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}

/// The attributes of a route do not fit into one UPDATE together with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the route needs an UPDATE of {octets} octets, but a message has at most {max}: use fewer communities"
)]
pub struct AttributesTooLarge {
    /// Length of the largest UPDATE that may be needed to announce the route.
    pub octets: usize,
    /// Length of the longest message without extended messages (RFC 4271 §4.1).
    pub max: usize,
}

impl Attributes {
    /// Largest useful value of [`Attributes::as_path_prepend`]. Routers rarely accept longer paths.
    pub const MAX_PREPEND: u8 = 10;

    /// Checks that an UPDATE of 4096 octets has room for the attributes and one prefix, on every session: the
    /// attributes are encoded as for the peer that needs the most octets.
    ///
    /// # Errors
    /// The attributes do not fit.
    pub fn check_size(&self) -> Result<(), AttributesTooLarge> {
        let (octets, max) = (largest_update(self), crate::message::MAX_LENGTH);
        if octets > max { Err(AttributesTooLarge { octets, max }) } else { Ok(()) }
    }
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned via EGP (RFC 904).
    Egp,
    /// Learned by some other means.
    Incomplete,
}

impl Origin {
    /// Returns the value on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// Returns the origin of a value on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}
