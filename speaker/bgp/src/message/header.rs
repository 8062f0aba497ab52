//! Header of a message: marker, length and type (RFC 4271 §4.1).

use std::fmt;

/// Octets of marker, length and type.
pub const HEADER_LENGTH: usize = 19;
/// Longest message unless RFC 8654 was negotiated (RFC 4271 §4.1).
pub const MAX_LENGTH: usize = 4096;
/// Longest message with RFC 8654, which leaves OPEN and KEEPALIVE at [`MAX_LENGTH`].
pub const MAX_EXTENDED_LENGTH: usize = 65535;

/// Type of a message (RFC 4271 §4.1, RFC 2918).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub enum MessageType {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

impl MessageType {
    /// Returns the type of a code on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// Returns the length of the shortest message of the type, including the header (RFC 4271 §6.1).
    pub(super) const fn min_length(self) -> usize {
        match self {
            Self::Open => 29,
            Self::Update | Self::RouteRefresh => 23,
            Self::Notification => 21,
            Self::Keepalive => HEADER_LENGTH,
        }
    }

    /// Returns the length of the longest message of the type if `limit` was negotiated.
    pub(super) fn max_length(self, limit: usize) -> usize {
        match self {
            Self::Open => limit.min(MAX_LENGTH),
            Self::Keepalive => HEADER_LENGTH,
            Self::Update | Self::Notification | Self::RouteRefresh => limit,
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "OPEN",
            Self::Update => "UPDATE",
            Self::Notification => "NOTIFICATION",
            Self::Keepalive => "KEEPALIVE",
            Self::RouteRefresh => "ROUTE-REFRESH",
        })
    }
}

/// Appends a header, and the body that `write` appends: at most 65516 octets.
pub(super) fn encode<R>(kind: MessageType, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.extend_from_slice(&[0xFF; 16]);
    out.extend_from_slice(&[0, 0, kind as u8]);
    let result = write(out);
    let length = out.len() - start;
    debug_assert!(length <= MAX_EXTENDED_LENGTH, "a message of {length} octets");
    put_u16_at(out, start + 16, length);
    result
}

/// Appends a two-octet length, and the field that `write` appends.
pub(super) fn with_length_u16<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    let result = write(out);
    let length = out.len() - at - 2;
    put_u16_at(out, at, length);
    result
}

fn put_u16_at(out: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
