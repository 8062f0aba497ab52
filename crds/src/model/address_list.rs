//! Lists of addresses in the status of a `Speaker`.

use std::net::IpAddr;

use super::range::IpRange;
use crate::v1beta1::{Announced, MAX_ANNOUNCED_ENTRIES, MAX_ANNOUNCED_OCTETS};

/// Octets of an entry in a JSON array besides its text: two quotes and a comma.
const ENTRY_OVERHEAD: usize = 3;

/// A set of addresses as disjoint ranges, in ascending order, IPv4 before IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    ranges: Box<[IpRange]>,
}

impl AddressList {
    /// Returns the entries of the API, and whether they contain all addresses. Ranges beyond
    /// [`MAX_ANNOUNCED_ENTRIES`] and [`MAX_ANNOUNCED_OCTETS`] are left out.
    pub fn encode(&self) -> (Vec<String>, bool) {
        let mut octets = 0;
        let entries = self.ranges.iter().take(MAX_ANNOUNCED_ENTRIES).map(encode);
        let entries: Vec<String> = entries
            .take_while(|entry| {
                octets += entry.len() + ENTRY_OVERHEAD;
                octets <= MAX_ANNOUNCED_OCTETS
            })
            .collect();
        let is_complete = entries.len() == self.ranges.len();
        (entries, is_complete)
    }

    /// Reads the addresses that a `Speaker` lists for one protocol, and whether they are all. A list with an
    /// unreadable entry is incomplete.
    pub fn decode(announced: &Announced) -> (Self, bool) {
        let listed = announced.addresses.iter().take(MAX_ANNOUNCED_ENTRIES);
        let ranges: Vec<IpRange> = listed.filter_map(|entry| decode(entry)).collect();
        let is_complete = announced.complete == Some(true) && ranges.len() == announced.addresses.len();
        (ranges.into_iter().collect(), is_complete)
    }

    /// Returns the ranges, in order.
    pub fn ranges(&self) -> &[IpRange] {
        &self.ranges
    }

    /// Returns true if the list contains the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let after = self.ranges.partition_point(|range| range.first() <= ip);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|range| range.contains(ip))
    }

    /// Returns the ranges of this list that `other` does not contain.
    pub fn without(&self, other: &Self) -> Vec<IpRange> {
        let mut rest = Vec::new();
        let mut others = other.ranges.iter().peekable();
        for range in &self.ranges {
            let mut first = Some(range.first());
            while others.next_if(|other| other.last() < range.first()).is_some() {}
            let mut overlapping = others.clone();
            while let (Some(from), Some(other)) = (first, overlapping.next()) {
                if other.first() > range.last() {
                    break;
                }
                let before =
                    IpRange::previous(other.first()).filter(|last| from < other.first() && *last >= from);
                rest.extend(before.and_then(|last| IpRange::new(from, last)));
                first = IpRange::next(other.last()).filter(|next| *next <= range.last());
            }
            rest.extend(first.and_then(|first| IpRange::new(first, range.last())));
        }
        rest
    }
}

impl FromIterator<IpAddr> for AddressList {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        addresses.into_iter().filter_map(|ip| IpRange::new(ip, ip)).collect()
    }
}

impl FromIterator<IpRange> for AddressList {
    fn from_iter<I: IntoIterator<Item = IpRange>>(ranges: I) -> Self {
        let mut sorted: Vec<IpRange> = ranges.into_iter().collect();
        sorted.sort();
        let mut merged: Vec<IpRange> = Vec::new();
        for range in sorted {
            let joined = merged.last().and_then(|last| {
                let is_adjacent =
                    range.first() <= last.last() || IpRange::next(last.last()) == Some(range.first());
                IpRange::new(last.first(), last.last().max(range.last())).filter(|_| is_adjacent)
            });
            match (joined, merged.last_mut()) {
                (Some(joined), Some(last)) => *last = joined,
                _ => merged.push(range),
            }
        }
        Self { ranges: merged.into() }
    }
}

fn encode(range: &IpRange) -> String {
    if range.first() == range.last() { range.first().to_string() } else { range.to_string() }
}

