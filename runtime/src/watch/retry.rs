//! Retries of a list or watch: the time to wait after each failure, and which failures to log.

use std::time::Duration;

use crate::backoff::Backoff;

/// The first wait and the longest. After an outage of the API server, a new Service may have to wait for the
/// longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// The failures since the last success. The caller waits and logs.
#[derive(Debug)]
pub(super) struct RetryState {
    backoff: Backoff,
    failing: bool,
}

impl Default for RetryState {
    fn default() -> Self {
        Self { backoff: Backoff::new(WAITS.0, WAITS.1), failing: false }
    }
}

impl RetryState {
    /// Records a failure. Returns the time to wait, and true if this is the first failure since the last
    /// success.
    ///
    /// `retry_after` is the time that the API server requested; `random` is a number between 0 and 1.
    pub(super) fn record_failure(&mut self, retry_after: Option<Duration>, random: f64) -> (Duration, bool) {
        // The sum: other clients were told the same time and must not all retry at once.
        let wait = self.backoff.fail(random) + retry_after.unwrap_or_default();
        (wait, !std::mem::replace(&mut self.failing, true))
    }

    /// Records a success. Returns true if it ends a series of failures.
    pub(super) fn record_success(&mut self) -> bool {
        self.backoff.succeed();
        std::mem::take(&mut self.failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_has_one_first_failure_and_one_end() {
        let mut state = RetryState::default();
        assert!(!state.record_success(), "nothing has failed yet");
        for _ in 0..3 {
            let firsts: Vec<_> = (0..3).map(|_| state.record_failure(None, 1.0).1).collect();
            assert_eq!(firsts, [true, false, false]);
            assert!(state.record_success());
            assert!(!state.record_success());
        }
    }

    #[test]
    fn waits_grow_until_success_and_include_retry_after() {
        let mut state = RetryState::default();
        let waits: Vec<_> = (0..6).map(|_| state.record_failure(None, 1.0).0.as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 5000]);
        state.record_success();
        assert_eq!(state.record_failure(Some(Duration::from_secs(8)), 1.0).0.as_millis(), 8500);
    }
}
