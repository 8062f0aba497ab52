//! The output of the responder: frames and packets to send, multicast groups to join and leave, addresses
//! that it gave up, and conflicts.

use std::net::{IpAddr, Ipv6Addr};

use crate::Mac;

/// A frame or packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transmit {
    /// A whole Ethernet frame, from the destination address on, without the frame check sequence: an ARP
    /// packet, or a probe for an IPv6 address, which the kernel would not send for an address that it lacks.
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

/// A host that is no speaker has an address that this node announces or is to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Conflict {
    pub address: IpAddr,
    /// The link-layer address of the other host; `None` if it was about to use the IPv6 address too.
    pub claimant: Option<Mac>,
    /// Name of the interface on which the other host was seen.
    pub interface: String,
    /// True if this node does not answer for the address, and probes it again later.
    pub is_left: bool,
}

/// What a node does if another host uses an address that it announces (RFC 5227 section 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It keeps the address, and announces it again at most once in ten seconds: RFC 5227 section 2.4 (c).
    #[default]
    Keep,
    /// It stops answering, and probes the address every 30 s until it is free: RFC 5227 section 2.4 (a).
    Yield,
}

/// How an address is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// First find out whether another host uses the address (RFC 5227 section 2.1, RFC 4862 section 5.4).
    /// Without effect on an address that is announced already.
    pub probe: bool,
    /// No owner failed: the previous one hands the address over, or there was none. Fewer announcements are
    /// needed.
    pub is_planned: bool,
    #[allow(missing_docs)]
    pub on_conflict: OnConflict,
}
