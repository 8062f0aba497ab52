//! The weights of prefixes: how many endpoints on this node serve the addresses in a prefix.
//!
//! A weight changes with every pod that starts or stops. Each change costs the routers an update of their
//! forwarding tables, so that the weight of a prefix changes at most once per [`INTERVAL`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Shortest time between two changes of the weight of one prefix.
const INTERVAL: Duration = Duration::from_secs(1);

/// The weights of all prefixes that have endpoints on this node.
#[derive(Debug, Default)]
pub(crate) struct PrefixWeights {
    by_prefix: BTreeMap<IpNet, PrefixWeight>,
    /// Prefixes whose weight is to change, by time.
    due: BTreeSet<(Instant, IpNet)>,
}

#[derive(Debug, Default)]
struct PrefixWeight {
    /// Number of endpoints.
    endpoints: u32,
    /// The weight in force, and since when; zero before the first one.
    announced: u32,
    since: Option<Instant>,
}

impl PrefixWeights {
    /// Adds endpoints of a Service.
    pub(crate) fn add(&mut self, prefix: IpNet, endpoints: u32) {
        if endpoints > 0 {
            self.by_prefix.entry(prefix).or_default().endpoints += endpoints;
        }
    }

    /// Reverts [`PrefixWeights::add`].
    pub(crate) fn remove(&mut self, prefix: IpNet, endpoints: u32) {
        if let Some(weight) = self.by_prefix.get_mut(&prefix) {
            weight.endpoints = weight.endpoints.saturating_sub(endpoints);
        }
    }

    /// Returns the weight of a prefix, and puts a changed one in force if the last change is long enough ago.
    /// Otherwise [`PrefixWeights::take_due`] returns the prefix later. `now` is `None` if the time is not
    /// known; then every change is in force at once.
    pub(crate) fn update(&mut self, prefix: IpNet, now: Option<Instant>) -> u32 {
        let Some(weight) = self.by_prefix.get_mut(&prefix) else { return 0 };
        if weight.endpoints == weight.announced {
            return weight.announced;
        }
        match weight.since.zip(now) {
            Some((since, now)) if weight.announced > 0 && now < since + INTERVAL => {
                self.due.insert((since + INTERVAL, prefix));
            }
            _ => (weight.announced, weight.since) = (weight.endpoints, now),
        }
        let announced = weight.announced;
        if announced == 0 {
            self.by_prefix.remove(&prefix);
        }
        announced
    }

    /// Forgets the weight of a prefix that is withdrawn.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        if self.by_prefix.get(&prefix).is_some_and(|weight| weight.endpoints == 0) {
            self.by_prefix.remove(&prefix);
        }
    }

    /// Returns when [`PrefixWeights::take_due`] has prefixes to return.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the prefixes whose weight may change now.
    pub(crate) fn take_due(&mut self, now: Instant) -> impl Iterator<Item = IpNet> + '_ {
        std::iter::from_fn(move || {
            self.due.first().filter(|(at, _)| *at <= now)?;
            self.due.pop_first().map(|(_, prefix)| prefix)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_changes_at_most_once_per_second() {
        let prefix: IpNet = "192.0.2.1/32".parse().unwrap();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut weights = PrefixWeights::default();
        weights.add(prefix, 3);
        assert_eq!(weights.update(prefix, Some(at(0))), 3, "the first weight is in force at once");
        // (time in ms, endpoints added or removed, weight, time of the next change)
        for (now, change, expected, next) in [
            (100, 1, 3, Some(1000)),
            (200, 1, 3, Some(1000)),
            (1000, 0, 5, None),
            (1100, -1, 5, Some(2000)),
            (1200, 1, 5, Some(2000)),
            (2000, 0, 5, None),
            // The last change is more than a second ago.
            (2100, -2, 3, None),
            (2200, -3, 3, Some(3100)),
            (3100, 0, 0, None),
            (3200, 7, 7, None),
        ] {
            match u32::try_from(change) {
                Ok(added) => weights.add(prefix, added),
                Err(_) => weights.remove(prefix, u32::try_from(-change).unwrap()),
            }
            for due in weights.take_due(at(now)).collect::<Vec<_>>() {
                assert_eq!(due, prefix);
            }
            assert_eq!(weights.update(prefix, Some(at(now))), expected, "after {now} ms");
            assert_eq!(weights.poll_timeout(), next.map(at), "after {now} ms");
        }
    }

    #[test]
    fn withdrawn_prefix_is_forgotten() {
        let prefix: IpNet = "192.0.2.1/32".parse().unwrap();
        let mut weights = PrefixWeights::default();
        weights.add(prefix, 3);
        weights.update(prefix, None);
        weights.forget(prefix);
        assert_eq!(weights.update(prefix, None), 3, "still in use");
        weights.remove(prefix, 3);
        weights.forget(prefix);
        assert!(weights.by_prefix.is_empty());
    }
}
