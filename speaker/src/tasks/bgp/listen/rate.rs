//! How fast connections are accepted. Contains no I/O.

use std::time::{Duration, Instant};

/// Connections that are accepted per second. A flood of them costs the thread of the sessions at most some
/// percent of a core.
pub(super) const MAX_PER_SECOND: u32 = 1_000;
/// Connections that are accepted at once after a pause.
const BURST: u32 = 100;

/// A token bucket.
#[derive(Debug)]
pub(super) struct AcceptRate {
    /// When the bucket was full, if it filled on without limit.
    full_at: Instant,
}

impl AcceptRate {
    pub(super) const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Counts a connection.
    pub(super) fn count(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + Duration::from_secs(1) / MAX_PER_SECOND;
    }

    /// Returns when to accept the next connection.
    pub(super) fn next(&self) -> Instant {
        self.full_at.checked_sub(Duration::from_secs(1) / MAX_PER_SECOND * BURST).unwrap_or(self.full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_accepted_at_the_maximum_rate() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut rate = AcceptRate::new(start);
        let (mut now, mut accepted) = (start, 0);
        while now < start + Duration::from_secs(3) {
            now = now.max(rate.next());
            rate.count(now);
            accepted += 1;
        }
        assert!((3_000..=3_000 + BURST + 1).contains(&accepted), "{accepted}");
        // A router that connects after a pause does not wait.
        now += Duration::from_secs(1);
        assert!(rate.next() <= now);
    }
}
