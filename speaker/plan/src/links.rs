//! The interfaces of this node that can announce, and the addresses that are unusable on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fairlead_l2::{InterfaceSet, ServedFamilies, ServedInterfaces};
use ipnet::IpNet;

/// The network of each interface that can announce, by name.
pub type LinkNetworks = BTreeMap<String, LinkNetwork>;

/// The network of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkNetwork {
    /// The addresses of the interface, with the length of their subnet.
    pub addresses: Vec<IpNet>,
    /// The gateways of the default routes of this node that are on the link.
    pub gateways: Vec<IpAddr>,
    /// The address families for which the interface can announce addresses.
    pub families: ServedFamilies,
}

/// The interfaces that can announce.
#[derive(Debug, Default)]
pub(crate) struct Links {
    networks: LinkNetworks,
    /// What they can announce.
    served: ServedInterfaces,
    /// The interfaces on which no host can use an address as that of a Service, by address.
    unusable: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Links {
    pub(crate) fn new(networks: LinkNetworks) -> Self {
        let mut unusable: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for (name, network) in &networks {
            let reserved = network.addresses.iter().flat_map(|net| unusable_on(*net));
            for address in reserved.chain(network.gateways.iter().copied()) {
                unusable.entry(address).or_default().insert(name.clone());
            }
        }
        let served = networks.iter().map(|(name, network)| (name.clone(), network.families)).collect();
        Self { networks, served, unusable }
    }

    pub(crate) fn networks(&self) -> &LinkNetworks {
        &self.networks
    }

    /// Returns what the interfaces can announce.
    pub(crate) fn served(&self) -> &ServedInterfaces {
        &self.served
    }

    /// Returns true if an address is unusable on one of these interfaces.
    pub(crate) fn is_unusable(&self, address: IpAddr, interfaces: &InterfaceSet) -> bool {
        self.unusable.get(&address).is_some_and(|links| match interfaces {
            InterfaceSet::All => true,
            InterfaceSet::Named(names) => !names.is_disjoint(links),
        })
    }

    /// Returns the addresses that are unusable on an interface of only one of the two.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = IpAddr> {
        let of_one = |one: &'a Self, other: &'a Self| {
            let differs =
                |(address, links): &(&IpAddr, &BTreeSet<String>)| other.unusable.get(address) != Some(links);
            one.unusable.iter().filter(differs).map(|(address, _)| *address)
        };
        of_one(self, other).chain(of_one(other, self))
    }
}

/// Returns the addresses of the subnet of an interface that are not those of one other host: the address of
/// the interface itself, and those that RFC 1122 §3.2.1.3 and RFC 4291 §2.6.1 reserve. The subnets of
/// point-to-point links have none of the latter (RFC 3021, RFC 6164).
fn unusable_on(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let is_subnet = net.prefix_len() + 2 <= net.max_prefix_len();
    let network = is_subnet.then(|| net.network());
    let broadcast = (is_subnet && net.addr().is_ipv4()).then(|| net.broadcast());
    [Some(net.addr()), network, broadcast].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_addresses_of_a_subnet_are_found() {
        let table = [
            ("192.0.2.11/24", "192.0.2.11 192.0.2.0 192.0.2.255"),
            ("192.0.2.130/25", "192.0.2.130 192.0.2.128 192.0.2.255"),
            ("192.0.2.1/30", "192.0.2.1 192.0.2.0 192.0.2.3"),
            ("192.0.2.0/31", "192.0.2.0"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("fd64::11/64", "fd64::11 fd64::"),
            ("fe80::1/64", "fe80::1 fe80::"),
            ("fd64::5/126", "fd64::5 fd64::4"),
            ("fd64::5/127", "fd64::5"),
            ("fd64::5/128", "fd64::5"),
        ];
        for (net, expected) in table {
            let found: Vec<String> = unusable_on(net.parse().unwrap()).map(|ip| ip.to_string()).collect();
            assert_eq!(found.join(" "), expected, "{net}");
        }
    }
}
