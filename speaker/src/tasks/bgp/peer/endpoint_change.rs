//! The time from an EndpointSlice event to the write of the last UPDATE message that it caused.

use std::time::Instant;

use fairlead_bgp::{Session, SessionState};

use crate::tasks::bgp::commands::Cause;

/// Changes of endpoints that are not sent yet.
#[derive(Debug, Default)]
pub(super) struct EndpointChange(Option<Pending>);

/// The first change that is not sent yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The time at which the event arrived.
    arrived: Instant,
    /// Number of UPDATE messages that had been sent before.
    updates: u64,
}

impl EndpointChange {
    /// Handles a change of a route. Call this before the session gets the change.
    pub(super) fn add(&mut self, cause: Cause, session: &Session) {
        if let (Some(arrived), None) = (cause, self.0) {
            self.0 = Some(Pending { arrived, updates: session.statistics().updates_sent });
        }
    }

    /// Returns the arrival of the event, once, when the session has sent everything since. Call this when all
    /// octets of the session are written. Forgets a change that the session does not send, because it is not
    /// established or the peer has the route already.
    pub(super) fn take_written(&mut self, session: &Session) -> Option<Instant> {
        if session.state() == SessionState::Established && session.pending() > 0 {
            return None;
        }
        let pending = self.0.take()?;
        (session.statistics().updates_sent > pending.updates).then_some(pending.arrived)
    }
}
