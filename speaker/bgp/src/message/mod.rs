//! The wire format (RFC 4271 §4): encoding and decoding of messages.
//!
//! Decoding checks every length against the bytes at hand, and allocates at most a small multiple of the size
//! of the message. The error of a malformed message is the NOTIFICATION that the RFC requires.
//!
//! In: bytes of a TCP stream, which a [`framer::Framer`] splits into frames for [`Message::decode`]. Out: a
//! [`Message`]. Every message has an `encode` that appends to a buffer; UPDATEs with as many prefixes as fit
//! come from [`update::encode_announcement`] and [`update::encode_withdrawal`].

pub mod as_path;
pub mod attribute;
mod attribute_decode;
pub mod capability;
mod error;
pub mod framer;
mod header;
pub mod notification;
pub mod open;
pub mod prefix;
mod reader;
pub mod route_refresh;
pub mod update;

pub use attribute_decode::DecodeContext;
pub use error::MessageError;
pub use header::{HEADER_LENGTH, MAX_EXTENDED_LENGTH, MAX_LENGTH, MessageType};

use framer::FramedMessage;
use header::encode;
use notification::Notification;
use open::Open;
use route_refresh::RouteRefresh;
use update::{DecodedUpdate, Update};

/// A message of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub enum Message {
    Open(Open),
    Update(Box<DecodedUpdate>),
    Notification(Notification),
    Keepalive,
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Decodes the body of a frame.
    pub fn decode(frame: FramedMessage<'_>, context: DecodeContext) -> Result<Self, MessageError> {
        Ok(match frame.kind {
            MessageType::Open => Self::Open(Open::decode(frame.body)?),
            MessageType::Update => Self::Update(Box::new(Update::decode(frame.body, context)?)),
            MessageType::Notification => Self::Notification(Notification::decode(frame.body)),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::decode(frame.body, context)?),
        })
    }

    /// Returns the type in the header.
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
