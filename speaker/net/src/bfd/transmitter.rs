//! [`BfdTransmitter`]: sends the Control packets of one session.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{SockAddr, Socket};

use super::{scoped, udp_socket};
use crate::filter::{compile, nothing};

/// First source port (RFC 5881 §4: 49152 to 65535).
const FIRST_PORT: u16 = 49152;
/// Number of source ports.
const PORTS: u16 = u16::MAX - FIRST_PORT + 1;
/// Ports to try. With 1024 sessions of one address, 1 in 16 ports is in use.
const ATTEMPTS: u16 = 64;

/// DSCP CS6, "network control" (RFC 4594), which routers set on their own BFD packets.
const CS6: u32 = 0xc0;
/// Single hop: RFC 5881 §5. Multihop: the peer may require a minimum.
const TTL: u32 = 255;

/// Sends the Control packets of one session, from a source port of its own.
#[derive(Debug)]
pub struct BfdTransmitter {
    socket: Socket,
    to: SockAddr,
}

impl BfdTransmitter {
    /// Opens a socket that sends from `local` to `remote` with TTL or hop limit 255. `interface` is required
    /// for link-local addresses. `choice` selects the first source port to try; pass a random number.
    ///
    /// # Errors
    /// `AddrNotAvailable` if this node does not have the local address.
    pub fn open(local: IpAddr, remote: SocketAddr, interface: Option<u32>, choice: u16) -> io::Result<Self> {
        let socket = udp_socket(local)?;
        // What a peer sends to the source port is dropped.
        socket.attach_filter(&compile(&nothing()))?;
        match local {
            IpAddr::V4(_) => {
                socket.set_ttl_v4(TTL)?;
                socket.set_tos_v4(CS6)?;
            }
            IpAddr::V6(_) => {
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_tclass_v6(CS6)?;
            }
        }
        let mut attempt = 0;
        loop {
            let port = FIRST_PORT + (choice % PORTS + attempt) % PORTS;
            match socket.bind(&scoped(local, port, interface).into()) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
        // Not connected: otherwise the kernel would report an ICMP error about an earlier packet in place of
        // sending the next one.
        let to = scoped(remote.ip(), remote.port(), interface).into();
        Ok(Self { socket, to })
    }

    /// Sends one packet. Does not wait: returns an error if the kernel cannot send it now.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &self.to).map(drop)
    }
}
