//! The BGP identifier of a session.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_net::links::Links;

/// As configured, else the Node object's IPv4 InternalIP, else an IPv4 address of an interface, else a number
/// computed from the node's name: identifiers need only differ within the AS and not be zero (RFC 6286).
pub(crate) fn router_id(
    configured: Option<Ipv4Addr>,
    node: &[IpAddr],
    links: &Links,
    name: &str,
) -> Ipv4Addr {
    let of_node = node.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let of_links = || links.by_index.values().filter(|link| !link.loopback).find_map(|link| link.ipv4());
    configured.or(of_node).or_else(of_links).unwrap_or_else(|| of_name(name))
}

/// FNV-1a of the name, within 0.0.0.1 to 223.255.255.255 so that it looks like a host's.
fn of_name(name: &str) -> Ipv4Addr {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Ipv4Addr::from_bits(hash % 0xdfff_ffff + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_known() {
        let none = Links::default();
        let node: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let configured = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(router_id(configured, &node, &none, "n1"), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(router_id(None, &node, &none, "n1"), Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn names_give_different_identifiers_that_are_never_zero() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|n| of_name(&format!("node-{n}"))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(!ids.contains(&Ipv4Addr::UNSPECIFIED));
        assert!(ids.iter().all(|id| id.octets()[0] < 224));
    }
}
