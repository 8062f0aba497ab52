//! [`MeshLink`]: the interface over which this node reaches the other speakers.

use std::net::IpAddr;

use fairlead_net::links::Links;

/// The interface that holds the address of the mesh.
///
/// Other interfaces prove nothing: a node whose cable is cut still has usable ones, of its pods or of virtual
/// machines.
#[derive(Debug, Default)]
pub(crate) struct MeshLink {
    /// Index of the interface that last had the address. An IPv6 address disappears while the interface is
    /// down.
    index: Option<u32>,
}

impl MeshLink {
    /// Returns whether the interface is up and has the address. `any_usable` applies if no interface has ever
    /// had the address, for example because the network translates it.
    pub(crate) fn is_up(&mut self, links: &Links, own: Option<IpAddr>, any_usable: bool) -> bool {
        let Some(own) = own else { return false };
        match (links.holding(own), self.index) {
            (Some(link), _) => {
                self.index = Some(link.index);
                link.up
            }
            (None, Some(_)) => false,
            (None, None) => any_usable,
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_net::links::Link;
    use fairlead_test_support::links::{self as support, links};

    use super::*;

    const ADDRESS: &str = "192.0.2.11";

    fn link(index: u32, up: bool, address: Option<&str>) -> Link {
        let address = address.map(|address| format!("{address}/24"));
        Link { up, ..support::link(index, &format!("eth{index}"), address.as_deref().as_slice()) }
    }

    #[test]
    fn only_interface_with_mesh_address_counts() {
        let own = Some(ADDRESS);
        let pods = || link(2, true, Some("10.244.1.1"));
        let up = links([link(1, true, own), pods()]);
        let down = links([link(1, false, own), pods()]);
        let without_address = links([link(1, false, None), pods()]);
        let renumbered = links([link(1, true, None), pods(), link(3, true, own)]);
        let own = ADDRESS.parse().ok();
        let mut mesh_link = MeshLink::default();
        for (name, links, own, expected) in [
            ("no address yet", &up, None, false),
            ("up", &up, own, true),
            ("down", &down, own, false),
            ("down, and the kernel removed the address", &without_address, own, false),
            ("up again", &up, own, true),
            ("address on another interface", &renumbered, own, true),
        ] {
            assert_eq!(mesh_link.is_up(links, own, true), expected, "{name}");
        }
    }

    #[test]
    fn address_on_no_interface_needs_any_usable_one() {
        let links = links([link(1, true, Some("198.51.100.1"))]);
        for any_usable in [true, false] {
            assert_eq!(MeshLink::default().is_up(&links, ADDRESS.parse().ok(), any_usable), any_usable);
        }
    }
}
