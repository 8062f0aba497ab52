//! What the shell says about a route.

use std::collections::BTreeSet;
use std::fmt;

/// The attributes of an announced route. AS_PATH and NEXT_HOP are not among them: the session knows those.
///
/// Routes with equal attributes travel in the same UPDATE, so share one value between many routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// Where the route comes from.
    pub origin: Origin,
    /// MULTI_EXIT_DISC; not sent when `None`.
    pub med: Option<u32>,
    /// LOCAL_PREF, sent to iBGP peers only; `None` sends 100.
    pub local_pref: Option<u32>,
    /// COMMUNITIES (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}

/// More communities than one UPDATE can carry together with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the communities of one route take {octets} octets, an UPDATE has room for {max}")]
pub struct AttributesTooLarge {
    /// What they would take.
    pub octets: usize,
    /// What there is.
    pub max: usize,
}

impl Attributes {
    /// Room for communities in an UPDATE of 4096 octets, next to everything else that may be in it.
    pub const MAX_COMMUNITY_OCTETS: usize = 3840;

    /// Checks that an UPDATE has room for them.
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
    /// Learned by EGP (RFC 904).
    Egp,
    /// Learned by some other means.
    Incomplete,
}

impl Origin {
    /// The value on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// The origin of a value on the wire.
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

/// A community, `asn:value` (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u16, pub u16);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326): the route is about to go, prefer any other.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xFFFF, 0x0000);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xFFFF, 0xFF01);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// A large community, `global:local1:local2` (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}
