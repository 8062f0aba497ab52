//! The addresses of one family of one pool: which are taken, and the next free one.
//!
//! Free addresses are stored as gaps in the order of allocation. The next free address is the start of the
//! first gap, so the cost of finding it does not depend on the number of taken addresses. Addresses that
//! `avoidBuggyIPs` excludes belong to no gap: a gap begins and ends with an address that can be allocated.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::family::Family;

/// The position of an address in the order of allocation of its pool and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    range: u32,
    value: u128,
}

/// The ranges of a pool and the gaps between taken addresses.
#[derive(Clone, Debug)]
pub(super) struct Space {
    family: Family,
    avoid_buggy: bool,
    /// First and last address of each range, as the pool lists them.
    ranges: Vec<(u128, u128)>,
    /// First address of each range, with its index in `ranges`.
    starts: BTreeMap<u128, u32>,
    /// First slot of each gap, with its last value.
    gaps: BTreeMap<Slot, u128>,
    total: u128,
    taken: u128,
}

impl Space {
    /// Returns the addresses of `family` in `pool`, all free.
    pub(super) fn new(pool: &Pool, family: Family) -> Self {
        let mut space = Self {
            family,
            avoid_buggy: pool.avoid_buggy_ips && family == Family::V4,
            ranges: Vec::new(),
            starts: BTreeMap::new(),
            gaps: BTreeMap::new(),
            total: 0,
            taken: 0,
        };
        for range in pool.ranges.iter().filter(|r| Family::of(r.first()) == family) {
            let (first, last) = (number(range.first()), number(range.last()));
            let index = u32::try_from(space.ranges.len()).unwrap_or(u32::MAX);
            space.ranges.push((first, last));
            space.starts.insert(first, index);
            space.total = space.total.saturating_add(space.legal_count(first, last));
            let start = if space.is_legal(first) { Some(first) } else { space.next(first, last) };
            let end = if space.is_legal(last) { Some(last) } else { space.previous(last, first) };
            if let (Some(start), Some(end)) = (start, end)
                && start <= end
            {
                space.gaps.insert(Slot { range: index, value: start }, end);
            }
        }
        space
    }

    /// Returns true if the pool has no address of this family that can be allocated.
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Returns the number of addresses that can be allocated; saturates at `u128::MAX`.
    pub(super) fn total(&self) -> u128 {
        self.total
    }

    /// Returns the number of taken addresses.
    pub(super) fn taken(&self) -> u128 {
        self.taken
    }

    /// Returns the slot of an address, taken or not; None if the pool cannot allocate it.
    pub(super) fn slot(&self, ip: IpAddr) -> Option<Slot> {
        let value = number(ip);
        let (_, &range) = self.starts.range(..=value).next_back()?;
        let (_, last) = *self.ranges.get(range as usize)?;
        (Family::of(ip) == self.family && value <= last && self.is_legal(value))
            .then_some(Slot { range, value })
    }

