//! What failures in a row mean: how long to wait after each, and what to say of all of them.

use std::time::Duration;

use crate::backoff::Backoff;

/// Waits between retries. Longer ones would be what a new Service waits after the API server is back.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// The failures since it worked last. A value: the caller waits and logs.
#[derive(Debug)]
pub(super) struct Outage {
    backoff: Backoff,
    failing: bool,
}

impl Default for Outage {
    fn default() -> Self {
        Self { backoff: Backoff::new(RETRY.0, RETRY.1), failing: false }
    }
}

impl Outage {
    /// One more failure, of which the API server perhaps said how long to wait; `random` is between 0 and 1. Returns
    /// how long to wait, and whether it is the first.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>, random: f64) -> (Duration, bool) {
        // On top of what was asked for: many were told the same, and are not to come back all at once.
        let pause = self.backoff.fail(random) + retry_after.unwrap_or_default();
        (pause, !std::mem::replace(&mut self.failing, true))
    }

    /// It works. Returns whether it did not before.
    pub(super) fn over(&mut self) -> bool {
        self.backoff.succeed();
        std::mem::take(&mut self.failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_has_a_first_failure_and_one_end() {
        let mut outage = Outage::default();
        assert!(!outage.over(), "there was none");
        for _ in 0..3 {
            let firsts: Vec<_> = (0..3).map(|_| outage.failed(None, 1.0).1).collect();
            assert_eq!(firsts, [true, false, false]);
            assert!(outage.over());
            assert!(!outage.over());
        }
    }

    #[test]
    fn waits_grow_until_it_works_and_last_at_least_as_long_as_the_api_server_asks() {
        let mut outage = Outage::default();
        let waits: Vec<_> = (0..6).map(|_| outage.failed(None, 1.0).0.as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 5000]);
        outage.over();
        assert_eq!(outage.failed(Some(Duration::from_secs(8)), 1.0).0.as_millis(), 8500);
    }
}
