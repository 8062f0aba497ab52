//! ROUTE-REFRESH (RFC 2918): "send me that family again".

use super::error::MessageError;
use super::header::{MessageType, encode};
use super::notification::code;
use super::reader::Reader;
use crate::Family;

/// A request to send a family again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// 0 for a request; other values belong to RFC 7313, which we do not offer.
    pub subtype: u8,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl RouteRefresh {
    /// A plain request.
    #[must_use]
    pub const fn new(family: Family) -> Self {
        Self { afi: family.afi(), subtype: 0, safi: family.safi() }
    }

    /// Reads a body. What follows the four octets (RFC 5291 filters, which we do not offer) is ignored.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        match (reader.u16(), reader.u8(), reader.u8()) {
            (Some(afi), Some(subtype), Some(safi)) => Ok(Self { afi, subtype, safi }),
            _ => Err(MessageError::new(code::HEADER, 2, [], "short ROUTE-REFRESH")),
        }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(MessageType::RouteRefresh, out, |out| {
            out.extend_from_slice(&self.afi.to_be_bytes());
            out.extend_from_slice(&[self.subtype, self.safi]);
        });
    }
}
