//! OPEN (RFC 4271 §4.2), its errors (§6.2), and extended optional parameters (RFC 9072).

use std::net::Ipv4Addr;

use super::capability::Capability;
use super::error::MessageError;
use super::header::{MessageType, encode, with_length_u16};
use super::notification::code;
use super::reader::Reader;

/// BGP version (RFC 4271 §4.2).
const VERSION: u8 = 4;
/// Type of the optional parameter with capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// As length and as type of the first parameter, announces the extended form (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// My Autonomous System: the two-octet field.
    pub my_as: u16,
    /// Hold Time in seconds.
    pub hold_time: u16,
    /// BGP Identifier of the sender.
    pub router_id: Ipv4Addr,
    /// Capabilities of all optional parameters, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Decodes a body. The session checks whether it accepts the values.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let version = reader.u8();
        if let Some(version) = version.filter(|version| *version != VERSION) {
            let data = u16::from(VERSION).to_be_bytes();
            return Err(MessageError::new(code::OPEN, 1, data, format!("unsupported BGP version {version}")));
        }
        let (Some(my_as), Some(hold_time), Some(router_id), Some(length)) =
            (reader.u16(), reader.u16(), reader.ipv4(), reader.u8())
        else {
            return Err(malformed("the OPEN message is too short"));
        };
        let capabilities = decode_parameters(reader, length)?;
        Ok(Self { my_as, hold_time, router_id, capabilities })
    }

    /// Appends the message, in the extended form (RFC 9072) only if the capabilities need it. The
    /// capabilities must fit into a message of 4096 octets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        self.capabilities.iter().for_each(|capability| capability.encode(&mut capabilities));
        encode(MessageType::Open, out, |out| {
            out.push(VERSION);
            out.extend_from_slice(&self.my_as.to_be_bytes());
            out.extend_from_slice(&self.hold_time.to_be_bytes());
            out.extend_from_slice(&self.router_id.octets());
            match u8::try_from(capabilities.len()) {
                Ok(0) => out.push(0),
                Ok(length) if length <= 252 => out.extend_from_slice(&[length + 2, CAPABILITIES, length]),
                _ => {
                    out.extend_from_slice(&[EXTENDED, EXTENDED]);
                    return with_length_u16(out, |out| {
                        out.push(CAPABILITIES);
                        with_length_u16(out, |out| out.extend_from_slice(&capabilities));
                    });
                }
            }
            out.extend_from_slice(&capabilities);
        });
    }

    /// Returns the AS number of the four-octet capability, otherwise of the two-octet field (RFC 6793 §4.1).
    #[must_use]
    pub fn asn(&self) -> u32 {
        self.four_octet_asn().unwrap_or_else(|| self.my_as.into())
    }

    /// Returns the AS number of the four-octet capability; of the last one if there are several.
    #[must_use]
    pub fn four_octet_asn(&self) -> Option<u32> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        })
    }
}

fn decode_parameters(mut reader: Reader<'_>, length: u8) -> Result<Vec<Capability>, MessageError> {
    let mut capabilities = Vec::new();
    // RFC 9072 §2: the type of the first parameter selects the extended form, whatever the one-octet length
    // is.
    let extended = length != 0 && reader.rest().first() == Some(&EXTENDED);
    let length = if extended {
        reader.u8();
        reader.u16().map(usize::from)
    } else {
        Some(length.into())
    };
    if length != Some(reader.len()) {
        return Err(malformed("the optional parameters length does not match the message length"));
    }
    while !reader.is_empty() {
        let Some(kind) = reader.u8() else { break };
        let length = if extended { reader.u16().map(usize::from) } else { reader.u8().map(usize::from) };
        let Some(value) = length.and_then(|length| reader.take(length)) else {
            return Err(malformed("an optional parameter exceeds the message"));
        };
        if kind != CAPABILITIES {
            return Err(MessageError::new(
                code::OPEN,
                4,
                [],
                format!("unsupported optional parameter type {kind}"),
            ));
        }
        Capability::decode_all(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

/// Returns an error with subcode 0, Unspecific: RFC 4271 §6.2 assigns none to a malformed OPEN.
fn malformed(detail: &str) -> MessageError {
    MessageError::new(code::OPEN, 0, [], detail)
}
