//! [`DualStackUdpSocket`]: datagrams of both address families on one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A UDP socket that is bound to one port on every IPv4 and IPv6 address of the node. On a kernel without
/// IPv6 it uses IPv4 only. Callers use plain IPv4 addresses, never IPv4-mapped IPv6 addresses.
#[derive(Debug)]
pub struct DualStackUdpSocket {
    socket: UdpSocket,
    ipv6: bool,
}

impl DualStackUdpSocket {
    /// Binds the socket. Needs a Tokio runtime.
    pub fn bind(port: u16) -> io::Result<Self> {
        match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(socket) => Ok(Self { socket, ipv6: true }),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                Ok(Self { socket: bind((Ipv4Addr::UNSPECIFIED, port).into())?, ipv6: false })
            }
            Err(error) => Err(error),
        }
    }

    /// Receives one datagram and returns its length and source; a longer datagram is truncated to `buf`. An
    /// error may concern a datagram sent earlier (ICMP port unreachable). Cancel safe.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(buf).await?;
        Ok((len, SocketAddr::new(from.ip().to_canonical(), from.port())))
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
        self.socket.try_send_to(datagram, to).map(drop)
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
