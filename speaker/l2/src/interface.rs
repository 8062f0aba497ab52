//! The interfaces on which addresses are announced.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::families::ServedFamilies;

/// An Ethernet (EUI-48) address.
pub type Mac = [u8; 6];

/// An interface on which addresses can be announced: up, Ethernet, not a port of a bridge or bond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's interface index.
    pub index: u32,
    #[allow(missing_docs)]
    pub name: String,
    /// The link-layer address that answers carry.
    pub mac: Mac,
    /// True if the interface supports ARP: BROADCAST is set and NOARP is not.
    pub arp: bool,
    /// The IPv6 link-local address. Without one, the interface does not support Neighbor Discovery.
    pub link_local: Option<Ipv6Addr>,
}

impl Interface {
    /// Returns the address families for which this interface can announce addresses.
    pub fn families(&self) -> ServedFamilies {
        ServedFamilies { v4: self.arp, v6: self.link_local.is_some() }
    }

    /// Returns true if an address in `set` is announced on this interface.
    pub(crate) fn serves(&self, address: IpAddr, set: &InterfaceSet) -> bool {
        self.families().serves(address) && set.contains(&self.name)
    }
}

/// The interfaces on which an address is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceSet {
    /// Every interface, including those that appear later.
    All,
    /// The interfaces with these names.
    Named(Arc<BTreeSet<String>>),
}

impl InterfaceSet {
    /// Returns true if the set contains the interface with this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

impl fmt::Display for InterfaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_set_is_displayed_as_its_names() {
        let named = InterfaceSet::Named(Arc::new(["eth1".to_owned(), "eth0".to_owned()].into()));
        assert_eq!((InterfaceSet::All.to_string(), named.to_string()), ("all".into(), "eth0, eth1".into()));
    }
}
