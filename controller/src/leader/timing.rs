//! The durations of leader election.

use std::time::Duration;

use thiserror::Error;

/// Shortest allowed retry period: a shorter one would load the API server.
const MIN_RETRY_PERIOD: Duration = Duration::from_millis(100);

/// The durations of leader election: retry period < renew deadline < lease duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// The reason for which durations are rejected. Messages name the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum TimingError {
    /// `leaseDurationSeconds` of a Lease is a whole number.
    #[error("--lease-duration {0:?} is not a number of whole seconds, at least 1s")]
    LeaseDuration(Duration),
    /// A leader would still write when others may already have taken over.
    #[error("--renew-deadline {renew:?} is not shorter than --lease-duration {lease:?}")]
    RenewDeadline { renew: Duration, lease: Duration },
    /// A leader could not retry a failed renewal.
    #[error("--retry-period {retry:?} is not shorter than --renew-deadline {renew:?}")]
    RetryPeriod { retry: Duration, renew: Duration },
    /// Candidates would load the API server.
    #[error("--retry-period {0:?} is shorter than 100ms")]
    RetryPeriodTooShort(Duration),
}

impl Timing {
    /// Returns the timing if the durations fit together.
    ///
    /// # Errors
    /// Returns a [`TimingError`] that names the flag to correct.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        let seconds = i32::try_from(lease_duration.as_secs());
        if lease_duration.subsec_nanos() != 0 || !seconds.is_ok_and(|seconds| seconds > 0) {
            return Err(TimingError::LeaseDuration(lease_duration));
        }
        if renew_deadline >= lease_duration {
            return Err(TimingError::RenewDeadline { renew: renew_deadline, lease: lease_duration });
        }
        if retry_period >= renew_deadline {
            return Err(TimingError::RetryPeriod { retry: retry_period, renew: renew_deadline });
        }
        if retry_period < MIN_RETRY_PERIOD {
            return Err(TimingError::RetryPeriodTooShort(retry_period));
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// Returns how long others wait after the last renewal that they observed. The holder announces it in the
    /// Lease.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// Returns how long a leader leads after it sent its last successful renewal.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Returns how often standbys read the Lease; also the longest back-off of a leader.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// Returns how long a write that was sent at the end of the renew deadline may take before another
    /// process leads.
    pub(super) fn last_write_grace(&self) -> Duration {
        self.lease_duration - self.renew_deadline
    }

    /// Returns how often a leader renews: twice the retry period, but at least two renewals fit into the
    /// deadline.
    pub(super) fn renew_interval(&self) -> Duration {
        (self.retry_period * 2).min(self.renew_deadline / 2)
    }

    /// Returns the time limit of a request: half the renew deadline, so that a leader can retry a request
    /// that hangs.
    pub(super) fn request_timeout(&self) -> Duration {
        self.renew_deadline / 2
    }

    /// Returns `leaseDurationSeconds` of the Lease.
    pub(super) fn announced_seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)
    }
}

impl Default for Timing {
    /// Returns a lease duration of 10 s, a renew deadline of 7 s and a retry period of 1 s.
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
    fn timing_inconsistent_names_the_flag() {
        let ms = Duration::from_millis;
        for (lease, renew, retry, prefix) in [
            (10_500, 7_000, 1_000, "--lease-duration 10.5s"),
            (0, 0, 0, "--lease-duration 0ns"),
            (10_000, 10_000, 1_000, "--renew-deadline 10s is not shorter than --lease-duration 10s"),
            (10_000, 7_000, 7_000, "--retry-period 7s is not shorter than --renew-deadline 7s"),
            (10_000, 7_000, 99, "--retry-period 99ms is shorter"),
        ] {
            let error = Timing::new(ms(lease), ms(renew), ms(retry)).unwrap_err().to_string();
            assert!(error.starts_with(prefix), "{error}");
        }
        assert_eq!(Timing::new(ms(10_000), ms(7_000), ms(1_000)), Ok(Timing::default()));
    }

    #[test]
    fn renew_interval_leaves_time_for_a_retry() {
        assert_eq!(Timing::default().renew_interval(), Duration::from_secs(2));
        let seconds = Duration::from_secs;
        let slow = Timing::new(seconds(10), seconds(7), seconds(6)).unwrap();
        assert_eq!(slow.renew_interval(), Duration::from_millis(3500));
    }
}
