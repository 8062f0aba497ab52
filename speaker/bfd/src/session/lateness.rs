//! Reaction to packets that leave late: a longer transmit interval, before the peer declares the session
//! down.

use std::time::{Duration, Instant};

/// Number of transmissions in the sample.
const SAMPLE: u32 = 10;
/// Late transmissions in the sample that raise the interval.
const RAISE_AT: u32 = 3;
/// Upper bound of a raised interval.
const MAX_RAISED: Duration = Duration::from_secs(1);
/// Time without a late transmission after which the configured interval is restored.
const RESTORE_AFTER: Duration = Duration::from_secs(60);

/// Sample of the last periodic transmissions.
#[derive(Debug, Default)]
pub(super) struct TransmitLateness {
    /// One bit for each transmission, the last one lowest; set if it was late.
    late: u16,
    last_late: Option<Instant>,
    /// The raised interval.
    raised: Option<Duration>,
}

impl TransmitLateness {
    /// Returns the interval to announce: the configured one, or the raised one.
    pub(super) fn desired_min_tx(&self, configured: Duration) -> Duration {
        self.raised.map_or(configured, |raised| raised.max(configured))
    }

    pub(super) const fn is_raised(&self) -> bool {
        self.raised.is_some()
    }

    /// Records a periodic transmission that was due after `interval`. Returns whether it was late: by more
    /// than a quarter of the interval.
    pub(super) fn handle_transmit(&mut self, now: Instant, late_by: Duration, interval: Duration) -> bool {
        let late = late_by > interval / 4;
        self.late = (self.late << 1 | u16::from(late)) & ((1 << SAMPLE) - 1);
        if late {
            self.last_late = Some(now);
        }
        late
    }

    /// Doubles the interval if too many transmissions of the sample were late. Returns whether it did.
    pub(super) fn raise(&mut self, configured: Duration) -> bool {
        let current = self.desired_min_tx(configured);
        if self.late.count_ones() < RAISE_AT || current >= MAX_RAISED {
            return false;
        }
        self.late = 0;
        self.raised = Some((current * 2).min(MAX_RAISED));
        true
    }

    /// Returns when to call [`Self::restore`].
    pub(super) fn restore_at(&self) -> Option<Instant> {
        self.raised.and(self.last_late)?.checked_add(RESTORE_AFTER)
    }

    /// Returns to the configured interval if it is time. Returns whether it did.
    pub(super) fn restore(&mut self, now: Instant) -> bool {
        let due = self.restore_at().is_some_and(|at| at <= now);
        if due {
            *self = Self::default();
        }
        due
    }
}
