//! Parses Ethernet frames: ARP, neighbor discovery, BGP, BFD. Builds requests for the Ethernet address of a
//! host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addresses::{Dual, Mac};

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet source.
    pub source: Mac,
    /// Ethernet destination.
    pub destination: Mac,
    /// Payload.
    pub message: Message,
}

/// Payload of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 826.
    Arp {
        /// Request (1) or reply (2).
        operation: u16,
        /// Sender's hardware address.
        sender: Mac,
        /// Sender's protocol address; 0.0.0.0 in a probe.
        sender_ip: Ipv4Addr,
        /// Target's protocol address.
        target_ip: Ipv4Addr,
    },
    /// RFC 4861 §4.3.
    NeighborSolicitation {
        /// IPv6 source; `::` in duplicate address detection.
        from: Ipv6Addr,
        /// Requested address.
        target: Ipv6Addr,
    },
    /// RFC 4861 §4.4.
    NeighborAdvertisement {
        /// IPv6 source.
        from: Ipv6Addr,
        /// IPv6 destination.
        to: Ipv6Addr,
        /// Advertised address.
        target: Ipv6Addr,
        /// Solicited flag: the advertisement answers a solicitation.
        solicited: bool,
        /// Override flag: the advertisement replaces the receiver's cache entry.
        overriding: bool,
        /// Target link-layer address option.
        link_layer: Option<Mac>,
    },
    /// A TCP segment of BGP (port 179 on either side) that carries data.
    Bgp {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
        /// Messages that begin in this segment.
        messages: Vec<BgpMessage>,
    },
    /// A BFD Control packet (UDP port 3784 or 4784, RFC 5880 §4.1).
    Bfd {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
        /// State: 0 AdminDown, 1 Down, 2 Init, 3 Up.
        state: u8,
        /// Diagnostic.
        diagnostic: u8,
    },
}

/// A BGP message by its type (RFC 4271 §4.1), with the bytes after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpMessage {
    /// 1 OPEN, 2 UPDATE, 3 NOTIFICATION, 4 KEEPALIVE, 5 ROUTE-REFRESH.
    pub kind: u8,
    /// Octets after the header, as far as they are in the segment.
    pub body: Vec<u8>,
}

impl Message {
    /// Returns true if the frame claims `ip` for its sender: an ARP reply, a gratuitous ARP, a neighbor
    /// advertisement.
    pub fn claims(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::Arp { operation, sender_ip, target_ip, .. }, IpAddr::V4(ip)) => {
                *sender_ip == ip && (*operation == 2 || target_ip == sender_ip)
            }
            (Self::NeighborAdvertisement { target, .. }, IpAddr::V6(ip)) => *target == ip,
            _ => false,
        }
    }

    /// Returns true if the frame requests `ip`.
    pub fn asks_for(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::Arp { operation: 1, sender_ip, target_ip, .. }, IpAddr::V4(ip)) => {
                *target_ip == ip && *sender_ip != ip
            }
            (Self::NeighborSolicitation { target, .. }, IpAddr::V6(ip)) => *target == ip,
            _ => false,
        }
    }
}

/// Parses a frame. Returns `None` for other protocols and for truncated frames.
pub fn parse(bytes: &[u8]) -> Option<Frame> {
    let (header, payload) = bytes.split_at_checked(14)?;
    let destination = mac(&header[0..6])?;
    let source = mac(&header[6..12])?;
    let message = match be16(&header[12..])? {
        0x0806 => arp(payload)?,
        0x0800 => ipv4(payload)?,
        0x86dd => ipv6(payload)?,
        _ => return None,
    };
    Some(Frame { source, destination, message })
}

/// Returns the request that a host without a neighbor cache sends to find `target`: a broadcast ARP request
/// (RFC 826), or a neighbor solicitation to the solicited-node group (RFC 4861 §4.3).
pub fn request(mac: Mac, own: Dual, target: IpAddr) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => {
            // Ethernet type ARP; hardware type Ethernet, protocol type IPv4, their address lengths, operation
            // request.
            const HEADER: [u8; 10] = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
            let own = own.v4.octets();
            [&[0xff; 6][..], &mac.0, &HEADER, &mac.0, &own, &[0; 6], &target.octets()].concat()
        }
        IpAddr::V6(target) => {
            let [.., a, b, c] = target.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            // Type, code, checksum, reserved; then the target and the source link-layer address option.
            let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &mac.0].concat();
            let length = message.len() as u8;
            let pseudo_header =
                [&own.v6.octets()[..], &group.octets(), &[0, 0, 0, length, 0, 0, 0, 58]].concat();
            let checksum = checksum(&[pseudo_header, message.clone()].concat());
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            let header = [0x60, 0, 0, 0, 0, length, 58, 255];
            let ethernet = [&[0x33, 0x33, 0xff, a, b, c][..], &mac.0, &[0x86, 0xdd]].concat();
            [&ethernet[..], &header, &own.v6.octets(), &group.octets(), &message].concat()
        }
    }
}

