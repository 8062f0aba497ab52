//! How often the `Speaker` object is written.
//!
//! Every speaker and every controller watches the object, so that each of them receives it after each write.
//! The interval between two writes therefore grows with the size of what was written. A change that other
//! programs act on does not wait for the longer interval.

use std::time::{Duration, Instant};

/// Minimum time between two writes, also after a failure.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two writes, whatever their size.
pub const MAX_WRITE_INTERVAL: Duration = Duration::from_secs(30);
/// Octets that are written per second on average. A list of 1,000 addresses that are not adjacent has about
/// this size.
const OCTETS_PER_SECOND: usize = 16 * 1024;
/// Number of deletions of the object after which it is written again at once: a person may have deleted it.
const TOLERATED_DELETIONS: u32 = 3;
/// Longest time from a deletion to the next write. Until then, other speakers do not find this one.
const MAX_RECREATION_DELAY: Duration = Duration::from_secs(30);
/// Time without a deletion after which earlier ones no longer count.
const QUIET: Duration = Duration::from_secs(600);

/// The times before which the object must not be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WritePace {
    /// The time before which nothing is written.
    not_before: Option<Instant>,
    /// The time before which only urgent changes are written.
    bulk_not_before: Option<Instant>,
    deletions: Deletions,
}

/// The deletions of the object by others.
#[derive(Clone, Copy, Debug, Default)]
struct Deletions {
    /// The object was deleted since the last call of [`WritePace::not_before`].
    is_new: bool,
    /// Number of deletions, none longer than [`QUIET`] after the one before.
    count: u32,
    last: Option<Instant>,
}

impl WritePace {
    /// Handles the success of a write, after which the status has this size.
    pub(crate) fn handle_written(&mut self, now: Instant, octets: usize) {
        self.not_before = Some(now + WRITE_INTERVAL);
        self.bulk_not_before = Some(now + interval(octets));
    }

    /// Handles the failure of a write; the next attempt follows `retry_after` later.
    pub(crate) fn handle_failure(&mut self, now: Instant, retry_after: Duration) {
        self.not_before = Some(now + retry_after.max(WRITE_INTERVAL));
    }

    /// Handles a deletion of the object.
    pub(crate) fn handle_deletion(&mut self) {
        self.deletions.is_new = true;
    }

    /// Returns when the object may be written; `None` if it may be written now.
    pub(crate) fn not_before(&mut self, now: Instant, is_urgent: bool) -> Option<Instant> {
        self.not_before = self.not_before.max(self.deletions.handle_new(now));
        let bulk = self.bulk_not_before.filter(|_| !is_urgent);
        self.not_before.max(bulk).filter(|not_before| now < *not_before)
    }
}

impl Deletions {
    /// Returns the time before which the object must not be written again because of a new deletion.
    fn handle_new(&mut self, now: Instant) -> Option<Instant> {
        if !std::mem::take(&mut self.is_new) {
            return None;
        }
        let is_repeated = self.last.is_some_and(|last| now < last + QUIET);
        self.count = if is_repeated { self.count.saturating_add(1) } else { 1 };
        self.last = Some(now);
        let doublings = self.count.checked_sub(TOLERATED_DELETIONS + 1)?;
        Some(now + WRITE_INTERVAL.saturating_mul(2 << doublings.min(8)).min(MAX_RECREATION_DELAY))
    }
}

/// Returns the time from a write of this size to the next.
fn interval(octets: usize) -> Duration {
    let milliseconds = octets.saturating_mul(1000) / OCTETS_PER_SECOND;
    let proportional = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX));
    proportional.clamp(WRITE_INTERVAL, MAX_WRITE_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_grows_with_size_up_to_its_maximum() {
        for (octets, milliseconds) in [
            (0, 1_000),
            (2_000, 1_000),
            (16 * 1024, 1_000),
            (48 * 1024, 3_000),
            (256 * 1024, 16_000),
            (480 * 1024, 30_000),
            (usize::MAX, 30_000),
        ] {
            assert_eq!(interval(octets), Duration::from_millis(milliseconds), "{octets} octets");
        }
    }
}
