//! The BGP identifier of a session.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

/// The identifier of all sessions without a configured one. It is determined once, because a changed
/// identifier ends the sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeRouterId(Arc<OnceLock<Ipv4Addr>>);

impl NodeRouterId {
    /// Returns the identifier. The first call determines it: the IPv4 InternalIP of the Node object, else a
    /// hash of the name of the node. Both are the same after a restart, unlike the addresses of interfaces.
    /// An identifier must be unique within the AS and not zero (RFC 6286).
    pub(super) fn get(&self, node: &[IpAddr], name: &str) -> Ipv4Addr {
        let node_address = || {
            node.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            })
        };
        *self.0.get_or_init(|| node_address().unwrap_or_else(|| hash_name(name)))
    }
}

/// Returns the FNV-1a hash of the name, reduced to the range of host addresses, 0.0.0.1 to 223.255.255.255.
/// Two of 1,000 nodes have the same hash with a probability of 1 in 7,500.
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
        let node: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        assert_eq!(NodeRouterId::default().get(&node, "n1"), Ipv4Addr::new(192, 0, 2, 1));
        // The hash must be the same in every version, because a changed identifier ends the sessions.
        assert_eq!(NodeRouterId::default().get(&node[..1], "n1"), hash_name("n1"));
        assert_eq!(hash_name("n1"), Ipv4Addr::new(4, 53, 220, 1));
    }

    #[test]
    fn router_id_stays_if_the_addresses_of_the_node_change() {
        let (router_id, address) = (NodeRouterId::default(), |text: &str| text.parse::<IpAddr>().unwrap());
        let first = router_id.get(&[], "n1");
        assert_eq!(router_id.clone().get(&[address("192.0.2.1")], "n1"), first);
        let router_id = NodeRouterId::default();
        assert_eq!(router_id.get(&[address("192.0.2.1")], "n1"), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(router_id.get(&[address("192.0.2.2")], "n1"), Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn hashes_of_names_differ_and_are_host_addresses() {
        let ids: std::collections::BTreeSet<_> =
            (0..10_000).map(|n| hash_name(&format!("node-{n}"))).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(!ids.contains(&Ipv4Addr::UNSPECIFIED));
        assert!(ids.iter().all(|id| id.octets()[0] < 224));
    }
}
