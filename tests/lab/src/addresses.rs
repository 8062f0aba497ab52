//! The addresses of a lab. They are equal in every lab, because each has its own namespaces.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | LAN | `192.0.2.0/24` | `2001:db8:1::/64` |
//! | – router | `.1` | `::1` |
//! | – control plane | `.2` | `::2` |
//! | – further routers, where a test plugs them in | `.3` to `.9`, `.101` to `.119` | the same digits |
//! | – node *i* = 1, 2, … | `.10+i` | `::10+i`, the same digits |
//! | – LAN client | `.100` | `::100` |
//! | remote network behind the router, its client | `203.0.113.0/24`, `.100` | `2001:db8:2::/64`, `::100` |
//! | pods of node *i*; the node has `.1`, pod *k* = 1, 2, … has `.1+k` | `10.244.i.0/24` | `fd00:10:244:i::/64` |
//! | cluster IPs | `10.96.0.0/16` | `fd00:10:96::/112` |
//! | pool for L2 | `192.0.2.200-192.0.2.230` | `2001:db8:1::200-2001:db8:1::2ff` |
//! | pool for BGP | `198.51.100.0/24` | `2001:db8:100::/64` |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// AS number of the router.
pub const ROUTER_ASN: u32 = 64512;
/// AS number of the speakers.
pub const SPEAKER_ASN: u32 = 64513;
/// Largest number of nodes in a lab.
pub const MAX_NODES: usize = 80;
/// TCP and UDP port of every pod.
pub const POD_PORT: u16 = 8080;
/// Port of the API server, on the control plane's address.
pub const API_PORT: u16 = 6443;
/// Cluster IPs.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:10:96::/112";
/// Prefix length of the LAN in IPv4.
pub const LAN_LEN_V4: u8 = 24;
/// Prefix length of the LAN in IPv6, and of every other IPv6 network of the lab.
pub const LEN_V6: u8 = 64;

/// One address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dual {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// Returns the address of the same family as `like`.
    pub fn of(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }

    /// Returns both addresses, IPv4 first.
    pub fn both(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Parses `02:00:00:00:00:01`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Addresses of the router on the LAN.
pub fn router() -> Dual {
    lan(1)
}

/// Addresses of the router on the remote network.
pub fn router_remote() -> Dual {
    remote(1)
}

/// Addresses of the control plane: API server and controller.
pub fn control_plane() -> Dual {
    lan(2)
}

/// Addresses of node `i`, counted from 1.
pub fn node(i: usize) -> Dual {
    lan(10 + i)
}

/// Addresses of the client on the LAN.
pub fn client() -> Dual {
    lan(100)
}

/// Addresses of the client behind the router.
pub fn remote_client() -> Dual {
    remote(100)
}

/// Addresses of node `i` on its pod network.
pub fn pod_gateway(i: usize) -> Dual {
    pod(i, 0)
}

/// Addresses of pod `k` (from 1) of node `i` (from 1).
pub fn pod(i: usize, k: usize) -> Dual {
    Dual {
        v4: Ipv4Addr::new(10, 244, octet(i), octet(1 + k)),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, digits(i), 0, 0, 0, digits(1 + k)),
    }
}

/// Pod networks of node `i`.
pub fn pod_networks(i: usize) -> [String; 2] {
    [format!("10.244.{}.0/24", octet(i)), format!("fd00:10:244:{:x}::/64", digits(i))]
}

/// Returns the Ethernet address of the LAN port of the host whose IPv4 address ends in `last`.
pub fn lan_mac(address: Dual) -> Mac {
    let [.., last] = address.v4.octets();
    Mac([0x02, 0, 0, 0, 0x01, last])
}

fn lan(last: usize) -> Dual {
    Dual {
        v4: Ipv4Addr::new(192, 0, 2, octet(last)),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, digits(last)),
    }
}

fn remote(last: usize) -> Dual {
    Dual {
        v4: Ipv4Addr::new(203, 0, 113, octet(last)),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, digits(last)),
    }
}

fn octet(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// Returns the number whose hexadecimal digits are the decimal digits of `n`, so that `::11` resembles `.11`.
fn digits(n: usize) -> u16 {
    u16::from_str_radix(&n.to_string(), 16).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_equal_digits() {
        let n12 = node(12);
        assert_eq!((n12.v4.to_string(), n12.v6.to_string()), ("192.0.2.22".into(), "2001:db8:1::22".into()));
        let pod = pod(3, 1);
        assert_eq!(
            (pod.v4.to_string(), pod.v6.to_string()),
            ("10.244.3.2".into(), "fd00:10:244:3::2".into())
        );
    }

    #[test]
    fn mac_round_trips_through_text() {
        let mac = lan_mac(node(1));
        assert_eq!(mac.to_string(), "02:00:00:00:01:0b");
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        assert_eq!(Mac::parse("02:00:00:00:01"), None);
    }
}
