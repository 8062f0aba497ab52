//! Neighbour solicitations on one interface.
//!
//! They are received with AF_PACKET: neighbours check an entry they have by a solicitation to the announced address
//! itself (RFC 4861 section 7.3.3), and that address is not one of this node's, so that the kernel would forward the
//! packet instead of giving it to an ICMPv6 socket. An ICMPv6 socket sends, since the kernel then fills in checksum and
//! source and finds the neighbour; groups are joined with sockets, too, since the kernel then programs the card and
//! tells the switches (MLD).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::PacketSocket;
use crate::{filter, sys};

const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;

/// A received message: what is needed of its IPv6 header, and its length in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpMessage {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Option<Ipv6Addr>,
    /// Hop limit with which it arrived.
    pub hop_limit: u8,
    /// Length of the ICMPv6 message.
    pub len: usize,
}

/// Receives neighbour solicitations on one interface and sends advertisements there.
#[derive(Debug)]
pub struct NdpSocket {
    packets: PacketSocket,
    sender: Socket,
    members: Members,
}

/// The joined groups. The kernel limits the memberships of one socket (`net.core.optmem_max`: some hundreds on older
/// kernels), therefore there are as many sockets as it takes.
#[derive(Debug)]
struct Members {
    ifindex: u32,
    sockets: Vec<Socket>,
    /// Group to position in `sockets`.
    groups: BTreeMap<Ipv6Addr, usize>,
}

impl NdpSocket {
    /// Opens the socket on an interface. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32, name: &str) -> io::Result<Self> {
        let packets = PacketSocket::open(ETHERTYPE_IPV6, ifindex, &filter::neighbor_solicitations(ifindex))?;
        let kind = Type::RAW.nonblocking().cloexec();
        let sender = Socket::new(Domain::IPV6, kind, Some(Protocol::ICMPV6))?;
        sys::block_icmpv6(sender.as_fd())?;
        sender.bind_device(Some(name.as_bytes()))?;
        sender.set_unicast_hops_v6(255)?;
        sender.set_multicast_hops_v6(255)?;
        sender.set_multicast_if_v6(ifindex)?;
        sender.set_multicast_loop_v6(false)?;
        Ok(Self { packets, sender, members: Members::new(ifindex) })
    }

    /// The interface it is bound to.
    pub fn ifindex(&self) -> u32 {
        self.packets.ifindex()
    }

    /// Receives one neighbour solicitation with hop limit 255 and a right checksum to the beginning of `buf`, which must
    /// have room for a whole frame; others are dropped. Cancel safe.
    ///
    /// A link that is down is waited out. An interface that is gone is not noticed here: drop the socket when
    /// [`crate::links`] says so.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<NdpMessage> {
        loop {
            let len = self.packets.recv(buf).await?;
            let Some(message) = buf.get(..len).and_then(parse) else { continue };
            let begin = ETHERNET_HEADER + IPV6_HEADER;
            buf.copy_within(begin..begin + message.len, 0);
            return Ok(message);
        }
    }

    /// Sends an ICMPv6 message with hop limit 255; the kernel fills in the checksum. Does not wait.
    pub fn send(&self, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(destination, 0, 0, self.ifindex());
        self.sender.send_to(message, &to.into()).map(drop)
    }

    /// Joins a multicast group on this interface. Joining twice is joining once.
    pub fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        self.members.join(group)
    }

    /// Leaves a multicast group; one that was not joined is no error.
    pub fn leave(&mut self, group: Ipv6Addr) -> io::Result<()> {
        self.members.leave(group)
    }
}

/// Reads the headers of a frame that passed the filter; `None` where it is cut or damaged.
fn parse(frame: &[u8]) -> Option<NdpMessage> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let (header, rest) = packet.split_at_checked(IPV6_HEADER)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = rest.get(..len)?;
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination: [u8; 16] = header[24..40].try_into().ok()?;
    let sound =
        checksum(&[&source, &destination, &(len as u32).to_be_bytes(), &[0, 0, 0, ICMPV6], message]) == 0;
    sound.then_some(NdpMessage {
        source: source.into(),
        destination: Some(destination.into()),
        hop_limit: header[7],
        len,
    })
}

/// Internet checksum (RFC 1071) over parts of even length but for the last; zero where the sum in the data is right.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

impl Members {
    fn new(ifindex: u32) -> Self {
        Self { ifindex, sockets: Vec::new(), groups: BTreeMap::new() }
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        if self.groups.contains_key(&group) {
            return Ok(());
        }
        // The last socket is the one with room; those before it were filled. Their room that comes free again is left.
        if let Some(last) = self.sockets.last() {
            match last.join_multicast_v6(&group, self.ifindex) {
                Ok(()) => {
                    self.groups.insert(group, self.sockets.len() - 1);
                    return Ok(());
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {}
                Err(error) => return Err(error),
            }
        }
        let next = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        next.join_multicast_v6(&group, self.ifindex)?;
        self.groups.insert(group, self.sockets.len());
        self.sockets.push(next);
        Ok(())
    }

    fn leave(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let Some(at) = self.groups.remove(&group) else { return Ok(()) };
        self.sockets.get(at).map_or(Ok(()), |socket| socket.leave_multicast_v6(&group, self.ifindex))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A solicitation: fe80::4424:1fff:fe66:1 asks for fd00::1.
    fn solicitation() -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 1, 0x46, 0x24, 0x1f, 0x66, 0, 1, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        frame.extend("fe80::4424:1fff:fe66:1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([135, 0, CHECKSUM[0], CHECKSUM[1], 0, 0, 0, 0]);
        frame.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([1, 1, 0x46, 0x24, 0x1f, 0x66, 0, 1]);
        frame
    }

    const CHECKSUM: [u8; 2] = [0xb6, 0x04];

    #[test]
    fn headers_are_read_and_checksums_verified() {
        let good = solicitation();
        let message = parse(&good).unwrap();
        assert_eq!(message.source, "fe80::4424:1fff:fe66:1".parse::<Ipv6Addr>().unwrap());
        assert_eq!((message.hop_limit, message.len), (255, 32));
        for at in 14 + 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(parse(&bad), None, "bit of byte {at} flipped");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "cut to {len}");
        }
        let padded = [&good[..], &[0; 5]].concat();
        assert_eq!(parse(&padded), Some(message));
    }
}
