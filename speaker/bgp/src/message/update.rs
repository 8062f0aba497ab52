//! UPDATE (RFC 4271 §4.3): announced and withdrawn routes.

use ipnet::IpNet;

use super::attribute::{
    MP_UNREACH_OVERHEAD, MpNextHop, PathAttributes, encode_mp_reach, encode_mp_unreach, mp_reach_overhead,
};
use super::attribute_decode::{self, DecodeContext};
use super::error::MessageError;
use super::header::{HEADER_LENGTH, MessageType, encode, with_length_u16};
use super::notification::code;
use super::prefix;
use super::reader::Reader;
use crate::Family;

pub use super::attribute_decode::AttributeError;

/// Octets of an UPDATE without contents: header and the lengths of its two variable fields.
const EMPTY: usize = HEADER_LENGTH + 2 + 2;

/// An UPDATE message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn Routes: IPv4 unicast.
    pub withdrawn: Vec<IpNet>,
    #[allow(missing_docs)]
    pub attributes: PathAttributes,
    /// Network Layer Reachability Information: IPv4 unicast.
    pub nlri: Vec<IpNet>,
}

/// A received UPDATE, and its errors that do not reset the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodedUpdate {
    /// The message. With [`AttributeError::TreatAsWithdraw`], its announced routes are among the withdrawn
    /// ones.
    pub update: Update,
    /// Errors, never [`AttributeError::Reset`].
    pub errors: Vec<AttributeError>,
}

impl DecodedUpdate {
    /// Returns the family whose End-of-RIB marker this is (RFC 4724 §2); `None` if it is another UPDATE.
    #[must_use]
    pub fn end_of_rib(&self) -> Option<Family> {
        let mut families = Family::ALL.into_iter().filter(|_| self.errors.is_empty());
        families.find(|family| self.update == Update::end_of_rib(*family))
    }
}

/// Encoding of the prefixes of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NlriEncoding {
    /// IPv4 prefixes in the Withdrawn Routes and NLRI fields (RFC 4271 §4.3).
    Classic,
    /// MP_REACH_NLRI with this next hop, and MP_UNREACH_NLRI (RFC 4760).
    MultiProtocol(MpNextHop),
}

impl Update {
    /// Returns the End-of-RIB marker of a family (RFC 4724 §2).
    #[must_use]
    pub fn end_of_rib(family: Family) -> Self {
        let mut update = Self::default();
        if family == Family::Ipv6Unicast {
            update.attributes.mp_unreach =
                Some(super::attribute::MpUnreach { family, withdrawn: Vec::new() });
        }
        update
    }

    /// Decodes a body.
    pub fn decode(body: &[u8], context: DecodeContext) -> Result<DecodedUpdate, MessageError> {
        let mut reader = Reader::new(body);
        let mut next_field = || reader.u16().and_then(|length| reader.take(length.into()));
        let (Some(withdrawn), Some(attributes)) = (next_field(), next_field()) else {
            let detail = "withdrawn routes or path attributes exceed the message";
            return Err(MessageError::new(code::UPDATE, 1, [], detail));
        };
        let prefixes = |bytes| {
            // RFC 7606 §5.3: prefixes that cannot be parsed cannot be treated as withdrawn either.
            let malformed = || MessageError::new(code::UPDATE, 10, [], "malformed IPv4 prefix");
            prefix::decode_all(Family::Ipv4Unicast, bytes).ok_or_else(malformed)
        };
        let mut update =
            Self { withdrawn: prefixes(withdrawn)?, nlri: prefixes(reader.rest())?, ..Self::default() };
        let walk = attribute_decode::decode(attributes, context)?;
        update.attributes = walk.attributes;
        let mut errors = walk.errors;
        let reaches = walk.reaches || !update.nlri.is_empty();
        let treated_as_withdraw = |error: &AttributeError| match error {
            AttributeError::TreatAsWithdraw(what) => Some(*what),
            _ => None,
        };
        let mut malformed = errors.iter().find_map(treated_as_withdraw);
        if malformed.is_none() {
            malformed = update.missing_attribute();
            errors.extend(malformed.map(AttributeError::TreatAsWithdraw));
        }
        if let Some(what) = malformed {
            // RFC 7606 §5.2: without NLRI, the malformed attributes may contain routes that cannot be parsed.
            if walk.announces && !reaches {
                return Err(MessageError::new(code::UPDATE, 1, [], what));
            }
            update.treat_as_withdraw();
        }
        Ok(DecodedUpdate { update, errors })
    }

