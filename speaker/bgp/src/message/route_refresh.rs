//! ROUTE-REFRESH: a request to advertise a family again (RFC 2918 §3), and the marks at the beginning and at
//! the end of the refresh (RFC 7313 §3.2).

use super::attribute_decode::DecodeContext;
use super::error::MessageError;
use super::header::{MessageType, encode};
use super::notification::code;
use super::reader::Reader;
use crate::Family;

/// Subcode of a ROUTE-REFRESH Message Error (RFC 7313 §5).
const INVALID_MESSAGE_LENGTH: u8 = 1;

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    #[allow(missing_docs)]
    pub afi: u16,
    /// [`RouteRefresh::REQUEST`], [`RouteRefresh::BEGIN`] or [`RouteRefresh::END`]; messages with another
    /// subtype are ignored (RFC 7313 §5).
    pub subtype: u8,
    #[allow(missing_docs)]
    pub safi: u8,
}

impl RouteRefresh {
    /// Subtype of a request.
    pub const REQUEST: u8 = 0;
    /// Subtype of the beginning of a route refresh (BoRR).
    pub const BEGIN: u8 = 1;
    /// Subtype of the end of a route refresh (EoRR).
    pub const END: u8 = 2;

    /// Returns a request for a family.
    #[must_use]
    pub const fn request(family: Family) -> Self {
        Self { afi: family.afi(), subtype: Self::REQUEST, safi: family.safi() }
    }

    /// Returns the mark before the routes of a family are sent again.
    #[must_use]
    pub const fn begin(family: Family) -> Self {
        Self { subtype: Self::BEGIN, ..Self::request(family) }
    }

    /// Returns the mark after the routes of a family were sent again.
    #[must_use]
    pub const fn end(family: Family) -> Self {
        Self { subtype: Self::END, ..Self::request(family) }
    }

    /// Decodes a body. Octets after the fourth of a request are ignored: they are filters of RFC 5291, which
    /// this speaker does not offer. If both sides offer enhanced route refresh, such octets are an error in a
    /// mark (RFC 7313 §5).
    pub fn decode(body: &[u8], context: DecodeContext) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let (Some(afi), Some(subtype), Some(safi)) = (reader.u16(), reader.u8(), reader.u8()) else {
            return Err(MessageError::new(code::HEADER, 2, [], "the ROUTE-REFRESH message is too short"));
        };
        let is_mark = matches!(subtype, Self::BEGIN | Self::END);
        if context.enhanced_route_refresh && is_mark && !reader.is_empty() {
            let mut message = Vec::new();
            encode(MessageType::RouteRefresh, &mut message, |out| out.extend_from_slice(body));
            let detail = format!("a ROUTE-REFRESH message of subtype {subtype} has {} octets", message.len());
            return Err(MessageError::new(code::ROUTE_REFRESH, INVALID_MESSAGE_LENGTH, message, detail));
        }
        Ok(Self { afi, subtype, safi })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(MessageType::RouteRefresh, out, |out| {
            out.extend_from_slice(&self.afi.to_be_bytes());
            out.extend_from_slice(&[self.subtype, self.safi]);
        });
    }
}
