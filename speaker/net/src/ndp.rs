//! Neighbour solicitations on one interface: a raw ICMPv6 socket.

use std::io;
use std::net::Ipv6Addr;

/// A received message: what is needed of its IPv6 header, and its length in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpMessage {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Option<Ipv6Addr>,
    /// Hop limit with which it arrived.
    pub hop_limit: u8,
    /// Length of the ICMPv6 message.
    pub len: usize,
}

/// Receives neighbour solicitations on one interface and sends advertisements there.
#[derive(Debug)]
pub struct NdpSocket {}

impl NdpSocket {
    /// Opens the socket on an interface. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(_ifindex: u32, _name: &str) -> io::Result<Self> {
        todo!()
    }

    /// The interface it is bound to.
    pub fn ifindex(&self) -> u32 {
        todo!()
    }

    /// Receives one neighbour solicitation with hop limit 255 into `buf`; others are dropped. A link that goes down is
    /// waited out. Cancel safe.
    pub async fn recv(&self, _buf: &mut [u8]) -> io::Result<NdpMessage> {
        todo!()
    }

    /// Sends an ICMPv6 message with hop limit 255; the kernel fills in the checksum. Does not wait.
    pub fn send(&self, _destination: Ipv6Addr, _message: &[u8]) -> io::Result<()> {
        todo!()
    }

    /// Joins a multicast group on this interface. Joining twice is joining once.
    pub fn join(&mut self, _group: Ipv6Addr) -> io::Result<()> {
        todo!()
    }

    /// Leaves a multicast group.
    pub fn leave(&mut self, _group: Ipv6Addr) -> io::Result<()> {
        todo!()
    }
}
