//! The time from an EndpointSlice event to the write of the last UPDATE message that it caused.

use std::collections::BTreeSet;
use std::time::Instant;

use fairlead_bgp::{Session, SessionState};
use ipnet::IpNet;

use crate::tasks::bgp::commands::Cause;

/// Changes of routes, caused by endpoints, that are not sent yet.
#[derive(Debug, Default)]
pub(super) struct EndpointChange {
    /// When the first event arrived that caused any of them.
    arrived: Option<Instant>,
    /// The prefixes that change.
    prefixes: BTreeSet<IpNet>,
}

impl EndpointChange {
    /// Handles a change of a route, of any cause. Call this when the session has the change.
    pub(super) fn handle_change(&mut self, prefix: IpNet, cause: Cause, session: &Session) {
        if !session.is_change_pending(&prefix) {
            // The session is not established, or the peer has what it should have.
            self.prefixes.remove(&prefix);
        } else if let Some(arrived) = cause {
            self.prefixes.insert(prefix);
            self.arrived.get_or_insert(arrived);
        }
        if self.prefixes.is_empty() {
            self.arrived = None;
        }
    }

    /// Returns the arrival of the event, once, when the session has sent all these changes. Call this when
    /// all octets of the session are written. Forgets the changes if the session is not established.
    pub(super) fn take_written(&mut self, session: &Session) -> Option<Instant> {
        if session.state() != SessionState::Established {
            *self = Self::default();
            return None;
        }
        while let Some(first) = self.prefixes.first() {
            if session.is_change_pending(first) {
                return None;
            }
            self.prefixes.pop_first();
        }
        self.arrived.take()
    }
}
