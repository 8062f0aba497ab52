//! A filtered AF_PACKET socket on one interface.

use std::io::{self, Read};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::filter::{Instruction, compiled};
use crate::sys;

#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: AsyncFd<Socket>,
    ifindex: u32,
}

impl PacketSocket {
    /// Protocol 0 receives nothing, so nothing unfiltered is queued before `bind` names the real one.
    pub(crate) fn open(ethertype: u16, ifindex: u32, filter: &[Instruction]) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
        socket.attach_filter(&compiled(filter))?;
        sys::ignore_outgoing(socket.as_fd())?;
        socket.bind(&sys::link_address(ethertype, ifindex)?)?;
        Ok(Self { socket: sys::register(socket)?, ifindex })
    }

    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The kernel says once that the link went down, and goes on by itself when it is up again.
    pub(crate) async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, |mut socket| socket.read(buf)).await;
            match received {
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