    /// Returns the error for a missing well-known mandatory attribute (RFC 7606 §3 (d)).
    fn missing_attribute(&self) -> Option<&'static str> {
        let attributes = &self.attributes;
        let reaches = !self.nlri.is_empty() || attributes.mp_reach.is_some();
        match () {
            () if !reaches => None,
            () if attributes.origin.is_none() => Some("ORIGIN is missing"),
            () if attributes.as_path.is_none() => Some("AS_PATH is missing"),
            () if !self.nlri.is_empty() && attributes.next_hop.is_none() => Some("NEXT_HOP is missing"),
            () => None,
        }
    }

    /// Moves the announced routes to the withdrawn routes (RFC 7606 §2).
    fn treat_as_withdraw(&mut self) {
        self.withdrawn.append(&mut self.nlri);
        if let Some(reach) = self.attributes.mp_reach.take() {
            match &mut self.attributes.mp_unreach {
                Some(unreach) if unreach.family == reach.family => unreach.withdrawn.extend(reach.nlri),
                Some(_) => {}
                None => {
                    let (family, withdrawn) = (reach.family, reach.nlri);
                    self.attributes.mp_unreach = Some(super::attribute::MpUnreach { family, withdrawn });
                }
            }
        }
    }

    /// Appends the message, which must not exceed 65535 octets.
    pub fn encode(&self, four_octet_as: bool, out: &mut Vec<u8>) {
        encode(MessageType::Update, out, |out| {
            with_length_u16(out, |out| self.withdrawn.iter().for_each(|net| prefix::encode(net, out)));
            with_length_u16(out, |out| self.attributes.encode(four_octet_as, out));
            self.nlri.iter().for_each(|net| prefix::encode(net, out));
        });
    }
}

/// Appends one UPDATE that announces as many of `prefixes` as fit into `limit` octets, and returns their
/// number. If not even the first prefix fits, it appends nothing and returns 0. `attributes` contains all
/// encoded attributes except MP_REACH_NLRI.
pub fn encode_announcement<'a>(
    family: Family,
    encoding: NlriEncoding,
    attributes: &[u8],
    prefixes: impl Iterator<Item = &'a IpNet>,
    limit: usize,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    let room = limit.saturating_sub(length_without_prefixes(encoding, attributes));
    let count = encode(MessageType::Update, out, |out| {
        with_length_u16(out, |_| ());
        match encoding {
            NlriEncoding::Classic => {
                with_length_u16(out, |out| out.extend_from_slice(attributes));
                encode_prefixes(prefixes, room, out)
            }
            NlriEncoding::MultiProtocol(next_hop) => with_length_u16(out, |out| {
                let count =
                    encode_mp_reach(family, next_hop, out, |out| encode_prefixes(prefixes, room, out));
                out.extend_from_slice(attributes);
                count
            }),
        }
    });
    if count == 0 {
        out.truncate(start);
    }
    count
}

/// Returns the length of the UPDATE that announces one prefix. The arguments are those of
/// [`encode_announcement`].
pub(crate) fn announcement_length(encoding: NlriEncoding, attributes: &[u8], prefix: &IpNet) -> usize {
    length_without_prefixes(encoding, attributes) + prefix::encoded_length(prefix)
}

fn length_without_prefixes(encoding: NlriEncoding, attributes: &[u8]) -> usize {
    let overhead = match encoding {
        NlriEncoding::Classic => 0,
        NlriEncoding::MultiProtocol(next_hop) => mp_reach_overhead(next_hop),
    };
    EMPTY + overhead + attributes.len()
}

/// Appends one UPDATE that withdraws as many of `prefixes` as fit into `limit` octets, and returns their
/// number.
pub fn encode_withdrawal<'a>(
    family: Family,
    encoding: NlriEncoding,
    prefixes: impl Iterator<Item = &'a IpNet>,
    limit: usize,
    out: &mut Vec<u8>,
) -> usize {
    encode(MessageType::Update, out, |out| match encoding {
        NlriEncoding::Classic => {
            let count =
                with_length_u16(out, |out| encode_prefixes(prefixes, limit.saturating_sub(EMPTY), out));
            with_length_u16(out, |_| ());
            count
        }
        NlriEncoding::MultiProtocol(_) => {
            let room = limit.saturating_sub(EMPTY + MP_UNREACH_OVERHEAD);
            with_length_u16(out, |_| ());
            with_length_u16(out, |out| {
                encode_mp_unreach(family, out, |out| encode_prefixes(prefixes, room, out))
            })
        }
    })
}

fn encode_prefixes<'a>(prefixes: impl Iterator<Item = &'a IpNet>, room: usize, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let mut count = 0;
    for net in prefixes {
        if out.len() - start + prefix::encoded_length(net) > room {
            break;
        }
        prefix::encode(net, out);
        count += 1;
    }
    count
}
