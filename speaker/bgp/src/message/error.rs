//! Errors that end a session (RFC 4271 §6).

use super::notification::Notification;

/// An error in a message that resets the session: the NOTIFICATION for the peer and a text for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{notification}: {detail}")]
pub struct MessageError {
    #[allow(missing_docs)]
    pub notification: Notification,
    /// The error in words.
    pub detail: String,
}

impl MessageError {
    pub(crate) fn new(code: u8, subcode: u8, data: impl Into<Vec<u8>>, detail: impl Into<String>) -> Self {
        let notification = Notification { code, subcode, data: data.into() };
        Self { notification, detail: detail.into() }
    }
}
