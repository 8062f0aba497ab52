//! Network interfaces.

use fairlead_net::links::{Link, Links};

/// Returns an Ethernet interface that is up, with these addresses and their prefix lengths.
pub fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: None,
        mac: Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
        up: true,
        broadcast: true,
        no_arp: false,
        loopback: name == "lo",
        controller: None,
        in_vrf: false,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        temporary: Vec::new(),
        deprecated: Vec::new(),
    }
}

/// Returns the interfaces of a node.
pub fn links(links: impl IntoIterator<Item = Link>) -> Links {
    Links { by_index: links.into_iter().map(|link| (link.index, link)).collect() }
}
