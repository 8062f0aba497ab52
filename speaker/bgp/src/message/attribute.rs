//! Path attributes (RFC 4271 §4.3 and §5) and their encoding.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::as_path::{AS_TRANS, AsPath};
use super::header::with_length_u16;
use super::prefix;
use crate::{Community, ExtendedCommunity, Family, LargeCommunity, Origin};

/// Path attribute type codes.
#[allow(missing_docs, reason = "the names are those of the IANA registry")]
pub mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const LARGE_COMMUNITY: u8 = 32;
}

/// Attribute flags (RFC 4271 §4.3).
pub(super) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
    /// Well-known, mandatory or discretionary.
    pub(crate) const WELL_KNOWN: u8 = TRANSITIVE;
    pub(crate) const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
    pub(crate) const OPTIONAL_NON_TRANSITIVE: u8 = OPTIONAL;
}

/// Path attributes of an UPDATE. Attributes without a field here are checked, if the type is recognized, and
/// dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the attributes")]
pub struct PathAttributes {
    pub origin: Option<Origin>,
    pub as_path: Option<AsPath>,
    pub next_hop: Option<Ipv4Addr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS number and BGP Identifier.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<Community>,
    /// MP_REACH_NLRI (RFC 4760 §3) of a [`Family`].
    pub mp_reach: Option<MpReach>,
    /// MP_UNREACH_NLRI (RFC 4760 §4) of a [`Family`].
    pub mp_unreach: Option<MpUnreach>,
    /// EXTENDED_COMMUNITIES (RFC 4360).
    pub extended_communities: Vec<ExtendedCommunity>,
    /// AS4_PATH (RFC 6793 §3).
    pub as4_path: Option<AsPath>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
}

/// MP_REACH_NLRI: announced prefixes of a family and their next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MpReach {
    pub family: Family,
    pub next_hop: MpNextHop,
    pub nlri: Vec<IpNet>,
}

/// MP_UNREACH_NLRI: withdrawn prefixes of a family. Without prefixes it is the End-of-RIB marker (RFC 4724
/// §2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MpUnreach {
    pub family: Family,
    pub withdrawn: Vec<IpNet>,
}

/// Next hop of MP_REACH_NLRI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpNextHop {
    /// 4 octets.
    V4(Ipv4Addr),
    /// 16 octets; with IPv4 routes as RFC 8950 §3 defines.
    V6(Ipv6Addr),
    /// 32 octets: the global address, then the link-local one (RFC 2545 §3).
    V6WithLinkLocal(Ipv6Addr, Ipv6Addr),
}

