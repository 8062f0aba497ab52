//! Prefixes on the wire: the length in bits, then the octets that contain these bits (RFC 4271 §4.3, RFC 4760
//! §5).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::Reader;
use crate::Family;

/// Returns the number of octets of an encoded prefix.
#[must_use]
pub fn encoded_length(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len().div_ceil(8))
}

/// Appends a prefix.
pub fn encode(prefix: &IpNet, out: &mut Vec<u8>) {
    let octets = usize::from(prefix.prefix_len().div_ceil(8));
    out.push(prefix.prefix_len());
    match prefix.trunc() {
        IpNet::V4(net) => out.extend(net.addr().octets().into_iter().take(octets)),
        IpNet::V6(net) => out.extend(net.addr().octets().into_iter().take(octets)),
    }
}

/// Decodes prefixes up to the end of `bytes`. Returns `None` if a prefix is too long for the family or
/// exceeds `bytes`. Host bits are cleared, as their value is irrelevant (RFC 4271 §4.3).
#[must_use]
pub fn decode_all(family: Family, bytes: &[u8]) -> Option<Vec<IpNet>> {
    let mut reader = Reader::new(bytes);
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        prefixes.push(decode(family, &mut reader)?.trunc());
    }
    Some(prefixes)
}

fn decode(family: Family, reader: &mut Reader<'_>) -> Option<IpNet> {
    let length = reader.u8()?;
    let octets = reader.take(length.div_ceil(8).into())?;
    let mut address = [0; 16];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    match family {
        Family::Ipv4Unicast => {
            let address = Ipv4Addr::from(*address.first_chunk::<4>()?);
            Ipv4Net::new(address, length).ok().map(IpNet::V4)
        }
        Family::Ipv6Unicast => Ipv6Net::new(Ipv6Addr::from(address), length).ok().map(IpNet::V6),
    }
}
