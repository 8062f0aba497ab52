//! Addresses with a special use (RFC 6890), which a Service cannot have, or should not have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::range::IpRange;

/// The special use of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpecialUse {
    ThisNetwork,
    Loopback,
    Multicast,
    Broadcast,
    Unspecified,
    Mapped,
    LinkLocal,
}

use SpecialUse::{Broadcast, LinkLocal, Loopback, Mapped, Multicast, ThisNetwork, Unspecified};

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// Blocks whose addresses no other host can use as a destination: first and last address, use.
const UNUSABLE: [(IpAddr, IpAddr, SpecialUse); 8] = [
    (v4(0, 0, 0, 0), v4(0, 255, 255, 255), ThisNetwork),
    (v4(127, 0, 0, 0), v4(127, 255, 255, 255), Loopback),
    (v4(224, 0, 0, 0), v4(239, 255, 255, 255), Multicast),
    (v4(255, 255, 255, 255), v4(255, 255, 255, 255), Broadcast),
    (v6(0), v6(0), Unspecified),
    (v6(1), v6(1), Loopback),
    (v6(0xffff_0000_0000), v6(0xffff_ffff_ffff), Mapped),
    (v6(0xff00 << 112), v6(u128::MAX), Multicast),
];

/// Blocks whose addresses only hosts on the same link can use as a destination.
const LINK_LOCAL: [(IpAddr, IpAddr, SpecialUse); 2] = [
    (v4(169, 254, 0, 0), v4(169, 254, 255, 255), LinkLocal),
    (v6(0xfe80 << 112), v6((0xfec0 << 112) - 1), LinkLocal),
];

impl SpecialUse {
    /// Returns the special use because of which a Service cannot have an address; `None` if it can.
    pub fn unusable(ip: IpAddr) -> Option<Self> {
        first_overlap(&UNUSABLE, ip, ip)
    }

    /// Returns the special use because of which a Service cannot have some address of the range.
    pub fn unusable_in(range: &IpRange) -> Option<Self> {
        first_overlap(&UNUSABLE, range.first(), range.last())
    }

    /// Returns true if the range contains link-local addresses.
    pub fn has_link_local(range: &IpRange) -> bool {
        first_overlap(&LINK_LOCAL, range.first(), range.last()).is_some()
    }
}

impl fmt::Display for SpecialUse {
    /// Names such addresses, in the plural.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThisNetwork => "addresses of \"this network\" (0.0.0.0/8)",
            Loopback => "loopback addresses (127.0.0.0/8, ::1)",
            Multicast => "multicast addresses (224.0.0.0/4, ff00::/8)",
            Broadcast => "the limited broadcast address 255.255.255.255",
            Unspecified => "the unspecified address ::",
            Mapped => "IPv4-mapped IPv6 addresses (::ffff:0:0/96)",
            LinkLocal => "link-local addresses (169.254.0.0/16, fe80::/10)",
        })
    }
}

/// Returns the use of the first block that has an address in common with a range.
fn first_overlap(blocks: &[(IpAddr, IpAddr, SpecialUse)], first: IpAddr, last: IpAddr) -> Option<SpecialUse> {
    // All IPv4 addresses are lower than all IPv6 addresses.
    let block =
        blocks.iter().find(|(block_first, block_last, _)| first <= *block_last && *block_first <= last);
    block.map(|(.., special_use)| *special_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_addresses_of_a_range_are_found() {
        let table = [
            ("0.0.0.0-0.0.0.0", Some(ThisNetwork)),
            ("0.255.255.255-1.0.0.0", Some(ThisNetwork)),
            ("1.0.0.0-126.255.255.255", None),
            ("126.0.0.0-128.0.0.0", Some(Loopback)),
            ("128.0.0.0-223.255.255.255", None),
            ("223.0.0.0-241.0.0.0", Some(Multicast)),
            ("240.0.0.0-255.255.255.254", None),
            ("255.255.255.255-255.255.255.255", Some(Broadcast)),
            ("::-::", Some(Unspecified)),
            ("::1-::1", Some(Loopback)),
            ("::2-::fffe:ffff:ffff", None),
            ("::fffe:0:0-::1:0:0:0", Some(Mapped)),
            ("::ffff:192.0.2.1-::ffff:192.0.2.2", Some(Mapped)),
            ("2000::-feff::", None),
            ("fe00::-ff02::1", Some(Multicast)),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some(Multicast),
            ),
        ];
        for (text, expected) in table {
            let (first, last) = text.split_once('-').unwrap();
            let range = IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
            assert_eq!(SpecialUse::unusable_in(&range), expected, "{text}");
        }
    }

    #[test]
    fn link_local_addresses_of_a_range_are_found() {
        let table = [
            ("169.253.0.0-169.253.255.255", false),
            ("169.253.0.0-169.254.0.0", true),
            ("169.255.0.0-169.255.0.1", false),
            ("fe7f::-fe7f::1", false),
            ("fe80::-fe80::1", true),
            ("febf:ffff::-febf:ffff::1", true),
            ("fec0::-fec0::1", false),
        ];
        for (text, expected) in table {
            let (first, last) = text.split_once('-').unwrap();
            let range = IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
            assert_eq!(SpecialUse::has_link_local(&range), expected, "{text}");
        }
    }
}
