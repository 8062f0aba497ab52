//! The BGP identifier of a session.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_net::links::Links;

/// Returns the configured identifier, else the IPv4 InternalIP of the Node object, else an IPv4 address of an
/// interface, else a hash of the name of the node. An identifier must be unique within the AS and not zero
/// (RFC 6286).
pub(super) fn router_id(
    configured: Option<Ipv4Addr>,
    node: &[IpAddr],
    links: &Links,
    name: &str,
) -> Ipv4Addr {
    let node_address = node.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let link_address = || links.by_index.values().filter(|link| !link.loopback).find_map(|link| link.ipv4());
    configured.or(node_address).or_else(link_address).unwrap_or_else(|| hash_name(name))
}

/// Returns the FNV-1a hash of the name, reduced to 0.0.0.1 to 223.255.255.255, the range of host addresses.
fn hash_name(name: &str) -> Ipv4Addr {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Ipv4Addr::from_bits(hash % 0xdfff_ffff + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_id_takes_first_available_source() {
        let none = Links::default();
        let node: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let configured = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(router_id(configured, &node, &none, "n1"), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(router_id(None, &node, &none, "n1"), Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn hashes_of_names_differ_and_are_host_addresses() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|n| hash_name(&format!("node-{n}"))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(!ids.contains(&Ipv4Addr::UNSPECIFIED));
        assert!(ids.iter().all(|id| id.octets()[0] < 224));
    }
}
