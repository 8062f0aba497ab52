//! The wire format (RFC 4271 §4): messages to bytes and back.
//!
//! Decoding trusts no length that it has not checked against the bytes at hand, and allocates no more than a small
//! multiple of the message's size. Where the bytes are wrong, the error is the NOTIFICATION the RFC asks for.

pub mod as_path;
pub mod attribute;
mod attribute_decode;
pub mod capability;
pub mod framer;
pub mod notification;
pub mod open;
pub mod prefix;
mod reader;
pub mod route_refresh;
pub mod update;

use self::framer::Frame;
use self::notification::Notification;
use self::open::Open;
use self::route_refresh::RouteRefresh;
use self::update::{Decoded, Update};

/// Marker, length and type.
pub const HEADER_LENGTH: usize = 19;
/// The longest message, unless RFC 8654 has been negotiated.
pub const MAX_LENGTH: usize = 4096;
/// The longest message with RFC 8654; OPEN and KEEPALIVE stay at [`MAX_LENGTH`].
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
    /// The type of a code on the wire.
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

    /// Shortest message of the type, header included.
    const fn min_length(self) -> usize {
        match self {
            Self::Open => 29,
            Self::Update | Self::RouteRefresh => 23,
            Self::Notification => 21,
            Self::Keepalive => HEADER_LENGTH,
        }
    }

    /// Longest message of the type where `limit` has been negotiated.
    fn max_length(self, limit: usize) -> usize {
        match self {
            Self::Open => limit.min(MAX_LENGTH),
            Self::Keepalive => HEADER_LENGTH,
            Self::Update | Self::Notification | Self::RouteRefresh => limit,
        }
    }
}

/// What a peer did wrong: the NOTIFICATION it gets, and the matter in words for our operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{notification}: {detail}")]
pub struct MessageError {
    /// What the peer is told.
    pub notification: Notification,
    /// What was wrong.
    pub detail: String,
}

impl MessageError {
    pub(crate) fn new(code: u8, subcode: u8, data: impl Into<Vec<u8>>, detail: impl Into<String>) -> Self {
        let notification = Notification { code, subcode, data: data.into() };
        Self { notification, detail: detail.into() }
    }
}

/// What a session has to know to read an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// AS numbers take four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The peer is in another AS.
    pub ebgp: bool,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub enum Message {
    Open(Open),
    Update(Box<Decoded>),
    Notification(Notification),
    Keepalive,
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Reads the body of a framed message.
    pub fn decode(frame: Frame<'_>, context: Context) -> Result<Self, MessageError> {
        Ok(match frame.kind {
            MessageType::Open => Self::Open(Open::decode(frame.body)?),
            MessageType::Update => Self::Update(Box::new(Update::decode(frame.body, context)?)),
            MessageType::Notification => Self::Notification(Notification::decode(frame.body)),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::decode(frame.body)?),
        })
    }

    /// The type in the header.
    #[must_use]
    pub const fn kind(&self) -> MessageType {
        match self {
            Self::Open(_) => MessageType::Open,
            Self::Update(_) => MessageType::Update,
            Self::Notification(_) => MessageType::Notification,
            Self::Keepalive => MessageType::Keepalive,
            Self::RouteRefresh(_) => MessageType::RouteRefresh,
        }
    }
}

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    encode(MessageType::Keepalive, out, |_| ());
}

/// Appends a message whose body `write` appends. The body must fit a message: at most 65516 octets.
pub(crate) fn encode<R>(kind: MessageType, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.extend_from_slice(&[0xFF; 16]);
    out.extend_from_slice(&[0, 0, kind as u8]);
    let result = write(out);
    let length = out.len() - start;
    debug_assert!(length <= MAX_EXTENDED_LENGTH, "a message of {length} octets");
    put_u16_at(out, start + 16, length);
    result
}

/// Appends a field of variable length behind its length in two octets.
pub(crate) fn with_length_u16<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
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