impl MpNextHop {
    /// Returns the number of octets of the address or addresses.
    #[must_use]
    pub const fn encoded_length(self) -> u8 {
        match self {
            Self::V4(_) => 4,
            Self::V6(_) => 16,
            Self::V6WithLinkLocal(..) => 32,
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.push(self.encoded_length());
        match self {
            Self::V4(address) => out.extend_from_slice(&address.octets()),
            Self::V6(address) => out.extend_from_slice(&address.octets()),
            Self::V6WithLinkLocal(global, link_local) => {
                out.extend_from_slice(&global.octets());
                out.extend_from_slice(&link_local.octets());
            }
        }
    }
}

impl PathAttributes {
    /// Appends the attributes. The multiprotocol attributes come first (RFC 7606 §5.1), the others in the
    /// order of their type codes, so equal attributes have equal bytes. Towards a peer with two-octet AS
    /// numbers, AS4_PATH and AS4_AGGREGATOR are added if AS_PATH and AGGREGATOR lose AS numbers (RFC 6793
    /// §4.2.2).
    pub fn encode(&self, four_octet_as: bool, out: &mut Vec<u8>) {
        if let Some(unreach) = &self.mp_unreach {
            encode_mp_unreach(unreach.family, out, |out| {
                unreach.withdrawn.iter().for_each(|net| prefix::encode(net, out));
            });
        }
        if let Some(reach) = &self.mp_reach {
            encode_mp_reach(reach.family, reach.next_hop, out, |out| {
                reach.nlri.iter().for_each(|net| prefix::encode(net, out));
            });
        }
        if let Some(origin) = self.origin {
            attribute(flag::WELL_KNOWN, code::ORIGIN, &[origin.code()], out);
        }
        if let Some(path) = &self.as_path {
            encode_as_path(flag::WELL_KNOWN, code::AS_PATH, path, four_octet_as, out);
        }
        if let Some(next_hop) = self.next_hop {
            attribute(flag::WELL_KNOWN, code::NEXT_HOP, &next_hop.octets(), out);
        }
        if let Some(med) = self.med {
            attribute(flag::OPTIONAL_NON_TRANSITIVE, code::MULTI_EXIT_DISC, &med.to_be_bytes(), out);
        }
        if let Some(local_pref) = self.local_pref {
            attribute(flag::WELL_KNOWN, code::LOCAL_PREF, &local_pref.to_be_bytes(), out);
        }
        if self.atomic_aggregate {
            attribute(flag::WELL_KNOWN, code::ATOMIC_AGGREGATE, &[], out);
        }
        if let Some((asn, address)) = self.aggregator {
            let mut value = Vec::new();
            match u16::try_from(asn) {
                _ if four_octet_as => value.extend_from_slice(&asn.to_be_bytes()),
                Ok(asn) => value.extend_from_slice(&asn.to_be_bytes()),
                Err(_) => value.extend_from_slice(&AS_TRANS.to_be_bytes()),
            }
            value.extend_from_slice(&address.octets());
            attribute(flag::OPTIONAL_TRANSITIVE, code::AGGREGATOR, &value, out);
        }
        if !self.communities.is_empty() {
            let octets = |Community(asn, value): &Community| [asn.to_be_bytes(), value.to_be_bytes()];
            let value: Vec<u8> = self.communities.iter().flat_map(octets).flatten().collect();
            attribute(flag::OPTIONAL_TRANSITIVE, code::COMMUNITIES, &value, out);
        }
        if !self.extended_communities.is_empty() {
            let value: Vec<u8> = self.extended_communities.iter().flat_map(|community| community.0).collect();
            attribute(flag::OPTIONAL_TRANSITIVE, code::EXTENDED_COMMUNITIES, &value, out);
        }
        if let Some(path) = self.as4_path.as_ref().or_else(|| self.derived_as4_path(four_octet_as)) {
            encode_as_path(flag::OPTIONAL_TRANSITIVE, code::AS4_PATH, path, true, out);
        }
        if let Some((asn, address)) =
            self.aggregator.filter(|(asn, _)| !four_octet_as && u16::try_from(*asn).is_err())
        {
            let value = [asn.to_be_bytes(), address.octets()].concat();
            attribute(flag::OPTIONAL_TRANSITIVE, code::AS4_AGGREGATOR, &value, out);
        }
        if !self.large_communities.is_empty() {
            let octets = |LargeCommunity(a, b, c): &LargeCommunity| [*a, *b, *c].map(u32::to_be_bytes);
            let value: Vec<u8> = self.large_communities.iter().flat_map(octets).flatten().collect();
            attribute(flag::OPTIONAL_TRANSITIVE, code::LARGE_COMMUNITY, &value, out);
        }
    }

    fn derived_as4_path(&self, four_octet_as: bool) -> Option<&AsPath> {
        self.as_path.as_ref().filter(|path| !four_octet_as && path.needs_four_octets())
    }
}

fn encode_as_path(flags: u8, code: u8, path: &AsPath, four_octets: bool, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    path.encode(four_octets, &mut value);
    attribute(flags, code, &value, out);
}

/// Appends an attribute, with a two-octet length only if one octet does not suffice.
fn attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u8::try_from(value.len()) {
        out.extend_from_slice(&[flags, code, length]);
        out.extend_from_slice(value);
    } else {
        out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, code]);
        with_length_u16(out, |out| out.extend_from_slice(value));
    }
}

/// Returns the number of octets of MP_REACH_NLRI before its prefixes: attribute header, then AFI, SAFI, next
/// hop length, next hop and reserved octet.
pub(super) fn mp_reach_overhead(next_hop: MpNextHop) -> usize {
    4 + 5 + usize::from(next_hop.encoded_length())
}

/// Octets of MP_UNREACH_NLRI before its prefixes: attribute header, then AFI and SAFI.
pub(super) const MP_UNREACH_OVERHEAD: usize = 4 + 3;

/// Appends MP_REACH_NLRI with the prefixes that `write` appends.
pub(super) fn encode_mp_reach<R>(
    family: Family,
    next_hop: MpNextHop,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    out.extend_from_slice(&[flag::OPTIONAL_NON_TRANSITIVE | flag::EXTENDED_LENGTH, code::MP_REACH_NLRI]);
    with_length_u16(out, |out| {
        out.extend_from_slice(&family.afi().to_be_bytes());
        out.push(family.safi());
        next_hop.encode(out);
        out.push(0);
        write(out)
    })
}

/// Appends MP_UNREACH_NLRI with the prefixes that `write` appends.
pub(super) fn encode_mp_unreach<R>(
    family: Family,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    out.extend_from_slice(&[flag::OPTIONAL_NON_TRANSITIVE | flag::EXTENDED_LENGTH, code::MP_UNREACH_NLRI]);
    with_length_u16(out, |out| {
        out.extend_from_slice(&family.afi().to_be_bytes());
        out.push(family.safi());
        write(out)
    })
}
