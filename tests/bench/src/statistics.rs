//! Statistics of samples. Pure.

use std::time::Duration;

/// Samples of one measure, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples<T>(Vec<T>);

impl<T: Copy + Ord> Samples<T> {
    /// Returns the nearest-rank percentile: the smallest sample that at least `share` (0 to 1) of all samples
    /// do not exceed. `None` without samples.
    pub(crate) fn percentile(&self, share: f64) -> Option<T> {
        let last = self.0.len().checked_sub(1)?;
        // Rank 1 is the smallest. An f64 represents the product of a share and a count exactly enough; the
        // small subtraction keeps 0.99 × 100 at rank 99.
        let rank = (share.clamp(0.0, 1.0) * self.0.len() as f64 - 1e-9).ceil().max(1.0) as usize;
        self.0.get((rank - 1).min(last)).copied()
    }

    /// Returns the median by the same rule, so it is always a sample.
    pub(crate) fn median(&self) -> Option<T> {
        self.percentile(0.5)
    }

    /// Returns the largest sample.
    pub(crate) fn max(&self) -> Option<T> {
        self.0.last().copied()
    }
}

impl<T: Ord> FromIterator<T> for Samples<T> {
    fn from_iter<I: IntoIterator<Item = T>>(samples: I) -> Self {
        let mut samples: Vec<T> = samples.into_iter().collect();
        samples.sort_unstable();
        Self(samples)
    }
}

/// Returns events per second; 0 if no time passed.
pub(crate) fn rate(events: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { events as f64 / time.as_secs_f64() }
}

/// Returns the cost of one of `events` when `spent` was used in `elapsed`, after subtracting the use at rest,
/// `at_rest` (a share of time). Never negative.
pub(crate) fn per_event(spent: Duration, elapsed: Duration, at_rest: f64, events: usize) -> Duration {
    let base = elapsed.mul_f64(at_rest.max(0.0));
    let events = u32::try_from(events).unwrap_or(u32::MAX).max(1);
    spent.saturating_sub(base) / events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_uses_nearest_rank() {
        // (samples 1..=n, share, expected)
        for (n, share, expected) in [
            (1, 0.0, 1),
            (1, 0.5, 1),
            (1, 0.99, 1),
            (4, 0.5, 2),
            (5, 0.5, 3),
            (100, 0.5, 50),
            (100, 0.99, 99),
            (100, 1.0, 100),
            (101, 0.99, 100),
            (200, 0.99, 198),
            (10, 0.99, 10),
        ] {
            let samples: Samples<u32> = (1..=n).rev().collect();
            assert_eq!(samples.percentile(share), Some(expected), "p{share} of 1..={n}");
        }
    }

    #[test]
    fn empty_samples_have_no_percentile() {
        let none: Samples<u32> = Samples::default();
        assert_eq!((none.median(), none.max()), (None, None));
    }

    #[test]
    fn outlier_changes_maximum_only() {
        let samples: Samples<u32> = [10, 900, 12, 11, 10].into_iter().collect();
        assert_eq!((samples.median(), samples.max()), (Some(11), Some(900)));
    }

    #[test]
    fn rate_without_elapsed_time_is_zero() {
        assert_eq!(rate(100, Duration::from_millis(500)), 200.0);
        assert_eq!(rate(100, Duration::ZERO), 0.0);
    }

    #[test]
    fn cost_per_event_excludes_use_at_rest() {
        let ms = Duration::from_millis;
        // 300 ms used in 10 s, of which 1 % (100 ms) is use at rest: 200 ms for 100 events.
        assert_eq!(per_event(ms(300), ms(10_000), 0.01, 100), ms(2));
        assert_eq!(per_event(ms(50), ms(10_000), 0.01, 100), ms(0));
        assert_eq!(per_event(ms(50), ms(0), 0.0, 0), ms(50));
    }
}
