//! Neighbour solicitations on one interface.
//!
//! They are received with AF_PACKET: neighbours check an entry they have by a solicitation to the announced
//! address itself (RFC 4861 section 7.3.3), and that address is not one of this node's, so that the kernel
//! would forward the packet instead of giving it to an ICMPv6 socket. Answers to a neighbour leave the same
//! way, to the link-layer address that asked: the node may have no route to it where it holds no address of
//! the announced prefix. What goes to everybody is sent by an ICMPv6 socket, and groups are joined with
//! sockets, since the kernel then programs the card and tells the switches (MLD).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

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
    askers: Mutex<Askers>,
}

/// Link-layer addresses of those who asked lately.
type Askers = BTreeMap<Ipv6Addr, [u8; 6]>;

/// Most entries of [`Askers`]; an answer follows the question at once, so that the few in between suffice.
const MAX_ASKERS: usize = 256;

/// The joined groups. The kernel limits the memberships of one socket (`net.core.optmem_max`: some hundreds
/// on older kernels), therefore there are as many sockets as it takes.
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
        Ok(Self { packets, sender, members: Members::new(ifindex), askers: Mutex::default() })
    }

    /// The interface it is bound to.
    pub fn ifindex(&self) -> u32 {
        self.packets.ifindex()
    }

    /// Receives one neighbour solicitation with hop limit 255 and a right checksum to the beginning of `buf`,
    /// which must have room for a whole frame; others are dropped. Cancel safe.
    ///
    /// A link that is down is waited out. An interface that is gone is not noticed here: drop the socket when
    /// [`crate::links`] says so.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<NdpMessage> {
        loop {
            let len = self.packets.recv(buf).await?;
            let Some(message) = buf.get(..len).and_then(parse) else { continue };
            self.remember(message.source, buf);
            let begin = ETHERNET_HEADER + IPV6_HEADER;
            buf.copy_within(begin..begin + message.len, 0);
            return Ok(message);
        }
    }

    /// Sends a neighbour advertisement with hop limit 255 and the right checksum. Does not wait.
    pub fn send(&self, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let asker = self.askers.lock().unwrap_or_else(PoisonError::into_inner).remove(&destination);
        if let Some(frame) = asker.and_then(|mac| answer(mac, destination, message)) {
            return self.packets.send(&frame);
        }
        let to = SocketAddrV6::new(destination, 0, 0, self.ifindex());
        self.sender.send_to(message, &to.into()).map(drop)
    }

    fn remember(&self, source: Ipv6Addr, frame: &[u8]) {
        let Some(mac) = frame.get(6..12).and_then(|mac| <[u8; 6]>::try_from(mac).ok()) else { return };
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if askers.len() >= MAX_ASKERS {
            askers.clear();
        }
        if !source.is_unspecified() {
            askers.insert(source, mac);
        }
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
    let len = u16::from_be_bytes([header[4], header[5]]);
    let message = rest.get(..usize::from(len))?;
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination: [u8; 16] = header[24..40].try_into().ok()?;
    let sound = checksum(&pseudo_header(&source, &destination, len, message)) == 0;
    sound.then_some(NdpMessage {
        source: source.into(),
        destination: Some(destination.into()),
        hop_limit: header[7],
        len: message.len(),
    })
}

/// The frame of an advertisement to one neighbour. Its source is the announced address itself, as a kernel
/// has it that answers for its own; the link-layer source is that of the Target Link-Layer Address option.
/// `None` for messages that are no such advertisement.
fn answer(mac: [u8; 6], destination: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
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

/// What the checksum of an ICMPv6 message covers (RFC 8200 section 8.1).
fn pseudo_header(source: &[u8], destination: &[u8], len: u16, message: &[u8]) -> [Vec<u8>; 2] {
    let [high, low] = len.to_be_bytes();
    let header = [source, destination, &[0, 0, high, low], &[0, 0, 0, ICMPV6]].concat();
    [header, message.to_vec()]
}

/// Internet checksum (RFC 1071) over parts of even length but for the last; zero where the sum in the data is
/// right.
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

impl Members {
    fn new(ifindex: u32) -> Self {
        Self { ifindex, sockets: Vec::new(), groups: BTreeMap::new() }
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        if self.groups.contains_key(&group) {
            return Ok(());
        }
        // The last socket is the one with room; those before it were filled. Their room that comes free again
        // is left.
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

    #[test]
    fn an_answer_is_a_sound_packet() {
        let mut message = vec![136, 0, 0xaa, 0xaa, 0x60, 0, 0, 0];
        message.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        message.extend([2, 1, 2, 0, 0, 0, 0, 1]);
        let to = "2001:db8::9".parse().unwrap();
        let frame = answer([2, 0, 0, 0, 0, 9], to, &message).unwrap();
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        let read = parse(&frame).expect("its checksum is right");
        assert_eq!((read.source, read.destination), ("fd00::1".parse().unwrap(), Some(to)));
        assert_eq!((read.hop_limit, read.len), (255, 32));
        for len in 0..message.len() {
            assert_eq!(answer([2, 0, 0, 0, 0, 9], to, &message[..len]), None, "cut to {len}");
        }
    }
}
