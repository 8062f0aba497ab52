//! The solicited-node multicast groups of one interface.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::ndp::solicited_node;

/// The joined groups. Addresses with the same last 24 bits share one, so each group has a count of addresses.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Ipv6Addr, u32>);

impl Groups {
    /// Adds an address. Returns its group if the interface has to join it.
    pub(crate) fn add(&mut self, address: IpAddr) -> Option<Ipv6Addr> {
        let IpAddr::V6(address) = address else { return None };
        let group = solicited_node(address);
        let addresses = self.0.entry(group).or_default();
        *addresses += 1;
        (*addresses == 1).then_some(group)
    }

    /// Removes an address. Returns its group if the interface has to leave it.
    pub(crate) fn remove(&mut self, address: IpAddr) -> Option<Ipv6Addr> {
        let IpAddr::V6(address) = address else { return None };
        let group = solicited_node(address);
        let addresses = self.0.get_mut(&group)?;
        *addresses -= 1;
        if *addresses > 0 {
            return None;
        }
        self.0.remove(&group);
        Some(group)
    }
}
