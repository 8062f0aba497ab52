//! [`BfdReceiver`]: receives the Control packets to one address and port.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use socket2::Socket;

use super::arrival::{Clocks, arrival};
use super::{scoped, udp_socket};
use crate::filter::{compile, min_ttl};
use crate::sys;
use crate::sys::batch::{BATCH_SIZE, Slot};

/// Size of the kernel's receive buffer, in octets: the packets of 256 sessions at 50 ms during 100 ms. The
/// kernel limits it to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 512 * 1024;

/// Receives the Control packets to one local address and port, from any peer.
#[derive(Debug)]
pub struct BfdReceiver {
    socket: Socket,
    ipv4: bool,
    /// A time at which no packet was queued that is queued now.
    empty: Instant,
}

/// A received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdDatagram<'a> {
    /// Time at which the kernel received it.
    pub arrived: Instant,
    #[allow(missing_docs)]
    pub source: IpAddr,
    /// Index of the interface on which it arrived.
    pub interface: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The first 64 octets.
    pub payload: &'a [u8],
}

/// Buffers for the datagrams of one call of [`BfdReceiver::receive`]. Several sockets may share it.
#[derive(Debug)]
pub struct BfdBatch {
    slots: Box<[Slot; BATCH_SIZE]>,
    length: usize,
    read: Clocks,
    empty: Instant,
}

impl BfdReceiver {
    /// Binds a socket to an address of this node. `interface` is required for a link-local address. Packets
    /// with a TTL or hop limit below `min_ttl` are dropped.
    ///
    /// The address is bound exclusively: another BFD daemon of this node can use other addresses, and the
    /// kernel never divides the packets of one address between two daemons.
    ///
    /// # Errors
    /// `AddrInUse` if another socket is bound to the port on this address, or on all addresses.
    /// `AddrNotAvailable` if this node does not have the address.
    pub fn bind(local: IpAddr, interface: Option<u32>, port: u16, ttl: u8) -> io::Result<Self> {
        let socket = udp_socket(local)?;
        let receiver = Self { socket, ipv4: local.is_ipv4(), empty: Instant::now() };
        // Before the port is bound, so that every queued packet passed the filter and has a time.
        receiver.set_min_ttl(ttl)?;
        sys::report_arrival(receiver.socket.as_fd(), receiver.ipv4)?;
        receiver.socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        receiver.socket.bind(&scoped(local, port, interface).into())?;
        Ok(receiver)
    }

    /// Sets the minimum TTL or hop limit of received packets. `IP_MINTTL` has no effect on UDP sockets.
    pub fn set_min_ttl(&self, ttl: u8) -> io::Result<()> {
        self.socket.attach_filter(&compile(&min_ttl(self.ipv4, ttl)))
    }

    /// Receives datagrams into `batch`, without waiting. Returns false if none is queued any more.
    pub fn receive(&mut self, batch: &mut BfdBatch) -> io::Result<bool> {
        batch.receive(self.socket.as_fd(), &mut self.empty)
    }
}

impl AsFd for BfdReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl BfdBatch {
    /// Allocates the buffers.
    #[must_use]
    pub fn new() -> Self {
        let slots = Box::new([const { Slot::new() }; BATCH_SIZE]);
        Self { slots, length: 0, read: Clocks::now(), empty: Instant::now() }
    }

    /// Receives datagrams without waiting. Returns false if none is queued any more. `empty` is a time at
    /// which no datagram was queued that is queued now.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, empty: &mut Instant) -> io::Result<bool> {
        self.length = 0;
        self.empty = *empty;
        let before = Instant::now();
        let received = match sys::batch::receive(socket, &mut self.slots) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        };
        self.length = received;
        self.read = Clocks::now();
        let more = received == BATCH_SIZE;
        if !more {
            *empty = before;
        }
        Ok(more)
    }

    /// Returns the datagrams of the last call of [`BfdReceiver::receive`].
    pub fn datagrams(&self) -> impl Iterator<Item = BfdDatagram<'_>> {
        self.slots.iter().take(self.length).filter_map(|slot| {
            let ancillary = slot.ancillary();
            Some(BfdDatagram {
                arrived: arrival(ancillary.stamp, self.read, self.empty),
                source: slot.source()?,
                interface: ancillary.interface,
                ttl: ancillary.ttl,
                payload: slot.payload(),
            })
        })
    }
}

impl Default for BfdBatch {
    fn default() -> Self {
        Self::new()
    }
}
