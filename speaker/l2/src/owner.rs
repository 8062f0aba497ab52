//! Which node announces an address: rendezvous hashing, computed alike by every speaker.

use std::net::IpAddr;

/// A node that could announce an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Node name.
    pub node: &'a str,
    /// Sum of the weights of the node preferences it matches; the highest goes before any hash.
    pub preference: u32,
}

/// The node that announces `address`: of those with the highest preference the one with the highest [`rank`].
/// `None` without candidates. The order of the candidates does not matter.
pub fn owner<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>, address: IpAddr) -> Option<&'a str> {
    candidates
        .into_iter()
        .max_by_key(|candidate| (candidate.preference, rank(candidate.node, address), candidate.node))
        .map(|candidate| candidate.node)
}

/// Rendezvous hash of a node and an address. Part of the contract between speakers of different versions: it must
/// never change.
///
/// FNV-1a (64 bit) over the node name, a zero byte and the address in 16 bytes (IPv4 as `::ffff:a.b.c.d`), then
/// the finalizer of MurmurHash3, without which neighbouring addresses would not spread: FNV's last step reaches
/// the high bits of the hash only weakly, and the election compares these.
pub fn rank(node: &str, address: IpAddr) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let bytes = node.bytes().chain([0]).chain(octets);
    let mut hash = bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn equal<'a>(nodes: &'a [String]) -> impl Iterator<Item = Candidate<'a>> {
        nodes.iter().map(|node| Candidate { node, preference: 0 })
    }

    fn nodes(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("node-{n}")).collect()
    }

    /// As pools have them: neighbouring addresses of both families.
    fn addresses() -> Vec<IpAddr> {
        let v4 = (0..2_000u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0xc0a8_0000 + n)));
        let v6 = (0..2_000u128).map(|n| IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + n)));
        v4.chain(v6).collect()
    }

    #[test]
    fn every_node_gets_its_share() {
        for count in [2, 3, 5, 50] {
            let nodes = nodes(count);
            let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
            for address in addresses() {
                *shares.entry(owner(equal(&nodes), address).unwrap()).or_default() += 1;
            }
            let fair = addresses().len() as f64 / count as f64;
            assert_eq!(shares.len(), count);
            for (node, share) in shares {
                // Six standard deviations of a binomial distribution.
                let off = (share as f64 - fair).abs();
                assert!(off < 6.0 * fair.sqrt(), "{node} of {count} has {share}, fair is {fair}");
            }
        }
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own_addresses() {
        let all = nodes(5);
        for gone in 0..all.len() {
            let mut rest = all.clone();
            let gone = rest.remove(gone);
            for address in addresses() {
                let before = owner(equal(&all), address).unwrap();
                if before != gone {
                    assert_eq!(owner(equal(&rest), address), Some(before));
                }
            }
        }
    }

    #[test]
    fn preference_goes_before_the_hash_and_order_does_not_matter() {
        for address in addresses().into_iter().take(100) {
            let mut candidates = vec![
                Candidate { node: "a", preference: 0 },
                Candidate { node: "b", preference: 30 },
                Candidate { node: "c", preference: 30 },
                Candidate { node: "d", preference: 10 },
            ];
            let forwards = owner(candidates.clone(), address);
            candidates.reverse();
            assert!(matches!(forwards, Some("b" | "c")));
            assert_eq!(owner(candidates, address), forwards);
        }
        assert_eq!(owner([], addresses()[0]), None);
    }

    /// These values were computed by another program; speakers of two versions must agree on them.
    #[test]
    fn the_hash_never_changes() {
        for (node, address, expected) in GOLDEN {
            assert_eq!(rank(node, address.parse().unwrap()), expected, "{node} {address}");
        }
    }

    const GOLDEN: [(&str, &str, u64); 3] = [
        ("node-1", "192.0.2.1", 0x79e0_d3f0_efc9_7522),
        ("node-2", "192.0.2.1", 0x66a8_11bd_48d1_a62f),
        ("worker.example", "2001:db8::1", 0xa8e1_c168_7b0d_341d),
    ];
}
