//! Messages of the FSM that wait to be sent.

use crate::Notification;
use crate::message::open::Open;

/// Messages of the FSM that wait to be pulled; at most one of each.
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
