//! [`DualStackUdpSocket`]: datagrams of both address families on one port.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::sys;

/// Most refusals that are kept. The kernel of a peer sends one a second.
const MAX_REFUSED: usize = 64;

/// A UDP socket that is bound to one port on every IPv4 and IPv6 address of the node. On a kernel without
/// IPv6 it uses IPv4 only. Callers use plain IPv4 addresses, never IPv4-mapped IPv6 addresses.
#[derive(Debug)]
pub struct DualStackUdpSocket {
    socket: UdpSocket,
    ipv6: bool,
    /// See [`Self::take_refused`].
    refused: Mutex<Vec<SocketAddr>>,
}

impl DualStackUdpSocket {
    /// Binds the socket. Needs a Tokio runtime.
    pub fn bind(port: u16) -> io::Result<Self> {
        match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(socket) => Ok(Self { socket, ipv6: true, refused: Mutex::default() }),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                let socket = bind((Ipv4Addr::UNSPECIFIED, port).into())?;
                Ok(Self { socket, ipv6: false, refused: Mutex::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// Receives one datagram and returns its length and source; a longer datagram is truncated to `buf`. An
    /// error may concern a datagram sent earlier (ICMP port unreachable). Cancel safe.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(buf).await.inspect_err(|error| self.note_refusals(error))?;
        Ok((len, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Receives one datagram that is queued, without waiting; see [`Self::recv_from`]. Returns `WouldBlock`
    /// if there is none.
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.try_recv_from(buf).inspect_err(|error| {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.note_refusals(error);
            }
        });
        received.map(|(len, from)| (len, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Waits until the socket is ready to send. Before the first wait, [`Self::try_send_to`] fails. Cancel
    /// safe.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Sends one datagram. Does not wait: returns `WouldBlock` if the queue is full.
    pub fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match to.ip() {
            IpAddr::V4(v4) if self.ipv6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        let sent = self.socket.try_send_to(datagram, to).or_else(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return Err(error);
            }
            // The error concerns an earlier datagram, and the kernel did not send this one.
            self.note_refusals(&error);
            self.socket.try_send_to(datagram, to)
        });
        sent.map(drop)
    }

    /// Returns the destinations of datagrams that a host refused since the last call, because no process
    /// listens there (ICMP port unreachable).
    pub fn take_refused(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Empties the queue of errors. `error` is the last of them.
    fn note_refusals(&self, error: &io::Error) {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        let mut payload = [MaybeUninit::uninit(); 1];
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // The address of a queued error is the destination of the datagram that caused it.
        while let Ok((_, to)) = SockRef::from(&self.socket).recv_from_with_flags(&mut payload, flags) {
            let mut list = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(to) = to.as_socket().filter(|_| refused && list.len() < MAX_REFUSED) {
                list.push(SocketAddr::new(to.ip().to_canonical(), to.port()));
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    sys::report_errors(socket.as_fd(), address.is_ipv6())?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refused_destinations_are_reported() {
        let socket = DualStackUdpSocket::bind(0).unwrap();
        socket.writable().await.unwrap();
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(closed) = UdpSocket::bind((ip, 0)).await.and_then(|closed| closed.local_addr()) else {
                eprintln!("skipped: no loopback address {ip}");
                continue;
            };
            let open = UdpSocket::bind((ip, 0)).await.unwrap();
            socket.try_send_to(b"ping", closed).unwrap();
            // The refusal of the first datagram does not prevent the second one.
            socket.try_send_to(b"ping", open.local_addr().unwrap()).unwrap();
            assert_eq!(socket.take_refused(), [closed]);
            assert_eq!(open.recv_from(&mut [0; 16]).await.unwrap().0, 4);

            socket.try_send_to(b"ping", closed).unwrap();
            assert!(socket.recv_from(&mut [0; 16]).await.is_err());
            assert_eq!(socket.take_refused(), [closed]);
        }
    }

    #[tokio::test]
    async fn datagrams_of_both_families_arrive_with_plain_addresses() {
        let socket = DualStackUdpSocket::bind(0).unwrap();
        socket.writable().await.unwrap();
        let port = socket.socket.local_addr().unwrap().port();
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(peer) = UdpSocket::bind((ip, 0)).await else {
                eprintln!("skipped: no loopback address {ip}");
                continue;
            };
            let address = peer.local_addr().unwrap();
            socket.try_send_to(b"ping", address).unwrap();
            let mut buf = [0; 16];
            assert_eq!(peer.recv_from(&mut buf).await.unwrap(), (4, SocketAddr::new(ip, port)));
            peer.send_to(b"answer", (ip, port)).await.unwrap();
            assert_eq!(socket.recv_from(&mut buf).await.unwrap(), (6, address));
        }
    }
}
