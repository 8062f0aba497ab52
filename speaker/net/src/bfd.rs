//! UDP sockets of BFD (RFC 5881 §4, RFC 5883 §3), for a thread without Tokio. No call waits, except
//! [`BfdPoller::wait`]; none allocates after the socket was opened.

mod arrival;
mod poller;
mod receiver;
mod transmitter;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

pub use poller::{BfdPoller, BfdWaker};
pub use receiver::{BfdBatch, BfdDatagram, BfdReceiver};
use socket2::{Domain, Protocol, Socket, Type};
pub use transmitter::BfdTransmitter;

/// Returns the address with which the kernel would send to a peer, by its routing table. Sends nothing.
/// `interface` is required for a link-local peer.
///
/// # Errors
/// There is no route to the peer.
pub fn local_address(remote: IpAddr, interface: Option<u32>) -> io::Result<IpAddr> {
    let any = SocketAddr::new(unspecified(remote), 0);
    let socket = UdpSocket::bind(any)?;
    // Connecting a UDP socket only looks up the route. The port does not matter.
    socket.connect(scoped(remote, 9, interface))?;
    Ok(socket.local_addr()?.ip())
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Returns the socket address, with the interface as its scope if the address is link-local.
fn scoped(address: IpAddr, port: u16, interface: Option<u32>) -> SocketAddr {
    match (address, interface) {
        (IpAddr::V6(v6), Some(interface)) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, interface).into()
        }
        _ => SocketAddr::new(address, port),
    }
}

fn udp_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
