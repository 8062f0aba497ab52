//! Messages of the FSM that wait to be sent, as opposed to UPDATEs, which the Adj-RIB-Out yields.

use crate::Notification;
use crate::message::open::Open;

/// At most one message of each type waits: repetitions carry no information.
#[derive(Debug, Default)]
pub(super) struct SessionOutbox {
    pub(super) open: Option<Open>,
    pub(super) keepalive: bool,
    pub(super) notification: Option<Notification>,
}

impl SessionOutbox {
    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_none() && !self.keepalive && self.notification.is_none()
    }
}