fn decode(entry: &str) -> Option<IpRange> {
    match entry.split_once('-') {
        Some((first, last)) => IpRange::new(first.parse().ok()?, last.parse().ok()?),
        None => entry.parse().ok().and_then(|ip| IpRange::new(ip, ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AddressList {
        entries.iter().map(|entry| decode(entry).unwrap()).collect()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn texts(ranges: &[IpRange]) -> Vec<String> {
        ranges.iter().map(encode).collect()
    }

    #[test]
    fn adjacent_addresses_are_one_entry() {
        for (entries, expected) in [
            (&["192.0.2.1", "192.0.2.2", "192.0.2.4"][..], &["192.0.2.1-192.0.2.2", "192.0.2.4"][..]),
            (&["192.0.2.9", "192.0.2.1-192.0.2.5", "192.0.2.3-192.0.2.8"], &["192.0.2.1-192.0.2.9"]),
            (&["2001:db8::ffff", "2001:db8::1:0"], &["2001:db8::ffff-2001:db8::1:0"]),
            (&["::", "255.255.255.255"], &["255.255.255.255", "::"]),
            (&[], &[]),
        ] {
            let (encoded, is_complete) = list(entries).encode();
            assert_eq!((encoded, is_complete), (strings(expected), true));
        }
    }

    #[test]
    fn list_is_bounded_by_entries_and_octets() {
        let every_second = |base: u128, count: u128| -> AddressList {
            (0..count).map(|n| IpAddr::V6((base + 2 * n).into())).collect()
        };
        let base = u128::from_str_radix("20010db8111122223333444455550000", 16).unwrap();
        let (entries, is_complete) = every_second(base, 5_000).encode();
        let octets: usize = entries.iter().map(|entry| entry.len() + ENTRY_OVERHEAD).sum();
        assert!(!is_complete && entries.len() < MAX_ANNOUNCED_ENTRIES && octets <= MAX_ANNOUNCED_OCTETS);
        let (entries, is_complete) = every_second(1 << 112, 5_000).encode();
        assert_eq!((entries.len(), is_complete), (MAX_ANNOUNCED_ENTRIES, false));
    }

    #[test]
    fn unreadable_entry_makes_the_list_incomplete() {
        let announced = |entries: &[&str], complete| Announced {
            addresses: strings(entries),
            complete,
            ..Announced::default()
        };
        for (entries, complete, expected) in [
            (&["192.0.2.1", "192.0.2.3-192.0.2.9"][..], Some(true), true),
            (&["192.0.2.1"], Some(false), false),
            (&["192.0.2.1"], None, false),
            (&["192.0.2.1", "n1"], Some(true), false),
            (&["192.0.2.9-192.0.2.1"], Some(true), false),
            (&["192.0.2.1-2001:db8::1"], Some(true), false),
        ] {
            let (_, is_complete) = AddressList::decode(&announced(entries, complete));
            assert_eq!(is_complete, expected, "{entries:?} {complete:?}");
        }
        let (decoded, _) = AddressList::decode(&announced(&["192.0.2.5-192.0.2.9", "n1", "192.0.2.1"], None));
        let contained = ["192.0.2.1", "192.0.2.2", "192.0.2.5", "192.0.2.7", "192.0.2.10", "::"]
            .map(|ip| decoded.contains(ip.parse().unwrap()));
        assert_eq!(contained, [true, false, true, true, false, false]);
    }

    #[test]
    fn difference_of_two_lists_is_found() {
        for (this, other, expected) in [
            (
                &["192.0.2.1-192.0.2.9"][..],
                &["192.0.2.3", "192.0.2.5-192.0.2.6"][..],
                &["192.0.2.1-192.0.2.2", "192.0.2.4", "192.0.2.7-192.0.2.9"][..],
            ),
            (&["192.0.2.1-192.0.2.9"], &["192.0.2.0-192.0.2.4", "192.0.2.9"], &["192.0.2.5-192.0.2.8"]),
            (&["192.0.2.1", "192.0.2.3", "192.0.2.5"], &["192.0.2.1-192.0.2.5"], &[]),
            (&["192.0.2.1", "2001:db8::1"], &[], &["192.0.2.1", "2001:db8::1"]),
            (&["0.0.0.0-255.255.255.255"], &["0.0.0.0", "255.255.255.255"], &["0.0.0.1-255.255.255.254"]),
            (
                &["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                &["::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                &["::"],
            ),
        ] {
            assert_eq!(texts(&list(this).without(&list(other))), expected, "{this:?} without {other:?}");
        }
    }
}
