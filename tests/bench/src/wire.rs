//! Counts the packets of an interface by purpose.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use fairlead_lab::addresses::API_PORT;
use fairlead_lab::frame::{self, Message};
use fairlead_lab::netns::Netns;
use fairlead_lab::sys;

/// The mesh's default port.
const MESH_PORT: u16 = 7947;
const BGP_PORT: u16 = 179;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Type and code of echo requests and replies (RFC 792).
const ECHO: [u16; 2] = [0x0800, 0x0000];
/// Type and code of echo requests and replies (RFC 4443 section 4).
const ECHO_V6: [u16; 2] = [0x8000, 0x8100];

/// Purpose of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// A segment that contains only BGP KEEPALIVEs.
    BgpKeepalive,
    /// A segment that contains any other BGP message.
    BgpOther,
    /// An acknowledgement of a BGP connection.
    BgpAck,
    /// A datagram between speakers.
    Mesh,
    /// An ICMP echo request or reply between nodes.
    Echo,
    /// To or from the API server.
    Api,
    /// Gratuitous ARP or unsolicited neighbor advertisement.
    Announcement,
    /// Other ARP or neighbor discovery.
    Neighbor,
    /// Anything else.
    Other,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BgpKeepalive => "BGP KEEPALIVE",
            Self::BgpOther => "other BGP messages",
            Self::BgpAck => "TCP acknowledgements of BGP",
            Self::Mesh => "mesh",
            Self::Echo => "ICMP echo",
            Self::Api => "API server",
            Self::Announcement => "gratuitous ARP and NDP",
            Self::Neighbor => "other ARP and NDP, sent by kernels",
            Self::Other => "other",
        })
    }
}

/// Packets by purpose.
pub(crate) type Counts = BTreeMap<Purpose, u64>;

/// A running count.
#[derive(Debug)]
pub(crate) struct Counter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Counts>,
}

impl Counter {
    /// Counts what `interface` sends and receives inside `netns`.
    ///
    /// # Errors
    /// If the socket cannot be opened.
    pub(crate) fn start(netns: &Netns, interface: &str) -> Result<Self> {
        let mut socket = netns.run(|| sys::packet_socket(interface))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut counts = Counts::new();
            let mut buffer = vec![0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut buffer) else { continue };
                *counts.entry(purpose(&buffer[..length])).or_default() += 1;
            }
            counts
        });
        Ok(Self { stop, thread })
    }

    /// Stops and returns the counts.
    ///
    /// # Errors
    /// If counting failed.
    pub(crate) fn stop(self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the counting thread panicked"))
    }
}

fn purpose(bytes: &[u8]) -> Purpose {
    match frame::parse(bytes).map(|frame| frame.message) {
        Some(Message::Bgp { messages, .. }) => {
            if messages.iter().all(|message| message.kind == 4) {
                Purpose::BgpKeepalive
            } else {
                Purpose::BgpOther
            }
        }
        Some(Message::Arp { sender_ip, target_ip, .. }) if sender_ip == target_ip => Purpose::Announcement,
        Some(Message::NeighborAdvertisement { solicited: false, .. }) => Purpose::Announcement,
        Some(Message::Bfd { .. }) => Purpose::Other,
        Some(_) => Purpose::Neighbor,
        None => match ports(bytes) {
            Some((17, ports)) if ports.contains(&MESH_PORT) => Purpose::Mesh,
            Some((6, ports)) if ports.contains(&API_PORT) => Purpose::Api,
            Some((6, ports)) if ports.contains(&BGP_PORT) => Purpose::BgpAck,
            Some((ICMP, [type_and_code, _])) if ECHO.contains(&type_and_code) => Purpose::Echo,
            Some((ICMPV6, [type_and_code, _])) if ECHO_V6.contains(&type_and_code) => Purpose::Echo,
            _ => Purpose::Other,
        },
    }
}

/// Returns the transport protocol of an Ethernet frame that carries an IP packet, and the first four octets
/// of its header: the ports, or the type, code and checksum of an ICMP message.
fn ports(bytes: &[u8]) -> Option<(u8, [u16; 2])> {
    let (header, packet) = bytes.split_at_checked(14)?;
    let (protocol, transport) = match header[12..] {
        [0x08, 0x00] => (*packet.get(9)?, packet.get(usize::from(packet.first()? & 0x0f) * 4..)?),
        [0x86, 0xdd] => (*packet.get(6)?, packet.get(40..)?),
        _ => return None,
    };
    let port = |i: usize| Some(u16::from_be_bytes(transport.get(i..i + 2)?.try_into().ok()?));
    Some((protocol, [port(0)?, port(2)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, ports: [u16; 2], transport: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + 4 + transport.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([192, 0, 2, 11, 192, 0, 2, 1]);
        ports.iter().for_each(|port| packet.extend(port.to_be_bytes()));
        packet.extend(transport);
        [&[2; 12][..], &[8, 0], &packet].concat()
    }

    /// Returns the rest of a TCP header after the ports, followed by BGP messages of these types.
    fn bgp(kinds: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0];
        for kind in kinds {
            bytes.extend([0xff; 16]);
            bytes.extend([0, 19, *kind]);
        }
        bytes
    }

    fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        [&[2; 12][..], &header, &[2; 6], &sender, &[0; 6], &target].concat()
    }

    #[test]
    fn packets_are_classified_by_purpose() {
        for (frame, expected) in [
            (ipv4(6, [40000, 179], &bgp(&[4])), Purpose::BgpKeepalive),
            (ipv4(6, [40000, 179], &bgp(&[4, 2])), Purpose::BgpOther),
            (ipv4(6, [179, 40000], &bgp(&[])), Purpose::BgpAck),
            (ipv4(6, [40000, 6443], &bgp(&[])), Purpose::Api),
            (ipv4(17, [7947, 7947], &[0; 4]), Purpose::Mesh),
            (ipv4(17, [53, 53], &[0; 4]), Purpose::Other),
            (ipv4(1, [0x0800, 0xf7ff], &[0; 4]), Purpose::Echo),
            (ipv4(1, [0x0303, 0xfcfc], &[0; 4]), Purpose::Other),
            (arp([192, 0, 2, 200], [192, 0, 2, 200]), Purpose::Announcement),
            (arp([192, 0, 2, 1], [192, 0, 2, 200]), Purpose::Neighbor),
            (vec![0; 3], Purpose::Other),
        ] {
            assert_eq!(purpose(&frame), expected, "{frame:02x?}");
        }
    }
}
