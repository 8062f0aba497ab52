//! ROUTE-REFRESH (RFC 2918 §3): a request to advertise a family again.

use super::error::MessageError;
use super::header::{MessageType, encode};
use super::notification::code;
use super::reader::Reader;
use crate::Family;

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    #[allow(missing_docs)]
    pub afi: u16,
    /// 0 in a request. Other values belong to enhanced route refresh (RFC 7313), which this speaker does not
    /// offer.
    pub subtype: u8,
    #[allow(missing_docs)]
    pub safi: u8,
}

impl RouteRefresh {
    /// Returns a request for a family.
    #[must_use]
    pub const fn new(family: Family) -> Self {
        Self { afi: family.afi(), subtype: 0, safi: family.safi() }
    }

    /// Decodes a body. Octets after the fourth are ignored: they are filters of RFC 5291, which this speaker
    /// does not offer.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        match (reader.u16(), reader.u8(), reader.u8()) {
            (Some(afi), Some(subtype), Some(safi)) => Ok(Self { afi, subtype, safi }),
            _ => Err(MessageError::new(code::HEADER, 2, [], "the ROUTE-REFRESH message is too short")),
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
