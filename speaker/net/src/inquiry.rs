//! [`InquirySocket`]: asks the hosts on a link for their Ethernet addresses.

use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};

use crate::filter;
use crate::packet::PacketSocket;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Sends Ethernet frames on one interface, and receives ARP replies or neighbor advertisements to this host.
#[derive(Debug)]
pub struct InquirySocket(PacketSocket);

impl InquirySocket {
    /// Opens the socket on the interface with this index, for answers of the family of `own`. Needs
    /// CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32, own: IpAddr) -> io::Result<Self> {
        match own {
            IpAddr::V4(_) => PacketSocket::open(ETHERTYPE_ARP, ifindex, &filter::arp_replies(ifindex)),
            IpAddr::V6(_) => {
                PacketSocket::open(ETHERTYPE_IPV6, ifindex, &filter::neighbor_advertisements(ifindex))
            }
        }
        .map(Self)
    }

    /// Receives one answer as a whole Ethernet frame and returns its length; a longer frame is truncated to
    /// `buf`. Cancel safe.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf).await
    }

    /// Sends one whole Ethernet frame. Does not wait.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame)
    }
}

/// Returns at most `limit` hosts that the kernel has learned on this interface, of the family of `own`, those
/// that were confirmed last first.
pub async fn neighbors(ifindex: u32, own: IpAddr, limit: usize) -> io::Result<Vec<IpAddr>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut found: Vec<(bool, IpAddr)> = Vec::new();
    let mut entries = handle.neighbours().get().execute();
    let listed = async {
        while let Some(entry) = entries.try_next().await.map_err(io::Error::other)? {
            let learned = matches!(
                entry.header.state,
                NeighbourState::Reachable
                    | NeighbourState::Stale
                    | NeighbourState::Delay
                    | NeighbourState::Probe
                    | NeighbourState::Permanent
            );
            let address = entry.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
                _ => None,
            });
            let address = address.filter(|address| address.is_ipv4() == own.is_ipv4() && *address != own);
            if entry.header.ifindex == ifindex && learned {
                let confirmed = entry.header.state == NeighbourState::Reachable;
                found.extend(address.map(|address| (!confirmed, address)));
            }
        }
        Ok(())
    };
    let result = listed.await;
    connection.abort();
    result.map(|()| {
        found.sort();
        found.into_iter().map(|(_, address)| address).take(limit).collect()
    })
}
