//! Decoding of path attributes, with the error handling of RFC 7606.

use std::fmt;

use super::as_path::AsPath;
use super::attribute::{MpNextHop, MpReach, MpUnreach, PathAttributes, code, flag};
use super::error::MessageError;
use super::notification::code::UPDATE;
use super::prefix;
use super::reader::Reader;
use crate::{Community, ExtendedCommunity, Family, LargeCommunity, Origin};

/// Parameters of the session that the decoding of messages depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeContext {
    /// True if AS_PATH has four-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// True if the peer is in another AS.
    pub ebgp: bool,
    /// True if both sides offer enhanced route refresh (RFC 7313).
    pub enhanced_route_refresh: bool,
}

/// Error in a path attribute, by its consequence (RFC 7606 §2), weakest first. The text describes the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeError {
    /// "Attribute discard": the attribute is ignored.
    Discard(&'static str),
    /// "Treat-as-withdraw": all routes of the UPDATE count as withdrawn.
    TreatAsWithdraw(&'static str),
    /// "AFI/SAFI disable": the prefixes cannot be parsed, so the routes of the family are ignored.
    AfiSafiDisable(Family, &'static str),
    /// "Session reset".
    Reset(MessageError),
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discard(what) => write!(f, "{what} (attribute discard)"),
            Self::TreatAsWithdraw(what) => write!(f, "{what} (treat-as-withdraw)"),
            Self::AfiSafiDisable(family, what) => write!(f, "{what} ({family} routes ignored)"),
            Self::Reset(error) => write!(f, "{error}"),
        }
    }
}

/// Result of decoding the Path Attributes field.
#[derive(Debug, Default)]
pub(super) struct DecodedAttributes {
    pub attributes: PathAttributes,
    /// True if there were attributes other than MP_UNREACH_NLRI.
    pub announces: bool,
    /// True if there was an MP_REACH_NLRI of any family.
    pub reaches: bool,
    /// Errors in order. Repetitions beyond [`MAX_ERRORS`] are dropped.
    pub errors: Vec<AttributeError>,
}

/// Number of errors above which repetitions are dropped. An operator reads the first few, and a malformed
/// message can contain thousands.
const MAX_ERRORS: usize = 8;

impl DecodedAttributes {
    fn note(&mut self, error: AttributeError) -> Result<(), MessageError> {
        match error {
            AttributeError::Reset(error) => return Err(error),
            // A distinct error is always kept: it may change the meaning of the UPDATE.
            error if self.errors.len() < MAX_ERRORS || !self.errors.contains(&error) => {
                self.errors.push(error)
            }
            _ => {}
        }
        Ok(())
    }
}

/// Decodes the Path Attributes field.
pub(super) fn decode(bytes: &[u8], context: DecodeContext) -> Result<DecodedAttributes, MessageError> {
    let mut walk = DecodedAttributes::default();
    let mut seen = [false; 256];
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let whole = reader.rest();
        let Some((flags, code, value)) = next_attribute(&mut reader) else {
            walk.announces = true;
            walk.note(AttributeError::TreatAsWithdraw("a path attribute exceeds the attribute list"))?;
            break;
        };
        walk.announces |= code != code::MP_UNREACH_NLRI;
        walk.reaches |= code == code::MP_REACH_NLRI;
        if let Some(seen) = seen.get_mut(usize::from(code))
            && std::mem::replace(seen, true)
        {
            // RFC 7606 §3 (g).
            if matches!(code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                return Err(MessageError::new(UPDATE, 1, [], format!("path attribute {code} occurs twice")));
            }
            walk.note(AttributeError::Discard("a path attribute occurs twice"))?;
            continue;
        }
        match expected_flags(code) {
            Some(expected) if flags & flag::OPTIONAL_TRANSITIVE != expected => {
                walk.note(AttributeError::TreatAsWithdraw(
                    "attribute flags conflict with the attribute type",
                ))?;
            }
            None if flags & flag::OPTIONAL == 0 => {
                let attribute = &whole[..whole.len() - reader.len()];
                let detail = format!("unrecognized well-known attribute {code}");
                return Err(MessageError::new(UPDATE, 2, attribute, detail));
            }
            _ => {}
        }
        if let Err(error) = decode_value(code, value, context, &mut walk.attributes) {
            walk.note(error)?;
        }
    }
    Ok(walk)
}

