//! [`ArpSocket`]: an AF_PACKET socket whose filter passes ARP requests and replies only.

use std::io;

use crate::filter;
use crate::packet::PacketSocket;

const ETHERTYPE_ARP: u16 = 0x0806;

/// Receives ARP requests and replies on one interface and sends Ethernet frames on it.
#[derive(Debug)]
pub struct ArpSocket(PacketSocket);

impl ArpSocket {
    /// Opens the socket on the interface with this index. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        PacketSocket::open(ETHERTYPE_ARP, ifindex, &filter::arp_messages(ifindex)).map(Self)
    }

    /// Receives one ARP request or reply, broadcast or sent to this host, as a whole Ethernet frame, and
    /// returns its length; a longer frame is truncated to `buf`. Cancel safe.
    ///
    /// While the link is down, this waits. It does not detect that the interface was deleted: drop the socket
    /// when [`crate::links::Monitor`] no longer lists the interface.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf).await
    }

    /// Sends one whole Ethernet frame. Does not wait: returns `WouldBlock` or `ENOBUFS` if the queue is full,
    /// and `ENETDOWN` if the link is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame)
    }
}
