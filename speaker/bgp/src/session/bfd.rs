//! What BFD says about the path to the peer, and its effect on the session (RFC 5882 §4 and §10.2).
//!
//! | report | effect |
//! |---|---|
//! | Down | ends the session, or the attempt to establish it; the session waits for Up |
//! | Up | ends the wait, and any wait between attempts: the session connects at once |
//! | released | none on the session; ends the wait that a Down began |
//! | disabled by the peer | as released; also a session in strict mode connects (RFC 5882 §4.1) |
//!
//! A BFD session that was never Up reports nothing, so a router without BFD keeps its BGP session. Strict
//! mode ([`Session::set_bfd_strict`]) makes the session wait for Up from the beginning.
//!
//! With graceful restart, a Down ends an established session all the same. RFC 5882 §4.3.2.2 asks to let a
//! graceful restart *in progress* finish where the C bit is clear. None is in progress while the session is
//! established, and a peer that still receives the packets of this node, while its own are lost, must learn
//! that its routes lead nowhere.

use std::time::Instant;

use super::{Session, SessionEvent, SessionState};
use crate::{CeaseSubcode, DownReason};

/// Whether BFD permits connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BfdGate {
    up: bool,
    /// True from a Down to the next Up.
    failed: bool,
    /// True while BFD is disabled by the operator of the peer.
    disabled: bool,
    strict: bool,
}

impl BfdGate {
    /// Returns whether the session has to wait for Up before it connects.
    pub(super) const fn waits(&self) -> bool {
        !self.up && !self.disabled && (self.failed || self.strict)
    }
}

impl Session {
    /// Sets whether the session connects only while BFD is Up or disabled by the peer (strict mode). An
    /// established session is not affected. Set it before [`crate::SessionInput::ManualStart`] to apply to
    /// the first connection.
    pub fn set_bfd_strict(&mut self, now: Instant, strict: bool) {
        self.bfd.strict = strict;
        self.end_wait(now);
    }

    /// Returns whether the session does not connect because it waits for BFD.
    #[must_use]
    pub const fn waits_for_bfd(&self) -> bool {
        self.started && self.bfd.waits()
    }

    pub(super) fn bfd_up(&mut self, now: Instant) {
        self.bfd = BfdGate { up: true, failed: false, disabled: false, ..self.bfd };
        self.connect_now(now);
    }

    pub(super) fn bfd_down(&mut self, now: Instant, reason: String) {
        self.bfd = BfdGate { up: false, failed: true, disabled: false, ..self.bfd };
        // A session that is being stopped ends within a second anyway.
        if !self.started || self.cease.is_some() {
            return;
        }
        let reason = DownReason::BfdDown(reason);
        match self.state {
            SessionState::Idle => self.timers.stop_all(),
            SessionState::Active => self.down(now, SessionState::Idle, reason),
            SessionState::Connect => {
                self.events.push_back(SessionEvent::Close);
                self.down(now, SessionState::Idle, reason);
            }
            SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established => {
                let notification = self.final_cease(CeaseSubcode::BfdDown, "");
                self.outbox.notification = Some(notification.clone());
                self.events.push_back(SessionEvent::Close);
                let detail = reason.to_string();
                self.down(now, SessionState::Idle, DownReason::Sent { notification, detail });
            }
        }
    }

    pub(super) fn bfd_released(&mut self, now: Instant) {
        self.bfd = BfdGate { up: false, failed: false, disabled: false, ..self.bfd };
        self.end_wait(now);
    }

    pub(super) fn bfd_disabled(&mut self, now: Instant) {
        self.bfd = BfdGate { up: false, failed: false, disabled: true, ..self.bfd };
        self.end_wait(now);
    }

    /// Connects if the session only waited for BFD: it backs off in no other way.
    fn end_wait(&mut self, now: Instant) {
        let idle = self.state == SessionState::Idle && self.timers.next().is_none();
        if self.started && idle && !self.bfd.waits() {
            self.connect(now);
        }
    }
}
