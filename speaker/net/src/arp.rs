//! ARP requests on one interface: AF_PACKET with a filter in the kernel.

use std::io;

/// Receives ARP requests on one interface and sends frames there.
#[derive(Debug)]
pub struct ArpSocket {}

impl ArpSocket {
    /// Opens the socket on the interface with this index. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(_ifindex: u32) -> io::Result<Self> {
        todo!()
    }

    /// The interface it is bound to.
    pub fn ifindex(&self) -> u32 {
        todo!()
    }

    /// Receives one ARP request as a whole Ethernet frame and returns its length; a longer frame is cut to `buf`.
    /// A link that goes down is waited out. An error means that the interface is gone. Cancel safe.
    pub async fn recv(&self, _buf: &mut [u8]) -> io::Result<usize> {
        todo!()
    }

    /// Sends one whole Ethernet frame. Does not wait: a full queue is `WouldBlock` or `ENOBUFS`, a link that is down
    /// is `ENETDOWN`.
    pub fn send(&self, _frame: &[u8]) -> io::Result<()> {
        todo!()
    }
}