    /// Returns the address of a slot.
    pub(super) fn address(&self, slot: Slot) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(slot.value as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(slot.value)),
        }
    }

    /// Returns the first free slot in the order of allocation.
    pub(super) fn first_free(&self) -> Option<Slot> {
        self.gaps.keys().next().copied()
    }

    /// Takes an address. Has no effect if it is taken already.
    pub(super) fn take(&mut self, slot: Slot) {
        let Some((&start, &end)) = self.gaps.range(..=slot).next_back() else { return };
        if start.range != slot.range || end < slot.value {
            return;
        }
        self.gaps.remove(&start);
        if let Some(before) = self.previous(slot.value, start.value) {
            self.gaps.insert(start, before);
        }
        if let Some(after) = self.next(slot.value, end) {
            self.gaps.insert(Slot { value: after, ..slot }, end);
        }
        self.taken += 1;
    }

    /// Frees an address. Has no effect if it is free already.
    pub(super) fn free(&mut self, slot: Slot) {
        let Some(&(first, last)) = self.ranges.get(slot.range as usize) else { return };
        let (mut start, mut end) = (slot, slot.value);
        if let Some((&left, &left_end)) = self.gaps.range(..=slot).next_back()
            && left.range == slot.range
        {
            if left_end >= slot.value {
                return;
            }
            if self.previous(slot.value, first) == Some(left_end) {
                start = left;
            }
        }
        if let Some(after) = self.next(slot.value, last)
            && let Some(right_end) = self.gaps.remove(&Slot { value: after, ..slot })
        {
            end = right_end;
        }
        self.gaps.insert(start, end);
        self.taken -= 1;
    }

    /// Returns false for addresses ending in .0 and .255 if the pool avoids them: some old clients mistake
    /// them for network and broadcast addresses.
    fn is_legal(&self, value: u128) -> bool {
        !self.avoid_buggy || !matches!(value & 0xff, 0 | 0xff)
    }

    /// Returns the next legal address after `value`, up to `last`, in at most three steps.
    fn next(&self, value: u128, last: u128) -> Option<u128> {
        let mut value = value;
        while value < last {
            value += 1;
            if self.is_legal(value) {
                return Some(value);
            }
        }
        None
    }

    /// Returns the previous legal address before `value`, down to `first`.
    fn previous(&self, value: u128, first: u128) -> Option<u128> {
        let mut value = value;
        while value > first {
            value -= 1;
            if self.is_legal(value) {
                return Some(value);
            }
        }
        None
    }

    fn legal_count(&self, first: u128, last: u128) -> u128 {
        let all = (last - first).saturating_add(1);
        if !self.avoid_buggy {
            return all;
        }
        // The number of values below `end` that are `remainder` modulo 256. IPv4 only, so nothing overflows.
        let below = |end: u128, remainder: u128| (end + 255 - remainder) / 256;
        let buggy = |remainder| below(last + 1, remainder) - below(first, remainder);
        all - buggy(0) - buggy(255)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use fairlead_test_support::{ip, pool};

    fn space(ranges: &[&str], avoid_buggy: bool) -> Space {
        let mut pool = pool("p", ranges);
        pool.avoid_buggy_ips = avoid_buggy;
        let family = Family::of(pool.ranges[0].first());
        Space::new(&pool, family)
    }

    /// Takes at most `n` addresses and returns them in order.
    fn drain(space: &mut Space, n: usize) -> Vec<String> {
        let mut given = Vec::new();
        while given.len() < n {
            let Some(slot) = space.first_free() else { break };
            given.push(space.address(slot).to_string());
            space.take(slot);
        }
        given
    }

    #[test]
    fn addresses_follow_order_of_ranges_in_pool() {
        let mut space = space(&["10.0.9.0-10.0.9.1", "10.0.1.7-10.0.1.7"], false);
        assert_eq!(drain(&mut space, 9), ["10.0.9.0", "10.0.9.1", "10.0.1.7"]);
        assert_eq!(space.first_free(), None);
    }

    #[test]
    fn buggy_addresses_are_skipped_at_ends_and_inside() {
        let mut space = space(&["10.0.0.254-10.0.1.1", "10.0.3.255-10.0.4.0"], true);
        assert_eq!(space.total(), 2);
        assert_eq!(drain(&mut space, 9), ["10.0.0.254", "10.0.1.1"]);
    }

    /// MetalLB: `TestPoolCount`.
    #[test]
    fn total_counts_legal_addresses() {
        for (ranges, avoid_buggy, total) in [
            (vec!["1.2.3.0-1.2.3.255"], false, 256),
            (vec!["1.2.3.0-1.2.3.255"], true, 254),
            (vec!["1.2.3.0-1.2.3.255", "2.3.4.128-2.3.4.255"], false, 384),
            (vec!["1.2.3.0-1.2.3.255", "2.3.4.128-2.3.4.255"], true, 381),
            (vec!["1.2.3.4-1.2.3.5"], false, 2),
            (vec!["10.0.0.0-10.255.255.255"], true, (1 << 24) - 2 * (1 << 16)),
            (vec!["fc00::-fc00::ffff:ffff:ffff:ffff"], false, 1 << 64),
            (vec!["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], false, 1 << 127),
            (vec!["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], false, u128::MAX),
        ] {
            assert_eq!(space(&ranges, avoid_buggy).total(), total, "{ranges:?} {avoid_buggy}");
        }
        // MetalLB's own count overflows when the huge range comes first.
        let huge_first = space(&["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::-ffff::"], false);
        assert!(huge_first.total() > 1 << 127);
    }

    #[test]
    fn full_space_keeps_no_gap_of_buggy_addresses() {
        let mut space = space(&["10.0.0.0-10.0.255.255"], true);
        assert_eq!(drain(&mut space, usize::MAX).len(), 254 * 256);
        assert!(space.gaps.is_empty());
    }

    #[test]
    fn highest_ipv6_address_can_be_taken_and_freed() {
        let mut space = space(
            &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            false,
        );
        assert_eq!(drain(&mut space, 9).len(), 2);
        let last = space.slot(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")).unwrap();
        space.free(last);
        assert_eq!(space.first_free(), Some(last));
    }

    proptest! {
        /// Compares with a model that walks every address.
        #[test]
        fn take_and_free_agree_with_walk(
            avoid_buggy: bool,
            steps in prop::collection::vec((0u32..1100, any::<bool>()), 0..200),
        ) {
            let ranges = ["10.0.1.250-10.0.3.3", "10.0.0.0-10.0.0.20", "10.0.3.250-10.0.4.6"];
            let mut space = space(&ranges, avoid_buggy);
            let all = space.ranges.iter().flat_map(|&(first, last)| first..=last);
            let legal: Vec<u128> = all.filter(|&value| space.is_legal(value)).collect();
            let mut taken = BTreeSet::new();
            for (offset, take) in steps {
                let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + offset));
                let slot = space.slot(address);
                prop_assert_eq!(slot.is_some(), legal.contains(&number(address)));
                let Some(slot) = slot else { continue };
                if take {
                    space.take(slot);
                    taken.insert(slot.value);
                } else {
                    space.free(slot);
                    taken.remove(&slot.value);
                }
                prop_assert_eq!(space.taken(), taken.len() as u128);
                let first = legal.iter().find(|v| !taken.contains(v));
                prop_assert_eq!(space.first_free().map(|s| s.value), first.copied());
            }
            prop_assert_eq!(space.total(), legal.len() as u128);
        }
    }
}
