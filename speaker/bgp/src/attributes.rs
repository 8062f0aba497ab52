//! Path attributes that the shell sets on a route.

use std::collections::BTreeSet;
use std::fmt;

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
    /// COMMUNITIES (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}

/// The communities of a route do not fit into one UPDATE together with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the communities of the route need {octets} octets; an UPDATE has room for {max}")]
pub struct AttributesTooLarge {
    /// Octets that the communities need.
    pub octets: usize,
    /// Octets that are available, [`Attributes::MAX_COMMUNITY_OCTETS`].
    pub max: usize,
}

impl Attributes {
    /// Octets available for communities: an UPDATE has 4096 octets (RFC 4271 §4.1), and header, other
    /// attributes, IPv6 next hops and one prefix need fewer than 256 of them.
    pub const MAX_COMMUNITY_OCTETS: usize = 3840;

    /// Checks that the communities fit into an UPDATE.
    pub(crate) fn check_size(&self) -> Result<(), AttributesTooLarge> {
        let octets = 4 * self.communities.len() + 12 * self.large_communities.len();
        if octets > Self::MAX_COMMUNITY_OCTETS {
            return Err(AttributesTooLarge { octets, max: Self::MAX_COMMUNITY_OCTETS });
        }
        Ok(())
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

/// COMMUNITIES value, written `asn:value` (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u16, pub u16);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326): peers prefer any other route, as this one is about to be withdrawn.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xFFFF, 0x0000);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xFFFF, 0xFF01);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// LARGE_COMMUNITY value, written `global:local1:local2` (RFC 8092 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}
