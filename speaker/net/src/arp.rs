//! ARP requests on one interface: AF_PACKET with a filter in the kernel.

use std::io;

use crate::filter;
use crate::packet::PacketSocket;

const ETHERTYPE_ARP: u16 = 0x0806;

/// Receives ARP requests on one interface and sends frames there.
#[derive(Debug)]
pub struct ArpSocket(PacketSocket);

impl ArpSocket {
    /// Opens the socket on the interface with this index. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        PacketSocket::open(ETHERTYPE_ARP, ifindex, &filter::arp_requests(ifindex)).map(Self)
    }

    /// The interface it is bound to.
    pub fn ifindex(&self) -> u32 {
        self.0.ifindex()
    }

    /// Receives one ARP request, sent to this host or to everybody, as a whole Ethernet frame, and returns
    /// its length; a longer frame is cut to `buf`. Cancel safe.
    ///
    /// A link that is down is waited out. An interface that is gone is not noticed here: drop the socket when
    /// [`crate::links`] says so.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf).await
    }

    /// Sends one whole Ethernet frame. Does not wait: a full queue is `WouldBlock` or `ENOBUFS`, a link that
    /// is down is `ENETDOWN`.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame)
    }
}
