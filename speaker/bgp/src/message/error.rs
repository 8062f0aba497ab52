//! Errors that end a session (RFC 4271 §6).

use super::notification::Notification;

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
