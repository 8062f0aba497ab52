//! Address families that a session can carry.

use std::fmt;

use ipnet::IpNet;

/// An address family with its subsequent address family (RFC 4760 §5 and §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// All families, ordered by AFI.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// Returns the family of a prefix.
    #[must_use]
    pub const fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4Unicast,
            IpNet::V6(_) => Self::Ipv6Unicast,
        }
    }

    /// Address Family Identifier (AFI).
    #[must_use]
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast => 1,
            Self::Ipv6Unicast => 2,
        }
    }

    /// Subsequent Address Family Identifier (SAFI).
    #[must_use]
    pub const fn safi(self) -> u8 {
        1
    }

    /// Returns the family of an AFI and SAFI, or `None` if this crate does not carry it.
    #[must_use]
    pub const fn from_codes(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4Unicast),
            (2, 1) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "IPv4 unicast",
            Self::Ipv6Unicast => "IPv6 unicast",
        })
    }
}
