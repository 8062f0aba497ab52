//! [`NdpSocket`]: neighbor solicitations and advertisements on one interface. `router_discovery.rs`:
//! [`RouterDiscoverySocket`], the messages of routers.
//!
//! Both are received with AF_PACKET. A neighbor that verifies an entry sends its solicitation to the
//! announced address itself (RFC 4861 section 7.3.3). The node does not have that address, so the kernel
//! would forward the packet instead of passing it to an ICMPv6 socket. Answers to a neighbor leave through
//! the same socket, to the link-layer address that sent the solicitation, because the node may have no route
//! to the neighbor if it has no address of that prefix. Multicast advertisements are sent with an ICMPv6
//! socket. Groups are joined with UDP sockets, so that the kernel programs the network card and informs the
//! switches (MLD).

mod router_discovery;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::PacketSocket;
use crate::{filter, sys};

pub use router_discovery::RouterDiscoverySocket;

const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
/// ICMPv6 type (RFC 4861 section 4.3).
const NEIGHBOR_SOLICITATION: u8 = 135;

/// A received message: the fields of its IPv6 header that validation needs, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpMessage {
    #[allow(missing_docs)]
    pub source: Ipv6Addr,
    #[allow(missing_docs)]
    pub destination: Option<Ipv6Addr>,
    /// The received hop limit.
    pub hop_limit: u8,
    /// Length of the ICMPv6 message in octets.
    pub len: usize,
}

/// Receives neighbor solicitations and advertisements on one interface and sends advertisements on it.
#[derive(Debug)]
pub struct NdpSocket {
    packets: PacketSocket,
    sender: Socket,
    groups: Groups,
    solicitors: Mutex<Solicitors>,
}

/// Link-layer addresses of recent solicitations, by source address.
type Solicitors = BTreeMap<Ipv6Addr, [u8; 6]>;

/// Maximum number of entries of [`Solicitors`]. An answer follows its solicitation at once, so few are
/// needed.
const MAX_SOLICITORS: usize = 256;

/// The joined groups. The kernel limits the memberships of one socket (`net.core.optmem_max`: several hundred
/// on older kernels), so a new socket is opened when the last one is full.
#[derive(Debug)]
struct Groups {
    ifindex: u32,
    sockets: Vec<Socket>,
    /// Index in `sockets` of the socket that joined each group.
    joined: BTreeMap<Ipv6Addr, usize>,
}

impl NdpSocket {
    /// Opens the socket on an interface. Needs CAP_NET_RAW and a Tokio runtime.
    pub fn open(ifindex: u32, name: &str) -> io::Result<Self> {
        let packets = PacketSocket::open(ETHERTYPE_IPV6, ifindex, &filter::neighbor_discovery(ifindex))?;
        let sender = sender(ifindex, name)?;
        Ok(Self { packets, sender, groups: Groups::new(ifindex), solicitors: Mutex::default() })
    }

    /// Receives one neighbor solicitation or advertisement with hop limit 255 and a correct checksum, and
    /// drops others. The message is moved to the beginning of `buf`, which must have room for the whole
    /// frame. Cancel safe.
    ///
    /// While the link is down, this waits. It does not detect that the interface was deleted: drop the socket
    /// when [`crate::links::Monitor`] no longer lists the interface.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<NdpMessage> {
        loop {
            let len = self.packets.recv(buf).await?;
            let Some(message) = buf.get(..len).and_then(parse) else { continue };
            let begin = ETHERNET_HEADER + IPV6_HEADER;
            if buf.get(begin) == Some(&NEIGHBOR_SOLICITATION) {
                self.remember(message.source, buf);
            }
            buf.copy_within(begin..begin + message.len, 0);
            return Ok(message);
        }
    }

    /// Sends a neighbor advertisement with hop limit 255 and fills in its checksum. Does not wait.
    pub fn send(&self, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let solicitor = self.solicitors.lock().unwrap_or_else(PoisonError::into_inner).remove(&destination);
        if let Some(frame) = solicitor.and_then(|mac| unicast_frame(mac, destination, message)) {
            return self.packets.send(&frame);
        }
        let to = SocketAddrV6::new(destination, 0, 0, self.groups.ifindex);
        self.sender.send_to(message, &to.into()).map(drop)
    }

    fn remember(&self, source: Ipv6Addr, frame: &[u8]) {
        let Some(mac) = frame.get(6..12).and_then(|mac| <[u8; 6]>::try_from(mac).ok()) else { return };
        let mut solicitors = self.solicitors.lock().unwrap_or_else(PoisonError::into_inner);
        if solicitors.len() >= MAX_SOLICITORS {
            solicitors.clear();
        }
        if !source.is_unspecified() {
            solicitors.insert(source, mac);
        }
    }

    /// Joins a multicast group on this interface. Does nothing if it is already joined.
    pub fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        self.groups.join(group)
    }

    /// Leaves a multicast group. Does nothing if it was not joined.
    pub fn leave(&mut self, group: Ipv6Addr) -> io::Result<()> {
        self.groups.leave(group)
    }
}

