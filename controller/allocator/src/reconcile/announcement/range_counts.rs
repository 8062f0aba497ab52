//! How many speakers announce each address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::range::IpRange;

/// A count for each address. The cost of a change is the number of segments in the changed range; a segment
/// is a range of addresses with the same count.
#[derive(Debug, Default)]
pub(super) struct RangeCounts {
    /// The count of each segment by its first address. A segment ends where the next one begins. Addresses
    /// before the first segment have the count 0.
    segments: BTreeMap<IpAddr, u32>,
}

impl RangeCounts {
    /// Returns the count of an address.
    pub(super) fn get(&self, ip: IpAddr) -> u32 {
        self.segments.range(..=ip).next_back().map_or(0, |(_, count)| *count)
    }

    /// Adds one to the counts in a range. Returns the parts whose count was zero.
    pub(super) fn add(&mut self, range: IpRange) -> Vec<IpRange> {
        self.change(range, |count| count.saturating_add(1), |before, _| before == 0)
    }

    /// Subtracts one from the counts in a range. Returns the parts whose count is zero now.
    pub(super) fn remove(&mut self, range: IpRange) -> Vec<IpRange> {
        self.change(range, |count| count.saturating_sub(1), |_, after| after == 0)
    }

    fn change(
        &mut self,
        range: IpRange,
        change: impl Fn(u32) -> u32,
        is_reported: impl Fn(u32, u32) -> bool,
    ) -> Vec<IpRange> {
        let after = IpRange::next(range.last());
        for start in std::iter::once(range.first()).chain(after) {
            let count = self.get(start);
            self.segments.entry(start).or_insert(count);
        }
        let mut reported = Vec::new();
        let mut starts: Vec<IpAddr> = Vec::new();
        let mut open: Option<IpAddr> = None;
        for (start, count) in self.segments.range_mut(range.first()..=range.last()) {
            let (before, new) = (*count, change(*count));
            *count = new;
            starts.push(*start);
            match (is_reported(before, new), open) {
                (true, None) => open = Some(*start),
                (false, Some(first)) => {
                    reported.extend(IpRange::previous(*start).and_then(|last| IpRange::new(first, last)));
                    open = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        reported.extend(open.and_then(|first| IpRange::new(first, range.last())));
        // Neighbors with the same count are one segment.
        for start in starts.into_iter().chain(after) {
            let before = self.segments.range(..start).next_back().map_or(0, |(_, count)| *count);
            if self.segments.get(&start) == Some(&before) {
                self.segments.remove(&start);
            }
        }
        reported
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn only_the_first_and_the_last_speaker_of_an_address_are_reported() {
        let mut counts = RangeCounts::default();
        assert_eq!(counts.add(range("192.0.2.1-192.0.2.9")), [range("192.0.2.1-192.0.2.9")]);
        assert_eq!(counts.add(range("192.0.2.5-192.0.2.12")), [range("192.0.2.10-192.0.2.12")]);
        assert_eq!(counts.add(range("192.0.2.2")), []);
        let count = |counts: &RangeCounts, ip: &str| counts.get(ip.parse().unwrap());
        assert_eq!(
            ["192.0.2.0", "192.0.2.2", "192.0.2.3", "192.0.2.6", "192.0.2.13"].map(|ip| count(&counts, ip)),
            [0, 2, 1, 2, 0]
        );
        assert_eq!(
            counts.remove(range("192.0.2.1-192.0.2.9")),
            [range("192.0.2.1"), range("192.0.2.3-192.0.2.4")]
        );
        assert_eq!(counts.remove(range("192.0.2.5-192.0.2.12")), [range("192.0.2.5-192.0.2.12")]);
        assert_eq!(counts.remove(range("192.0.2.2")), [range("192.0.2.2")]);
        assert_eq!(counts.segments(), 0);
    }

    #[test]
    fn ranges_at_the_ends_of_the_families_are_counted() {
        let mut counts = RangeCounts::default();
        let ends = ["255.255.255.250-255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
        for text in ends {
            assert_eq!(counts.add(range(text)), [range(text)]);
        }
        assert_eq!(counts.get("::".parse().unwrap()), 1);
        assert_eq!(counts.get("::1".parse().unwrap()), 0);
        for text in ends {
            assert_eq!(counts.remove(range(text)), [range(text)]);
        }
        assert_eq!(counts.segments(), 0);
    }
}
