//! Exponential back-off.

use std::time::Duration;

/// Exponential back-off with jitter. The caller waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Returns a back-off that starts at about `first` and doubles up to about `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Records a failure. Returns the time to wait: the current step, multiplied by a factor between 0.5 and
    /// 1 that `random` (0 to 1) selects.
    pub fn fail(&mut self, random: f64) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// Records a success: the next failure waits for the first step again.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_restart_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.fail(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        backoff.succeed();
        assert_eq!(backoff.fail(0.0).as_millis(), 50);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for _ in 0..10_000 {
            assert!(backoff.fail(0.5) <= Duration::from_secs(30));
        }
    }
}