/// Opens an ICMPv6 socket that sends on one interface with hop limit 255, and receives nothing.
fn sender(ifindex: u32, name: &str) -> io::Result<Socket> {
    let sender = Socket::new(Domain::IPV6, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV6))?;
    sys::block_icmpv6(sender.as_fd())?;
    sender.bind_device(Some(name.as_bytes()))?;
    sender.set_unicast_hops_v6(255)?;
    sender.set_multicast_hops_v6(255)?;
    sender.set_multicast_if_v6(ifindex)?;
    sender.set_multicast_loop_v6(false)?;
    Ok(sender)
}

/// Reads the headers of a frame that passed the filter. Returns `None` if it is truncated or its checksum is
/// wrong.
fn parse(frame: &[u8]) -> Option<NdpMessage> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let (header, rest) = packet.split_at_checked(IPV6_HEADER)?;
    let len = u16::from_be_bytes([header[4], header[5]]);
    let message = rest.get(..usize::from(len))?;
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination: [u8; 16] = header[24..40].try_into().ok()?;
    let valid = checksum(&pseudo_header(&source, &destination, len, message)) == 0;
    valid.then_some(NdpMessage {
        source: source.into(),
        destination: Some(destination.into()),
        hop_limit: header[7],
        len: message.len(),
    })
}

/// Returns the frame of an advertisement to one neighbor. Its IPv6 source is the announced address, as if the
/// kernel answered for an address of its own; its link-layer source is that of the target link-layer address
/// option. Returns `None` if the message is not such an advertisement.
fn unicast_frame(mac: [u8; 6], destination: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
    let source: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let &[2, 1, ref own @ ..] = message.get(24..)? else { return None };
    let len = u16::try_from(message.len()).ok()?;
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = checksum(&pseudo_header(&source, &destination.octets(), len, &message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + IPV6_HEADER + message.len());
    frame.extend(mac);
    frame.extend(own.get(..6)?);
    frame.extend(ETHERTYPE_IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(source);
    frame.extend(destination.octets());
    frame.extend(message);
    Some(frame)
}

/// Returns the octets that the checksum of an ICMPv6 message covers (RFC 8200 section 8.1).
fn pseudo_header(source: &[u8], destination: &[u8], len: u16, message: &[u8]) -> [Vec<u8>; 2] {
    let [high, low] = len.to_be_bytes();
    let header = [source, destination, &[0, 0, high, low], &[0, 0, 0, ICMPV6]].concat();
    [header, message.to_vec()]
}

/// Returns the Internet checksum (RFC 1071) of the parts, of which only the last may have an odd length. The
/// result is zero if the parts include their own correct checksum.
fn checksum(parts: &[Vec<u8>]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

impl Groups {
    fn new(ifindex: u32) -> Self {
        Self { ifindex, sockets: Vec::new(), joined: BTreeMap::new() }
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        if self.joined.contains_key(&group) {
            return Ok(());
        }
        // Only the last socket has room. Room that leaving frees in the sockets before it is not used again.
        if let Some(last) = self.sockets.last() {
            match last.join_multicast_v6(&group, self.ifindex) {
                Ok(()) => {
                    self.joined.insert(group, self.sockets.len() - 1);
                    return Ok(());
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {}
                Err(error) => return Err(error),
            }
        }
        let next = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        next.join_multicast_v6(&group, self.ifindex)?;
        self.joined.insert(group, self.sockets.len());
        self.sockets.push(next);
        Ok(())
    }

    fn leave(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let Some(at) = self.joined.remove(&group) else { return Ok(()) };
        self.sockets.get(at).map_or(Ok(()), |socket| socket.leave_multicast_v6(&group, self.ifindex))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A solicitation from fe80::4424:1fff:fe66:1 for fd00::1.
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
    fn parse_reads_headers_and_verifies_checksum() {
        let good = solicitation();
        let message = parse(&good).unwrap();
        assert_eq!(message.source, "fe80::4424:1fff:fe66:1".parse::<Ipv6Addr>().unwrap());
        assert_eq!((message.hop_limit, message.len), (255, 32));
        for at in 14 + 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(parse(&bad), None, "one bit of octet {at} flipped");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "truncated to {len} octets");
        }
        let padded = [&good[..], &[0; 5]].concat();
        assert_eq!(parse(&padded), Some(message));
    }

    #[test]
    fn unicast_frame_is_valid_packet() {
        let mut message = vec![136, 0, 0xaa, 0xaa, 0x60, 0, 0, 0];
        message.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        message.extend([2, 1, 2, 0, 0, 0, 0, 1]);
        let to = "2001:db8::9".parse().unwrap();
        let frame = unicast_frame([2, 0, 0, 0, 0, 9], to, &message).unwrap();
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        let read = parse(&frame).expect("the checksum is correct");
        assert_eq!((read.source, read.destination), ("fd00::1".parse().unwrap(), Some(to)));
        assert_eq!((read.hop_limit, read.len), (255, 32));
        for len in 0..message.len() {
            assert_eq!(
                unicast_frame([2, 0, 0, 0, 0, 9], to, &message[..len]),
                None,
                "truncated to {len} octets"
            );
        }
    }
}
