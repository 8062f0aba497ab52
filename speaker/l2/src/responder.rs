//! What this node answers for, where, and what it sends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// An Ethernet (EUI-48) address.
pub type Mac = [u8; 6];

/// An interface on which addresses can be announced: up, Ethernet, not enslaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel's index.
    pub index: u32,
    /// Name, as advertisements list it.
    pub name: String,
    /// Address that answers carry.
    pub mac: Mac,
    /// ARP runs here (BROADCAST set, NOARP not set).
    pub arp: bool,
    /// IPv6 link-local address, without which there is no NDP here.
    pub link_local: Option<Ipv6Addr>,
}

/// On which interfaces an address is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceSet {
    /// On every interface there is, also on those that appear later.
    All,
    /// On the interfaces with these names.
    Named(Arc<BTreeSet<String>>),
}

/// A received ICMPv6 message with what is needed of its IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpPacket<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address, where the socket tells it.
    pub destination: Option<Ipv6Addr>,
    /// Hop limit with which it arrived.
    pub hop_limit: u8,
    /// ICMPv6 message from its type on; its checksum was verified by the kernel.
    pub message: &'a [u8],
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A whole Ethernet frame.
    Arp {
        /// Interface to send it on.
        ifindex: u32,
        /// Frame from the destination address on, without FCS.
        frame: Vec<u8>,
    },
    /// An ICMPv6 message; hop limit 255, checksum by the kernel.
    Ndp {
        /// Interface to send it on.
        ifindex: u32,
        /// IPv6 destination.
        destination: Ipv6Addr,
        /// Message from its type on.
        message: Vec<u8>,
    },
}

/// Something the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Join a solicited-node group, so that solicitations arrive.
    JoinGroup {
        /// Interface to join it on.
        ifindex: u32,
        /// Group.
        group: Ipv6Addr,
    },
    /// Leave a solicited-node group. Not given for an interface that was removed.
    LeaveGroup {
        /// Interface to leave it on.
        ifindex: u32,
        /// Group.
        group: Ipv6Addr,
    },
}

/// What happened for one address since it is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests and solicitations for it.
    pub requests: u64,
    /// Answers sent.
    pub responses: u64,
    /// Gratuitous frames sent.
    pub gratuitous: u64,
    /// Announcements of it by others.
    pub conflicts: u64,
}

/// What was received and not answered, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Truncated, of other hardware or protocol, or against RFC 826 or RFC 4861 section 7.1.1.
    pub malformed: u64,
    /// Sound, but for an address that is not announced there.
    pub not_announced: u64,
    /// Sound, but not for us to answer: own frames, broadcast senders, unknown interfaces.
    pub ignored: u64,
}

/// Answers for addresses on the local link.
#[derive(Debug, Default)]
pub struct Responder {}

impl Responder {
    /// A responder without interfaces and addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of an interface, or of what changed about it. Where it is new, or has another hardware address,
    /// every address announced there is announced to the neighbours again.
    pub fn set_interface(&mut self, _now: Instant, _interface: Interface) {
        todo!()
    }

    /// Forgets an interface that is gone, down or enslaved.
    pub fn remove_interface(&mut self, _index: u32) {
        todo!()
    }

    /// Begins to answer for an address and tells the neighbours, at once and a few times more. For an address
    /// announced already it only changes the interfaces, and tells those that are new.
    pub fn announce(&mut self, _now: Instant, _address: IpAddr, _interfaces: InterfaceSet) {
        todo!()
    }

    /// Stops answering for an address. False if it was not announced.
    pub fn withdraw(&mut self, _address: IpAddr) -> bool {
        todo!()
    }

    /// Takes in a received Ethernet frame with an ARP packet.
    pub fn handle_arp(&mut self, _now: Instant, _ifindex: u32, _frame: &[u8]) {
        todo!()
    }

    /// Takes in a received ICMPv6 message.
    pub fn handle_ndp(&mut self, _now: Instant, _ifindex: u32, _packet: NdpPacket<'_>) {
        todo!()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    /// When [`Self::handle_timeout`] must be called next; `None` at rest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next thing to send; call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }

    /// The next thing to do; call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// The addresses announced, in order, with their counts.
    pub fn announced(&self) -> impl ExactSizeIterator<Item = (IpAddr, Counts)> + '_ {
        std::iter::empty()
    }

    /// Names of the interfaces on which an address is announced now; empty means nobody hears of it.
    pub fn interfaces_of(&self, _address: IpAddr) -> Vec<&str> {
        todo!()
    }

    /// What was received and not answered.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
