//! How long a lease is, and how often things are tried.

use std::time::Duration;

use thiserror::Error;

/// The shortest retry period: who asks more often is a load on the API server.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// How long a lease is, and how often things are tried: retry period < renew deadline < lease duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why durations do not go together. The words are those of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimingError {
    /// A Lease announces whole seconds.
    #[error("--lease-duration {0:?} is not a number of whole seconds, at least 1s")]
    Seconds(Duration),
    /// A leader would go on when others already may take over.
    #[error("--renew-deadline {renew:?} is not shorter than --lease-duration {lease:?}")]
    Deadline {
        /// The renew deadline.
        renew: Duration,
        /// The lease duration.
        lease: Duration,
    },
    /// A leader would have no second try.
    #[error("--retry-period {retry:?} is not shorter than --renew-deadline {renew:?}")]
    Retry {
        /// The retry period.
        retry: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// The API server would be asked without a pause.
    #[error("--retry-period {0:?} is shorter than 100ms")]
    Hasty(Duration),
}

impl Timing {
    /// Durations that go together.
    ///
    /// # Errors
    /// See [`TimingError`].
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        let seconds = i32::try_from(lease_duration.as_secs());
        if lease_duration.subsec_nanos() != 0 || !seconds.is_ok_and(|seconds| seconds > 0) {
            return Err(TimingError::Seconds(lease_duration));
        }
        if renew_deadline >= lease_duration {
            return Err(TimingError::Deadline { renew: renew_deadline, lease: lease_duration });
        }
        if retry_period >= renew_deadline {
            return Err(TimingError::Retry { retry: retry_period, renew: renew_deadline });
        }
        if retry_period < SHORTEST_RETRY {
            return Err(TimingError::Hasty(retry_period));
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// What the holder announces: others wait as long after the last renewal that they saw.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// How long a renewal carries, from when it was sent.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// How often others look at the Lease, and the longest pause of a leader after a failure.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// How long a write may take that was sent at the end of the renew deadline: others lead only then.
    pub(super) fn last_writes(&self) -> Duration {
        self.lease_duration - self.renew_deadline
    }

    /// How often a leader renews: by default after 2 s, which leaves room for several tries within the deadline.
    pub(super) fn renew_interval(&self) -> Duration {
        (self.retry_period * 2).min(self.renew_deadline / 2)
    }

    /// How long to wait for an answer: half the deadline, so that a leader whose connection hangs can try again.
    pub(super) fn request_timeout(&self) -> Duration {
        self.renew_deadline / 2
    }

    /// The lease duration as a Lease says it.
    pub(super) fn announced_seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)
    }
}

impl Default for Timing {
    /// 10 s, 7 s and 1 s.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(10),
            renew_deadline: Duration::from_secs(7),
            retry_period: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_do_not_go_together_are_refused_and_the_flag_is_named() {
        let ms = Duration::from_millis;
        for (lease, renew, retry, says) in [
            (10_500, 7_000, 1_000, "--lease-duration 10.5s"),
            (0, 0, 0, "--lease-duration 0ns"),
            (10_000, 10_000, 1_000, "--renew-deadline 10s is not shorter than --lease-duration 10s"),
            (10_000, 7_000, 7_000, "--retry-period 7s is not shorter than --renew-deadline 7s"),
            (10_000, 7_000, 99, "--retry-period 99ms is shorter"),
        ] {
            let error = Timing::new(ms(lease), ms(renew), ms(retry)).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
        assert_eq!(Timing::new(ms(10_000), ms(7_000), ms(1_000)), Ok(Timing::default()));
    }

    #[test]
    fn a_leader_has_time_for_a_second_try() {
        assert_eq!(Timing::default().renew_interval(), Duration::from_secs(2));
        let seconds = Duration::from_secs;
        let slow = Timing::new(seconds(10), seconds(7), seconds(6)).unwrap();
        assert_eq!(slow.renew_interval(), Duration::from_millis(3500));
    }
}
