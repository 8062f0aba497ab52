//! Address ranges.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// An inclusive range of addresses of one family, with `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// Returns the range, or `None` if the families differ or `first > last`.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Returns the range of a CIDR such as `10.244.1.0/24`, whose host bits are ignored. Returns `None` for
    /// other texts.
    pub fn parse_cidr(text: &str) -> Option<Self> {
        text.parse().ok().map(|net: IpNet| net.into())
    }

    /// Returns the lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Returns the highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Returns true if `ip` is in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// Returns the length of the shortest prefix that the range contains completely: 24 for
    /// `198.51.100.0-198.51.101.7`.
    pub fn shortest_prefix(&self) -> u8 {
        let (width, first, last) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (32, u128::from(first.to_bits()), u128::from(last.to_bits()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => (128, first.to_bits(), last.to_bits()),
            // `new` excludes mixed families.
            _ => return u8::MAX,
        };
        let fits = |length: &u8| {
            let host_bits = u32::from(width - *length);
            let hosts = u128::MAX.checked_shl(host_bits).map_or(u128::MAX, |mask| !mask);
            // The start of the first prefix of this length that begins in the range.
            let start = if first & hosts == 0 { Some(first) } else { (first | hosts).checked_add(1) };
            start.and_then(|start| start.checked_add(hosts)).is_some_and(|end| end <= last)
        };
        (0..=width).find(fits).unwrap_or(width)
    }

    /// Returns the address after `ip`. After the last IPv4 address comes the first IPv6 address, as in the
    /// order of [`IpAddr`]. Returns `None` after the last IPv6 address.
    pub fn next(ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(ip) => Some(match ip.to_bits().checked_add(1) {
                Some(bits) => IpAddr::V4(bits.into()),
                None => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            }),
            IpAddr::V6(ip) => Some(IpAddr::V6(ip.to_bits().checked_add(1)?.into())),
        }
    }

    /// Returns the address before `ip` in the same family.
    pub fn previous(ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(ip) => Some(IpAddr::V4(ip.to_bits().checked_sub(1)?.into())),
            IpAddr::V6(ip) => Some(IpAddr::V6(ip.to_bits().checked_sub(1)?.into())),
        }
    }

    /// Returns true if the two ranges have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl From<IpNet> for IpRange {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> IpRange {
        IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn range_of_mixed_families_or_reversed_is_none() {
        let (low, high, v6) = ("192.0.2.1", "192.0.2.2", "2001:db8::1");
        assert!(IpRange::new(low.parse().unwrap(), high.parse().unwrap()).is_some());
        assert!(IpRange::new(high.parse().unwrap(), low.parse().unwrap()).is_none());
        assert!(IpRange::new(low.parse().unwrap(), v6.parse().unwrap()).is_none());
    }

    #[test]
    fn shortest_prefix_is_found() {
        let table = [
            ("198.51.100.0", "198.51.100.255", 24),
            ("198.51.100.0", "198.51.101.7", 24),
            ("198.51.100.1", "198.51.101.254", 25),
            ("192.0.2.200", "192.0.2.230", 28),
            ("192.0.2.7", "192.0.2.7", 32),
            ("192.0.2.7", "192.0.2.8", 32),
            ("255.255.255.254", "255.255.255.255", 31),
            ("0.0.0.0", "255.255.255.255", 0),
            ("0.0.0.1", "255.255.255.255", 1),
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", 64),
            ("2001:db8::1", "2001:db8::2", 128),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0),
        ];
        for (first, last, length) in table {
            assert_eq!(range(first, last).shortest_prefix(), length, "{first}-{last}");
        }
    }
}
