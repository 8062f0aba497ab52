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
