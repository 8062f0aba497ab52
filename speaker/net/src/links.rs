//! The interfaces of this node and their addresses, followed through netlink.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; `None` for interfaces that have none or another kind.
    pub mac: Option<[u8; 6]>,
    /// Up, and able to carry packets (RFC 2863: operState up; unknown counts as up, for devices that never tell).
    pub up: bool,
    /// BROADCAST is set.
    pub broadcast: bool,
    /// NOARP is set.
    pub no_arp: bool,
    /// LOOPBACK is set.
    pub loopback: bool,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub controller: Option<u32>,
    /// The controller is a VRF: the interface is still its own on the link.
    pub in_vrf: bool,
    /// Addresses with their prefix lengths, usable ones only: no tentative or failed IPv6 addresses.
    pub addresses: Vec<IpNet>,
}

/// The interfaces at one moment, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// By kernel's index.
    pub by_index: BTreeMap<u32, Link>,
}

impl Link {
    /// The first link-local IPv6 address.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        todo!()
    }

    /// The first IPv4 address that is neither link-local nor loopback.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        todo!()
    }

    /// The first IPv6 address that is neither link-local nor loopback.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        todo!()
    }

    /// Can carry announcements on the local link: up, with a hardware address, no loopback, not in a bridge or bond.
    pub fn announces(&self) -> bool {
        todo!()
    }
}

impl Links {
    /// The interface that holds this local address.
    pub fn holding(&self, _address: IpAddr) -> Option<&Link> {
        todo!()
    }

    /// The interface with this name.
    pub fn named(&self, _name: &str) -> Option<&Link> {
        todo!()
    }
}

/// A change, in the order it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The interface is new, or something about it changed.
    Changed(Link),
    /// The interface is gone.
    Removed(u32),
}

/// Follows the interfaces of the network namespace it was opened in.
pub struct Monitor {}

impl Monitor {
    /// Subscribes, then lists: nothing is missed in between. Needs a Tokio runtime.
    pub async fn open() -> io::Result<Self> {
        todo!()
    }

    /// The interfaces as known now.
    pub fn links(&self) -> &Links {
        todo!()
    }

    /// Waits for the next change; [`Self::links`] already has it. After an overrun of the socket everything is listed
    /// again and the differences are given. An error means that netlink is gone for good. Cancel safe.
    pub async fn next(&mut self) -> io::Result<LinkEvent> {
        todo!()
    }
}