/// The checksum of the Internet (RFC 1071) of an even number of octets.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn arp(bytes: &[u8]) -> Option<Message> {
    // Ethernet (1), IPv4 (0x0800), address lengths 6 and 4.
    if bytes.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    Some(Message::Arp {
        operation: be16(bytes.get(6..)?)?,
        sender: mac(bytes.get(8..14)?)?,
        sender_ip: v4(bytes.get(14..18)?)?,
        target_ip: v4(bytes.get(24..28)?)?,
    })
}

fn ipv4(bytes: &[u8]) -> Option<Message> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let total = usize::from(be16(bytes.get(2..)?)?);
    let (from, to) = (v4(bytes.get(12..16)?)?, v4(bytes.get(16..20)?)?);
    let payload = bytes.get(header..total.min(bytes.len()))?;
    match *bytes.get(9)? {
        6 => bgp(from.into(), to.into(), payload),
        17 => bfd(from.into(), to.into(), payload),
        _ => None,
    }
}

fn ipv6(bytes: &[u8]) -> Option<Message> {
    let length = usize::from(be16(bytes.get(4..)?)?);
    let (from, to) = (v6(bytes.get(8..24)?)?, v6(bytes.get(24..40)?)?);
    let payload = bytes.get(40..(40 + length).min(bytes.len()))?;
    match *bytes.get(6)? {
        6 => bgp(from.into(), to.into(), payload),
        17 => bfd(from.into(), to.into(), payload),
        58 => ndp(from, to, payload),
        _ => None,
    }
}

fn ndp(from: Ipv6Addr, to: Ipv6Addr, bytes: &[u8]) -> Option<Message> {
    let target = v6(bytes.get(8..24)?)?;
    match *bytes.first()? {
        135 => Some(Message::NeighborSolicitation { from, target }),
        136 => {
            let flags = *bytes.get(4)?;
            let option = bytes.get(24..32).filter(|option| option[..2] == [2, 1]);
            Some(Message::NeighborAdvertisement {
                from,
                to,
                target,
                solicited: flags & 0x40 != 0,
                overriding: flags & 0x20 != 0,
                link_layer: option.and_then(|option| mac(&option[2..8])),
            })
        }
        _ => None,
    }
}

fn bgp(from: IpAddr, to: IpAddr, tcp: &[u8]) -> Option<Message> {
    let (source, destination) = (be16(tcp)?, be16(tcp.get(2..)?)?);
    if source != 179 && destination != 179 {
        return None;
    }
    let mut data = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
    if data.is_empty() {
        return None;
    }
    let mut messages = Vec::new();
    // A segment that does not begin with a marker continues an earlier message.
    while data.len() >= 19 && data[..16] == [0xff; 16] {
        let length = usize::from(be16(&data[16..])?).max(19);
        let end = length.min(data.len());
        messages.push(BgpMessage { kind: data[18], body: data[19..end].to_vec() });
        data = &data[end..];
    }
    Some(Message::Bgp { from, to, messages })
}

fn bfd(from: IpAddr, to: IpAddr, udp: &[u8]) -> Option<Message> {
    if !matches!(be16(udp.get(2..)?)?, 3784 | 4784) {
        return None;
    }
    // Version and diagnostic, then state and flags.
    let packet = udp.get(8..10)?;
    Some(Message::Bfd { from, to, state: packet[1] >> 6, diagnostic: packet[0] & 0x1f })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    Some(Mac(bytes.try_into().ok()?))
}

fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(bytes).ok()?.into())
}

