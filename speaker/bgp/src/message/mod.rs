//! The wire format (RFC 4271 §4): messages to bytes and back.
//!
//! Decoding trusts no length that it has not checked against the bytes at hand, and allocates no more than a small
//! multiple of the message's size. Where the bytes are wrong, the error is the NOTIFICATION the RFC asks for.

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

/// Any message.
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
    /// Reads the body of a framed message.
    pub fn decode(frame: FramedMessage<'_>, context: DecodeContext) -> Result<Self, MessageError> {
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