fn next_attribute<'a>(reader: &mut Reader<'a>) -> Option<(u8, u8, &'a [u8])> {
    let flags = reader.u8()?;
    let code = reader.u8()?;
    let length =
        if flags & flag::EXTENDED_LENGTH != 0 { reader.u16()?.into() } else { usize::from(reader.u8()?) };
    Some((flags, code, reader.take(length)?))
}

/// Returns the Optional and Transitive bits of a recognized attribute.
const fn expected_flags(code: u8) -> Option<u8> {
    match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            Some(flag::WELL_KNOWN)
        }
        code::MULTI_EXIT_DISC
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH_NLRI
        | code::MP_UNREACH_NLRI => Some(flag::OPTIONAL_NON_TRANSITIVE),
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITY => Some(flag::OPTIONAL_TRANSITIVE),
        _ => None,
    }
}

fn decode_value(
    code: u8,
    value: &[u8],
    context: DecodeContext,
    attributes: &mut PathAttributes,
) -> Result<(), AttributeError> {
    use AttributeError::{Discard, TreatAsWithdraw};
    let mut reader = Reader::new(value);
    let number = |error| value.try_into().map(u32::from_be_bytes).map_err(|_| error);
    match code {
        // RFC 7606 §7.1
        code::ORIGIN => match value {
            [origin] => {
                let origin =
                    Origin::from_code(*origin).ok_or(TreatAsWithdraw("ORIGIN has an undefined value"))?;
                attributes.origin = Some(origin);
            }
            _ => return Err(TreatAsWithdraw("ORIGIN has an invalid length")),
        },
        // §7.2
        code::AS_PATH => {
            let path = AsPath::decode(context.four_octet_as, value).map_err(TreatAsWithdraw)?;
            attributes.as_path = Some(path);
        }
        // §7.3
        code::NEXT_HOP => match (reader.ipv4(), reader.is_empty()) {
            (Some(address), true) if is_unicast(address) => attributes.next_hop = Some(address),
            (Some(_), true) => return Err(TreatAsWithdraw("NEXT_HOP is not a valid unicast address")),
            _ => return Err(TreatAsWithdraw("NEXT_HOP has an invalid length")),
        },
        // §7.4
        code::MULTI_EXIT_DISC => {
            attributes.med = Some(number(TreatAsWithdraw("MULTI_EXIT_DISC has an invalid length"))?);
        }
        // §7.5
        code::LOCAL_PREF if context.ebgp => {
            return Err(Discard("LOCAL_PREF is not allowed from an eBGP peer"));
        }
        code::LOCAL_PREF => {
            attributes.local_pref = Some(number(TreatAsWithdraw("LOCAL_PREF has an invalid length"))?);
        }
        // §7.6
        code::ATOMIC_AGGREGATE if !value.is_empty() => {
            return Err(Discard("ATOMIC_AGGREGATE has an invalid length"));
        }
        code::ATOMIC_AGGREGATE => attributes.atomic_aggregate = true,
        // §7.7
        code::AGGREGATOR => {
            let asn = if context.four_octet_as { reader.u32() } else { reader.u16().map(u32::from) };
            match (asn, reader.ipv4(), reader.is_empty()) {
                (Some(asn), Some(address), true) => attributes.aggregator = Some((asn, address)),
                _ => return Err(Discard("AGGREGATOR has an invalid length")),
            }
        }
        // §7.8
        code::COMMUNITIES => match value.as_chunks::<4>() {
            (communities @ [_, ..], []) => {
                let community = |[a, b, c, d]: &[u8; 4]| {
                    Community(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
                };
                attributes.communities = communities.iter().map(community).collect();
            }
            _ => return Err(TreatAsWithdraw("COMMUNITIES has an invalid length")),
        },
        // §7.9, §7.10
        code::ORIGINATOR_ID | code::CLUSTER_LIST if context.ebgp => {
            return Err(Discard("ORIGINATOR_ID and CLUSTER_LIST are not allowed from an eBGP peer"));
        }
        code::ORIGINATOR_ID if value.len() != 4 => {
            return Err(TreatAsWithdraw("ORIGINATOR_ID has an invalid length"));
        }
        code::CLUSTER_LIST if value.is_empty() || !value.len().is_multiple_of(4) => {
            return Err(TreatAsWithdraw("CLUSTER_LIST has an invalid length"));
        }
        // §7.11, §7.12
        code::MP_REACH_NLRI => attributes.mp_reach = decode_mp_reach(reader)?,
        code::MP_UNREACH_NLRI => attributes.mp_unreach = decode_mp_unreach(reader)?,
        // §7.14
        code::EXTENDED_COMMUNITIES => match value.as_chunks::<8>() {
            (communities @ [_, ..], []) => {
                attributes.extended_communities =
                    communities.iter().copied().map(ExtendedCommunity).collect();
            }
            _ => return Err(TreatAsWithdraw("EXTENDED_COMMUNITIES has an invalid length")),
        },
        // RFC 6793 §4.1 and §6
        code::AS4_PATH | code::AS4_AGGREGATOR if context.four_octet_as => {
            return Err(Discard("AS4_PATH and AS4_AGGREGATOR are not allowed with four-octet AS numbers"));
        }
        code::AS4_PATH => attributes.as4_path = Some(AsPath::decode(true, value).map_err(Discard)?),
        code::AS4_AGGREGATOR if value.len() != 8 => {
            return Err(Discard("AS4_AGGREGATOR has an invalid length"));
        }
        // RFC 8092 §6
        code::LARGE_COMMUNITY => match value.as_chunks::<12>() {
            (communities @ [_, ..], []) => {
                attributes.large_communities = communities.iter().filter_map(large_community).collect();
            }
            _ => return Err(TreatAsWithdraw("LARGE_COMMUNITY has an invalid length")),
        },
        _ => {}
    }
    Ok(())
}

fn large_community(octets: &[u8; 12]) -> Option<LargeCommunity> {
    let mut reader = Reader::new(octets);
    Some(LargeCommunity(reader.u32()?, reader.u32()?, reader.u32()?))
}

/// Decodes MP_REACH_NLRI. Returns `None` if it is well-formed but of a family that this crate does not carry.
fn decode_mp_reach(mut reader: Reader<'_>) -> Result<Option<MpReach>, AttributeError> {
    let family = decode_family(&mut reader)?;
    let Some(next_hop) = reader.u8().and_then(|length| reader.take(length.into())) else {
        return Err(unparsable(family, "next hop exceeds MP_REACH_NLRI"));
    };
    let Some(family) = family else { return Ok(None) };
    let mut address = Reader::new(next_hop);
    let next_hop = match (family, next_hop.len()) {
        (Family::Ipv4Unicast, 4) => address.ipv4().map(MpNextHop::V4),
        (_, 16) => address.ipv6().map(MpNextHop::V6),
        (_, 32) => address.ipv6().zip(address.ipv6()).map(|(a, b)| MpNextHop::V6WithLinkLocal(a, b)),
        _ => None,
    };
    let Some(next_hop) = next_hop else {
        return Err(unparsable(Some(family), "MP_REACH_NLRI has a next hop of invalid length"));
    };
    // The reserved octet is ignored (RFC 4760 §3).
    if reader.u8().is_none() {
        return Err(unparsable(Some(family), "MP_REACH_NLRI is too short"));
    }
    match prefix::decode_all(family, reader.rest()) {
        Some(nlri) => Ok(Some(MpReach { family, next_hop, nlri })),
        None => Err(unparsable(Some(family), "MP_REACH_NLRI has a malformed prefix")),
    }
}

/// Decodes MP_UNREACH_NLRI. Returns `None` if it is well-formed but of a family that this crate does not
/// carry.
fn decode_mp_unreach(mut reader: Reader<'_>) -> Result<Option<MpUnreach>, AttributeError> {
    let Some(family) = decode_family(&mut reader)? else { return Ok(None) };
    match prefix::decode_all(family, reader.rest()) {
        Some(withdrawn) => Ok(Some(MpUnreach { family, withdrawn })),
        None => Err(unparsable(Some(family), "MP_UNREACH_NLRI has a malformed prefix")),
    }
}

fn decode_family(reader: &mut Reader<'_>) -> Result<Option<Family>, AttributeError> {
    match (reader.u16(), reader.u8()) {
        (Some(afi), Some(safi)) => Ok(Family::from_codes(afi, safi)),
        _ => Err(unparsable(None, "MP_REACH_NLRI or MP_UNREACH_NLRI is shorter than three octets")),
    }
}

/// Returns the error for prefixes that cannot be parsed and therefore not be treated as withdrawn: the family
/// is ignored, or the session is reset if the family is unknown (RFC 7606 §3 (j), §7.11).
fn unparsable(family: Option<Family>, detail: &'static str) -> AttributeError {
    match family {
        Some(family) => AttributeError::AfiSafiDisable(family, detail),
        None => AttributeError::Reset(MessageError::new(UPDATE, 9, [], detail)),
    }
}

fn is_unicast(address: std::net::Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address.octets()[0] < 240
}