fn v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source, self.destination)?;
        match &self.message {
            Message::Arp { operation: 1, sender_ip, target_ip, .. } if sender_ip == target_ip => {
                write!(f, "ARP announcement of {sender_ip}")
            }
            Message::Arp { operation: 1, sender_ip, target_ip, .. } => {
                write!(f, "ARP who has {target_ip}? tell {sender_ip}")
            }
            Message::Arp { sender, sender_ip, target_ip, .. } => {
                write!(f, "ARP {sender_ip} is at {sender}, to {target_ip}")
            }
            Message::NeighborSolicitation { from, target } => {
                write!(f, "NDP who has {target}? tell {from}")
            }
            Message::NeighborAdvertisement { target, solicited, overriding, link_layer, to, .. } => {
                write!(f, "NDP {target} is at ")?;
                match link_layer {
                    Some(mac) => write!(f, "{mac}")?,
                    None => f.write_str("?")?,
                }
                write!(f, ", to {to}")?;
                f.write_str(if *solicited { " solicited" } else { " unsolicited" })?;
                f.write_str(if *overriding { " override" } else { "" })
            }
            Message::Bgp { from, to, messages } => {
                write!(f, "BGP {from} > {to}")?;
                for message in messages {
                    let name = match message.kind {
                        1 => "OPEN",
                        2 => "UPDATE",
                        3 => "NOTIFICATION",
                        4 => "KEEPALIVE",
                        5 => "ROUTE-REFRESH",
                        _ => "?",
                    };
                    write!(f, " {name}({})", message.body.len())?;
                }
                Ok(())
            }
            Message::Bfd { from, to, state, diagnostic } => {
                let state = ["AdminDown", "Down", "Init", "Up"].get(usize::from(*state)).unwrap_or(&"?");
                write!(f, "BFD {from} > {to} {state} diagnostic {diagnostic}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn gratuitous_arp_claims_address() {
        let frame = parse(&bytes(
            "ffffffffffff 02000000010b 0806 0001 0800 06 04 0001 \
             02000000010b c00002c8 000000000000 c00002c8",
        ))
        .unwrap();
        let ip = "192.0.2.200".parse().unwrap();
        assert!(frame.message.claims(ip) && !frame.message.asks_for(ip), "{frame}");
        assert_eq!(
            frame.to_string(),
            "02:00:00:00:01:0b > ff:ff:ff:ff:ff:ff ARP announcement of 192.0.2.200"
        );
    }

    #[test]
    fn request_asks_for_target_and_claims_nothing() {
        let own = crate::addresses::client();
        for target in ["192.0.2.200", "2001:db8:1::200"] {
            let target: IpAddr = target.parse().unwrap();
            let frame = parse(&request(Mac([2, 0, 0, 0, 1, 100]), own, target)).unwrap();
            assert!(frame.message.asks_for(target) && !frame.message.claims(target), "{frame}");
        }
    }

    #[test]
    fn neighbor_advertisement_flags_are_parsed() {
        let frame = parse(&bytes(
            "333300000001 02000000010b 86dd 60000000 0020 3a ff \
             20010db8000100000000000000000011 ff020000000000000000000000000001 \
             88 00 0000 20000000 20010db8000100000000000000000200 02 01 02000000010b",
        ))
        .unwrap();
        let text = frame.to_string();
        assert!(
            text.ends_with("NDP 2001:db8:1::200 is at 02:00:00:00:01:0b, to ff02::1 unsolicited override"),
            "{text}"
        );
    }

    #[test]
    fn messages_of_one_segment_are_separated() {
        let marker = "ff".repeat(16);
        let tcp =
            format!("c000 00b3 00000000 00000000 5018 ffff 0000 0000 {marker}0013 04 {marker}0015 03 0602");
        let total = 20 + bytes(&tcp).len();
        let frame = parse(&bytes(&format!(
            "020000000101 02000000010b 0800 4500 {total:04x} 00000000 4006 0000 c000020b c0000201 {tcp}"
        )))
        .unwrap();
        assert!(
            frame.to_string().ends_with("BGP 192.0.2.11 > 192.0.2.1 KEEPALIVE(0) NOTIFICATION(2)"),
            "{frame}"
        );
    }

    #[test]
    fn bfd_packet_has_state_and_diagnostic() {
        let bfd = "21 48 03 18 00000001 00000002 0000c350 0000c350 00000000";
        let udp = format!("c000 0ec8 0020 0000 {bfd}");
        let frame = parse(&bytes(&format!(
            "020000000101 02000000010b 0800 4500 0034 00000000 ff11 0000 c000020b c0000201 {udp}"
        )))
        .unwrap();
        assert!(frame.to_string().ends_with("BFD 192.0.2.11 > 192.0.2.1 Down diagnostic 1"), "{frame}");
    }

    #[test]
    fn truncated_frame_never_panics() {
        let whole = bytes(
            "333300000001 02000000010b 86dd 60000000 0020 3a ff \
             20010db8000100000000000000000011 ff020000000000000000000000000001 \
             88 00 0000 20000000 20010db8000100000000000000000200 02 01 02000000010b",
        );
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        assert_eq!(parse(&whole[..60]), None);
    }
}
