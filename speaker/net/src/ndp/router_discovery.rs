//! [`RouterDiscoverySocket`]: solicitations and advertisements of routers on one interface.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::Socket;

use super::{ETHERNET_HEADER, ETHERTYPE_IPV6, Groups, IPV6_HEADER, NdpMessage, parse, sender};
use crate::filter;
use crate::packet::PacketSocket;

/// The multicast group to which solicitations are sent, `ff02::2`.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Receives and sends router solicitations and advertisements on one interface.
#[derive(Debug)]
pub struct RouterDiscoverySocket {
    ifindex: u32,
    packets: PacketSocket,
    sender: Socket,
    /// Keeps the membership in [`ALL_ROUTERS`], which the kernel joins only if it forwards IPv6.
    _groups: Groups,
}

impl RouterDiscoverySocket {
    /// Opens the socket on an interface. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32, name: &str) -> io::Result<Self> {
        let packets = PacketSocket::open(ETHERTYPE_IPV6, ifindex, &filter::router_discovery(ifindex))?;
        let mut groups = Groups::new(ifindex);
        groups.join(ALL_ROUTERS)?;
        Ok(Self { ifindex, packets, sender: sender(ifindex, name)?, _groups: groups })
    }

    /// Receives one message with hop limit 255 and a correct checksum, and drops others. The message is moved
    /// to the beginning of `buf`, which must have room for the whole frame. Waits while the link is down.
    /// Cancel safe.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<NdpMessage> {
        loop {
            let len = self.packets.recv(buf).await?;
            let Some(message) = buf.get(..len).and_then(parse) else { continue };
            let begin = ETHERNET_HEADER + IPV6_HEADER;
            buf.copy_within(begin..begin + message.len, 0);
            return Ok(message);
        }
    }

    /// Sends a message from the link-local address, and fills in its checksum. Does not wait.
    pub fn send(&self, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(destination, 0, 0, self.ifindex);
        self.sender.send_to(message, &to.into()).map(drop)
    }
}
