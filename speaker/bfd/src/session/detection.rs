//! The Detection Time (RFC 5880 §6.8.4), and how this process tells its own lateness from a silent peer.

use std::time::{Duration, Instant};

use super::remote::Remote;

/// Extension of the Detection Time since the last packet.
#[derive(Debug, Default)]
pub(super) struct Detection {
    extended_until: Option<Instant>,
}

/// What the expiry of the Detection Time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It did not expire.
    NotYet,
    /// It expired, but this process ran late. It is extended.
    OwnLateness { late_by: Duration, extended_by: Duration },
    /// The peer sent no packet for the Detection Time.
    Silence,
}

impl Detection {
    /// Interval at which packets of the peer are expected.
    fn interval(remote: &Remote, receive_in_force: Duration) -> Duration {
        remote.desired_min_tx.max(receive_in_force)
    }

    /// Returns the Detection Time; `None` before the first packet of the peer.
    pub(super) fn time(remote: &Remote, receive_in_force: Duration) -> Option<Duration> {
        remote.discriminator?;
        Some(Self::interval(remote, receive_in_force) * u32::from(remote.detect_multiplier))
    }

    /// Returns when the Detection Time expires without a further packet.
    pub(super) fn expires_at(&self, remote: &Remote, receive_in_force: Duration) -> Option<Instant> {
        let regular = remote.last_received()?.checked_add(Self::time(remote, receive_in_force)?)?;
        Some(self.extended_until.map_or(regular, |extended| extended.max(regular)))
    }

    /// Ends the extension: a packet arrived.
    pub(super) const fn handle_packet(&mut self) {
        self.extended_until = None;
    }

    /// Judges the Detection Time at `now`. While this process does not run, packets may be lost in a full
    /// socket buffer. Half an interval is more than a scheduler delays a process that keeps up. The extension
    /// is given once, so that a process that is always late still detects.
    pub(super) fn judge(&mut self, now: Instant, remote: &Remote, receive_in_force: Duration) -> Expiry {
        let Some(expires_at) = self.expires_at(remote, receive_in_force).filter(|at| *at <= now) else {
            return Expiry::NotYet;
        };
        let late_by = now - expires_at;
        let interval = Self::interval(remote, receive_in_force);
        match now.checked_add(interval) {
            Some(until) if self.extended_until.is_none() && late_by > interval / 2 => {
                self.extended_until = Some(until);
                Expiry::OwnLateness { late_by, extended_by: interval }
            }
            _ => Expiry::Silence,
        }
    }
}
