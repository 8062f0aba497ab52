//! Capabilities (RFC 5492) in the Optional Parameters of an OPEN.

use super::error::MessageError;
use super::notification::code;
use super::reader::Reader;
use crate::Family;

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Code 1: the sender carries the family (RFC 4760 §8).
    MultiProtocol {
        #[allow(missing_docs)]
        afi: u16,
        #[allow(missing_docs)]
        safi: u8,
    },
    /// Code 2 (RFC 2918 §2).
    RouteRefresh,
    /// Code 5: routes with next hops of another family, as (AFI, SAFI, AFI of the next hop) (RFC 8950 §4).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// Code 6 (RFC 8654 §3).
    ExtendedMessage,
    /// Code 64 (RFC 4724 §3).
    GracefulRestart(GracefulRestart),
    /// Code 65 (RFC 6793 §3).
    FourOctetAs(u32),
    /// Code 70 (RFC 7313 §3.1).
    EnhancedRouteRefresh,
    /// Any other capability, or one of the above with a value that cannot be parsed
    /// ([`Capability::is_malformed`]).
    Unknown {
        #[allow(missing_docs)]
        code: u8,
        /// Capability value, at most 255 octets.
        value: Vec<u8>,
    },
}

/// Value of the graceful restart capability (RFC 4724 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// Restart State (R): the sender has restarted.
    pub restarting: bool,
    /// Notification (N): graceful restart applies after a NOTIFICATION too (RFC 8538 §2).
    pub notification: bool,
    /// Restart time in seconds, 12 bits.
    pub time: u16,
    /// Families as (AFI, SAFI, F), where F is the Forwarding State bit: forwarding state was preserved.
    pub families: Vec<(u16, u8, bool)>,
}

impl Capability {
    /// Returns the multiprotocol capability of a family.
    #[must_use]
    pub const fn multi_protocol(family: Family) -> Self {
        Self::MultiProtocol { afi: family.afi(), safi: family.safi() }
    }

    /// Decodes the value of a Capabilities parameter, and appends its capabilities to `into`.
    pub(super) fn decode_all(value: &[u8], into: &mut Vec<Self>) -> Result<(), MessageError> {
        let mut reader = Reader::new(value);
        while !reader.is_empty() {
            let field = reader.u8().zip(reader.u8());
            let Some((code, value)) =
                field.and_then(|(code, length)| Some((code, reader.take(length.into())?)))
            else {
                return Err(malformed("a capability exceeds its optional parameter"));
            };
            into.push(Self::decode(code, value)?);
        }
        Ok(())
    }

    /// Decodes a value. The families and the AS number decide what the session carries, so an error in one of
    /// them is an error of the OPEN. Any other capability with an invalid length counts as not offered.
    fn decode(code: u8, value: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(value);
        let capability = match code {
            1 => reader
                .array()
                .map(|[a, b, _, safi]| Self::MultiProtocol { afi: u16::from_be_bytes([a, b]), safi }),
            2 => Some(Self::RouteRefresh),
            5 => {
                let (families, rest) = value.as_chunks::<6>();
                let triples = families.iter().map(|[a, b, c, d, e, f]| {
                    (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]), u16::from_be_bytes([*e, *f]))
                });
                reader = Reader::new(rest);
                Some(Self::ExtendedNextHop(triples.collect()))
            }
            6 => Some(Self::ExtendedMessage),
            64 => reader.u16().map(|head| {
                let (families, rest) = reader.rest().as_chunks::<4>();
                let families = families
                    .iter()
                    .map(|[a, b, safi, flags]| (u16::from_be_bytes([*a, *b]), *safi, flags & 0x80 != 0));
                reader = Reader::new(rest);
                Self::GracefulRestart(GracefulRestart {
                    restarting: head & 0x8000 != 0,
                    notification: head & 0x4000 != 0,
                    time: head & 0x0FFF,
                    families: families.collect(),
                })
            }),
            65 => reader.u32().map(Self::FourOctetAs),
            70 => Some(Self::EnhancedRouteRefresh),
            _ => {
                reader = Reader::new(&[]);
                Some(Self::Unknown { code, value: value.to_vec() })
            }
        };
        match capability {
            Some(capability) if reader.is_empty() => Ok(capability),
            _ if !matches!(code, 1 | 65) => Ok(Self::Unknown { code, value: value.to_vec() }),
            _ => Err(malformed(format!("capability {code} has an invalid length of {} octets", value.len()))),
        }
    }

    /// Appends the capability as code, length and value.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[self.code(), 0]);
        match self {
            Self::MultiProtocol { afi, safi } => {
                out.extend_from_slice(&afi.to_be_bytes());
                out.extend_from_slice(&[0, *safi]);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(families) => {
                for (afi, safi, next_hop_afi) in families {
                    out.extend([afi, safi, next_hop_afi].into_iter().flat_map(|field| field.to_be_bytes()));
                }
            }
            Self::GracefulRestart(restart) => {
                let flags = u16::from(restart.restarting) << 15 | u16::from(restart.notification) << 14;
                out.extend_from_slice(&(flags | restart.time & 0x0FFF).to_be_bytes());
                for (afi, safi, preserved) in &restart.families {
                    out.extend_from_slice(&afi.to_be_bytes());
                    out.extend_from_slice(&[*safi, u8::from(*preserved) << 7]);
                }
            }
            Self::FourOctetAs(asn) => out.extend_from_slice(&asn.to_be_bytes()),
            Self::Unknown { value, .. } => out.extend_from_slice(value.get(..255).unwrap_or(value)),
        }
        let length = out.len() - at - 2;
        if let Some(field) = out.get_mut(at + 1) {
            *field = u8::try_from(length).unwrap_or(u8::MAX);
        }
    }

    /// Returns whether this is a known capability with a value that cannot be parsed.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::Unknown { code: 2 | 5 | 6 | 64 | 70, .. })
    }

    /// Returns the capability code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::MultiProtocol { .. } => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::EnhancedRouteRefresh => 70,
            Self::Unknown { code, .. } => *code,
        }
    }
}

/// Returns an error with subcode 0, Unspecific: RFC 4271 §6.2 assigns none to a malformed OPEN.
fn malformed(detail: impl Into<String>) -> MessageError {
    MessageError::new(code::OPEN, 0, [], detail)
}
