//! Changes of the parameters of a session: at once where the peer does not notice, else with a new
//! connection.

use std::time::{Duration, Instant};

use super::fsm::MAX_IDLE_HOLD;
use super::open::{self, Capabilities};
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionEvent, SessionState};
use crate::{CeaseSubcode, ConfigError, DownReason, Notification, SessionConfig};

impl Session {
    /// Replaces the keepalive interval ([`SessionConfig::keepalive_time`]). An established session adopts it
    /// at once. The next KEEPALIVE is never sent later than it was due before.
    pub fn set_keepalive_time(&mut self, now: Instant, keepalive_time: Option<Duration>) {
        if self.config.keepalive_time == keepalive_time {
            return;
        }
        self.config.keepalive_time = keepalive_time;
        let Some(negotiated) = &mut self.negotiated else { return };
        negotiated.keepalive_time = open::keepalive_time(&self.config, negotiated.hold_time);
        let interval = self.jitter.apply(negotiated.keepalive_time);
        self.timers.shorten(Timer::Keepalive, now, interval);
    }

    /// Replaces the longest wait between connection attempts ([`SessionConfig::connect_retry`]). A wait in
    /// progress is shortened.
    pub fn set_connect_retry(&mut self, now: Instant, connect_retry: Duration) {
        if self.config.connect_retry == connect_retry {
            return;
        }
        self.config.connect_retry = connect_retry;
        match self.state {
            SessionState::Idle => {
                let longest = self.longest_idle_hold();
                self.timers.shorten(Timer::IdleHold, now, longest);
            }
            // In Connect, the timer limits the duration of the attempt.
            SessionState::Active => self.timers.shorten(Timer::ConnectRetry, now, connect_retry),
            _ => {}
        }
    }

    /// Replaces all parameters. A session that is not stopped ends its connection and connects again at once:
    /// [`SessionEvent::Connect`] follows immediately, and the shell first completes the close. The routes to
    /// advertise remain.
    ///
    /// With `same_peer`, the next connection is between the same addresses. If graceful restart is negotiated
    /// and still offered, such a peer retains the routes: the session closes without a NOTIFICATION, and the
    /// Restart State bit is set in the OPEN that follows (RFC 4724 §4.1). Otherwise it sends a Cease, Other
    /// Configuration Change, and withdraws nothing before: with the session, the peer deletes the routes.
    ///
    /// # Errors
    /// The parameters are invalid. The session continues with the earlier ones.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        config: SessionConfig,
        same_peer: bool,
    ) -> Result<(), ConfigError> {
        config.validate()?;
        let retained = same_peer && config.graceful_restart.is_some() && self.has_graceful_restart();
        self.config = config;
        // The new parameters may be what the peer refused the capabilities for.
        self.next_capabilities = Capabilities::default();
        if !self.started {
            return Ok(());
        }
        let cease = self.final_cease(CeaseSubcode::OtherConfigurationChange, "");
        self.end_second(now, Some(Notification::cease(CeaseSubcode::OtherConfigurationChange, "")));
        match self.state {
            SessionState::Idle | SessionState::Active => {}
            SessionState::Connect => self.events.push_back(SessionEvent::Close),
            SessionState::Established if retained => {
                self.retained_until = self.config.graceful_restart.map(|time| now + time);
                self.outbox = SessionOutbox::default();
                self.events.push_back(SessionEvent::CloseForRestart);
            }
            SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established => {
                self.outbox.notification = Some(cease);
                self.events.push_back(SessionEvent::Close);
            }
        }
        self.down(now, SessionState::Idle, DownReason::Reconfigured);
        self.failures = 0;
        self.connect(now);
        Ok(())
    }

    pub(super) fn longest_idle_hold(&self) -> Duration {
        self.config.connect_retry.min(MAX_IDLE_HOLD)
    }
}
