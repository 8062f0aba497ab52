//! Communities: standard, extended and large.

use std::fmt;

use crate::message::as_path::AS_TRANS;

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

/// EXTENDED_COMMUNITIES value as on the wire: type, subtype and six octets whose meaning depends on both (RFC
/// 4360 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// Type of a community with a two-octet AS number (RFC 4360 §3.1).
    const TWO_OCTET_AS: u8 = 0x00;
    /// Bit of the type: the community does not leave the AS that receives it (RFC 4360 §2).
    const NON_TRANSITIVE: u8 = 0x40;
    /// Subtype of the link bandwidth (draft-ietf-idr-link-bandwidth).
    const LINK_BANDWIDTH: u8 = 0x04;

    /// Returns a link bandwidth (draft-ietf-idr-link-bandwidth). The field for the AS number has two octets:
    /// AS_TRANS replaces a number that needs four.
    #[must_use]
    pub fn link_bandwidth(asn: u32, octets_per_second: f32, transitive: bool) -> Self {
        let non_transitive = if transitive { 0 } else { Self::NON_TRANSITIVE };
        let [a, b] = u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes();
        let [c, d, e, f] = octets_per_second.to_be_bytes();
        Self([Self::TWO_OCTET_AS | non_transitive, Self::LINK_BANDWIDTH, a, b, c, d, e, f])
    }

    /// Returns true for a link bandwidth, transitive or not.
    #[must_use]
    pub const fn is_link_bandwidth(self) -> bool {
        let [kind, subtype, ..] = self.0;
        kind & !Self::NON_TRANSITIVE == Self::TWO_OCTET_AS && subtype == Self::LINK_BANDWIDTH
    }
}
