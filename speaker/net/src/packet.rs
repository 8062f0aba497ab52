//! [`PacketSocket`]: an AF_PACKET socket with a filter, on one interface.

use std::io::{self, Read};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::filter::{Instruction, compile};
use crate::sys;

#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: AsyncFd<Socket>,
}

impl PacketSocket {
    /// Opens the socket. Needs CAP_NET_RAW and a Tokio runtime.
    pub(crate) fn open(ethertype: u16, ifindex: u32, filter: &[Instruction]) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        // Protocol 0 receives nothing, so no unfiltered frame is queued before `bind` sets the protocol.
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
        socket.attach_filter(&compile(filter))?;
        sys::ignore_outgoing(socket.as_fd())?;
        socket.bind(&sys::link_address(ethertype, ifindex)?)?;
        Ok(Self { socket: sys::register(socket)? })
    }

    /// Receives one frame and returns its length. Cancel safe.
    pub(crate) async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, |mut socket| socket.read(buf)).await;
            match received {
                // The kernel reports once that the link went down; the socket works again when it comes up.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => return received,
            }
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(frame).map(drop)
    }
}
