//! ARP frames (RFC 826): requests in, replies and announcements out.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};

use crate::Mac;

const ETHERNET_HEADER: usize = 14;
const FRAME: usize = ETHERNET_HEADER + 28;
const BROADCAST: Mac = [0xff; 6];

/// A sound ARP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Where the frame was sent to.
    pub(crate) destination: Mac,
    /// Who asks.
    pub(crate) sender_mac: Mac,
    /// Its address; unspecified in a probe (RFC 5227).
    pub(crate) sender: Ipv4Addr,
    /// The address asked for.
    pub(crate) target: Ipv4Addr,
}

/// What a received frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A request.
    Request(Request),
    /// ARP, but another operation.
    Other,
    /// Not ARP for IPv4 over Ethernet, or truncated, or from a sender that cannot be.
    Malformed,
}

pub(crate) fn parse(bytes: &[u8]) -> Frame {
    let Some(ethernet) = EthernetPacket::new(bytes) else { return Frame::Malformed };
    if ethernet.get_ethertype() != EtherTypes::Arp {
        return Frame::Malformed;
    }
    let Some(arp) = ArpPacket::new(ethernet.payload()) else { return Frame::Malformed };
    // The fixed offsets below hold only for these types and lengths.
    if arp.get_hardware_type() != ArpHardwareTypes::Ethernet
        || arp.get_protocol_type() != EtherTypes::Ipv4
        || arp.get_hw_addr_len() != 6
        || arp.get_proto_addr_len() != 4
    {
        return Frame::Malformed;
    }
    if arp.get_operation() != ArpOperations::Request {
        return Frame::Other;
    }
    let sender_mac = arp.get_sender_hw_addr().octets();
    // RFC 1812 section 3.3.2: a broadcast or multicast hardware address is no sender's.
    if sender_mac[0] & 1 != 0 || sender_mac == [0; 6] {
        return Frame::Malformed;
    }
    Frame::Request(Request {
        destination: ethernet.get_destination().octets(),
        sender_mac,
        sender: arp.get_sender_proto_addr(),
        target: arp.get_target_proto_addr(),
    })
}

impl Request {
    /// Sent to everybody, or to this address.
    pub(crate) fn is_for(&self, mac: Mac) -> bool {
        self.destination == BROADCAST || self.destination == mac
    }

    /// The reply that says the target is at `mac`.
    pub(crate) fn reply(&self, mac: Mac) -> Vec<u8> {
        frame(self.sender_mac, ArpOperations::Reply, (mac, self.target), (self.sender_mac, self.sender))
    }
}

/// A gratuitous announcement in both its forms, since hosts differ in which one they heed (RFC 5227 section
/// 3).
pub(crate) fn gratuitous(mac: Mac, address: Ipv4Addr) -> [Vec<u8>; 2] {
    [
        frame(BROADCAST, ArpOperations::Request, (mac, address), ([0; 6], address)),
        frame(BROADCAST, ArpOperations::Reply, (mac, address), (BROADCAST, address)),
    ]
}

fn frame(to: Mac, operation: ArpOperation, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut bytes = vec![0; FRAME];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut bytes) {
        ethernet.set_destination(mac_addr(to));
        ethernet.set_source(mac_addr(sender.0));
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    if let Some(mut arp) = MutableArpPacket::new(&mut bytes[ETHERNET_HEADER..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(operation);
        arp.set_sender_hw_addr(mac_addr(sender.0));
        arp.set_sender_proto_addr(sender.1);
        arp.set_target_hw_addr(mac_addr(target.0));
        arp.set_target_proto_addr(target.1);
    }
    bytes
}

fn mac_addr([a, b, c, d, e, f]: Mac) -> MacAddr {
    MacAddr::new(a, b, c, d, e, f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [0x02, 0, 0, 0, 0, 0x01];
    const THEIRS: Mac = [0x02, 0, 0, 0, 0, 0xaa];

    /// A broadcast request of 192.0.2.9 for 192.0.2.1, byte by byte.
    const REQUEST: [u8; FRAME] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0xaa, 0x08, 0x06, // Ethernet
        0, 1, 0x08, 0, 6, 4, 0, 1, // Ethernet, IPv4, lengths, request
        0x02, 0, 0, 0, 0, 0xaa, 192, 0, 2, 9, // sender
        0, 0, 0, 0, 0, 0, 192, 0, 2, 1, // target
    ];

    fn with(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = REQUEST.to_vec();
        for (at, value) in changes {
            bytes[*at] = *value;
        }
        bytes
    }

    #[test]
    fn a_request_is_read() {
        let expected = Request {
            destination: BROADCAST,
            sender_mac: THEIRS,
            sender: Ipv4Addr::new(192, 0, 2, 9),
            target: Ipv4Addr::new(192, 0, 2, 1),
        };
        assert_eq!(parse(&REQUEST), Frame::Request(expected));
        let padded = [&REQUEST[..], &[0; 18]].concat();
        assert_eq!(parse(&padded), Frame::Request(expected), "Ethernet pads to 60 bytes");
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        let table: [(&str, Vec<u8>, Frame); 9] = [
            ("reply", with(&[(21, 2)]), Frame::Other),
            ("InARP request", with(&[(21, 8)]), Frame::Other),
            ("IPv4 frame", with(&[(13, 0)]), Frame::Malformed),
            ("VLAN tag", with(&[(12, 0x81), (13, 0)]), Frame::Malformed),
            ("hardware type 6", with(&[(15, 6)]), Frame::Malformed),
            ("protocol type IPv6", with(&[(16, 0x86), (17, 0xdd)]), Frame::Malformed),
            ("hardware length 8", with(&[(18, 8)]), Frame::Malformed),
            ("protocol length 16", with(&[(19, 16)]), Frame::Malformed),
            ("broadcast sender", with(&[(22, 0xff)]), Frame::Malformed),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(parse(&bytes), expected, "{name}");
        }
        for len in 0..FRAME {
            assert_eq!(parse(&REQUEST[..len]), Frame::Malformed, "cut to {len}");
        }
    }

    #[test]
    fn a_reply_swaps_sender_and_target() {
        let Frame::Request(request) = parse(&REQUEST) else { panic!("no request") };
        let expected = [
            0x02, 0, 0, 0, 0, 0xaa, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x06, // Ethernet
            0, 1, 0x08, 0, 6, 4, 0, 2, // reply
            0x02, 0, 0, 0, 0, 0x01, 192, 0, 2, 1, // sender: the target asked for, at our address
            0x02, 0, 0, 0, 0, 0xaa, 192, 0, 2, 9, // target: who asked
        ];
        assert_eq!(request.reply(OURS), expected);
    }

    #[test]
    fn gratuitous_announcements_name_the_address_twice() {
        let [request, reply] = gratuitous(OURS, Ipv4Addr::new(192, 0, 2, 1));
        for (frame, operation) in [(&request, 1), (&reply, 2)] {
            assert_eq!(frame[..6], [0xff; 6], "to everybody");
            assert_eq!(frame[6..12], OURS);
            assert_eq!(frame[20..22], [0, operation]);
            assert_eq!(frame[22..28], OURS);
            assert_eq!(frame[28..32], [192, 0, 2, 1]);
            assert_eq!(frame[38..42], [192, 0, 2, 1]);
        }
    }
}
