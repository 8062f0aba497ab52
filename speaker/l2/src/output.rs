//! The output of the responder: frames and packets to send, multicast groups to join and leave, addresses
//! that it gave up, and conflicts.

use std::net::{IpAddr, Ipv6Addr};

use crate::Mac;

/// A frame or packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transmit {
    /// A whole Ethernet frame, from the destination address on, without the frame check sequence.
    Arp { ifindex: u32, frame: Vec<u8> },
    /// An ICMPv6 message from its type on. The shell sends it with hop limit 255 and fills in the checksum.
    Ndp { ifindex: u32, destination: Ipv6Addr, message: Vec<u8> },
}

impl Transmit {
    /// Returns the index of the interface to send on.
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::Arp { ifindex, .. } | Self::Ndp { ifindex, .. } => *ifindex,
        }
    }
}

/// A change in the membership of a solicited-node multicast group (RFC 4291 section 2.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GroupEvent {
    /// The interface has to join the group to receive solicitations.
    Join { ifindex: u32, group: Ipv6Addr },
    /// The interface no longer needs the group. Not emitted for an interface that was removed.
    Leave { ifindex: u32, group: Ipv6Addr },
}

impl GroupEvent {
    pub(crate) fn ifindex(&self) -> u32 {
        match self {
            Self::Join { ifindex, .. } | Self::Leave { ifindex, .. } => *ifindex,
        }
    }
}

/// An address that this node no longer answers for, because another host announces it while this node is
/// quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Yielded {
    pub address: IpAddr,
    /// The link-layer address of the other host.
    pub claimant: Mac,
}

/// Another host has an address that this node announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Conflict {
    pub address: IpAddr,
    /// The link-layer address of the other host.
    pub claimant: Mac,
}
