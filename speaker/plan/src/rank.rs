//! Rendezvous hashing: every speaker computes the same rank of a node for an address.

use std::net::IpAddr;

/// Returns the rendezvous hash of a node and an address. It is part of the contract between speakers of
/// different versions and must never change.
///
/// The hash is FNV-1a (64 bits) over the node name, a zero byte and the address in 16 octets (IPv4 as
/// `::ffff:a.b.c.d`), followed by the finalizer of MurmurHash3. Without the finalizer, neighboring addresses
/// would not spread: the last step of FNV hardly changes the high bits, and the election compares these.
pub(crate) fn rank(node: &str, address: IpAddr) -> u64 {
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
    use super::*;

    /// Computed by another program: speakers of two versions must agree on these values.
    const GOLDEN: [(&str, &str, u64); 3] = [
        ("node-1", "192.0.2.1", 0x79e0_d3f0_efc9_7522),
        ("node-2", "192.0.2.1", 0x66a8_11bd_48d1_a62f),
        ("worker.example", "2001:db8::1", 0xa8e1_c168_7b0d_341d),
    ];

    #[test]
    fn rank_matches_golden_values() {
        for (node, address, expected) in GOLDEN {
            assert_eq!(rank(node, address.parse().unwrap()), expected, "{node} {address}");
        }
    }
}
