//! The ARP frames (RFC 826) that the responder reads and writes.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};

use crate::Mac;

const ETHERNET_HEADER: usize = 14;
const FRAME: usize = ETHERNET_HEADER + 28;
const BROADCAST: Mac = [0xff; 6];

/// A valid ARP request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) operation: Operation,
    /// Destination of the Ethernet frame.
    pub(crate) destination: Mac,
    pub(crate) sender_mac: Mac,
    /// Unspecified in a probe (RFC 5227 section 2.1.1).
    pub(crate) sender: Ipv4Addr,
    /// In a request, the address to resolve.
    pub(crate) target: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Request,
    Reply,
}

/// Reads an Ethernet frame. Returns `None` if it is not a valid ARP request or reply for IPv4 over Ethernet.
pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
    let ethernet = EthernetPacket::new(bytes)?;
    if ethernet.get_ethertype() != EtherTypes::Arp {
        return None;
    }
    let arp = ArpPacket::new(ethernet.payload())?;
    // The offsets of the fields below hold only for these types and lengths.
    if arp.get_hardware_type() != ArpHardwareTypes::Ethernet
        || arp.get_protocol_type() != EtherTypes::Ipv4
        || arp.get_hw_addr_len() != 6
        || arp.get_proto_addr_len() != 4
    {
        return None;
    }
    let operation = match arp.get_operation() {
        ArpOperations::Request => Operation::Request,
        ArpOperations::Reply => Operation::Reply,
        _ => return None,
    };
    let sender_mac = arp.get_sender_hw_addr().octets();
    // RFC 1812 section 3.3.2: a sender cannot have a broadcast or multicast hardware address.
    if sender_mac[0] & 1 != 0 || sender_mac == [0; 6] {
        return None;
    }
    Some(Message {
        operation,
        destination: ethernet.get_destination().octets(),
        sender_mac,
        sender: arp.get_sender_proto_addr(),
        target: arp.get_target_proto_addr(),
    })
}

impl Message {
    /// Returns true if the frame was broadcast or sent to `mac`.
    pub(crate) fn is_for(&self, mac: Mac) -> bool {
        self.destination == BROADCAST || self.destination == mac
    }

    /// Returns true if the message announces the address of its sender (RFC 5227 section 3).
    pub(crate) fn is_gratuitous(&self) -> bool {
        self.sender == self.target
    }

    /// Returns true if a host asks whether another one has the target, before it uses the address itself (RFC
    /// 5227 section 2.1.1).
    pub(crate) fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender.is_unspecified()
    }

    /// Returns the reply to a request, which maps the target to `mac`.
    pub(crate) fn reply(&self, mac: Mac) -> Vec<u8> {
        frame(self.sender_mac, ArpOperations::Reply, (mac, self.target), (self.sender_mac, self.sender))
    }
}

/// Returns the broadcast request of a host for `target`.
pub(crate) fn request(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    frame(BROADCAST, ArpOperations::Request, (mac, own), ([0; 6], target))
}

/// Returns the probe for an address (RFC 5227 section 2.1.1): a request that changes no ARP cache.
pub(crate) fn probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(mac, Ipv4Addr::UNSPECIFIED, address)
}

/// Returns a gratuitous announcement as a request and as a reply, because some hosts accept only one of the
/// two (RFC 5227 section 3).
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

    /// A broadcast request from 192.0.2.9 for 192.0.2.1.
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
    fn parse_returns_valid_message() {
        let expected = Message {
            operation: Operation::Request,
            destination: BROADCAST,
            sender_mac: THEIRS,
            sender: Ipv4Addr::new(192, 0, 2, 9),
            target: Ipv4Addr::new(192, 0, 2, 1),
        };
        assert_eq!(parse(&REQUEST), Some(expected));
        let padded = [&REQUEST[..], &[0; 18]].concat();
        assert_eq!(parse(&padded), Some(expected), "Ethernet pads to 60 bytes");
        let reply = Message { operation: Operation::Reply, ..expected };
        assert_eq!(parse(&with(&[(21, 2)])), Some(reply));
    }

    #[test]
    fn parse_rejects_everything_else() {
        let table: [(&str, Vec<u8>); 9] = [
            ("InARP request", with(&[(21, 8)])),
            ("IPv4 frame", with(&[(13, 0)])),
            ("VLAN tag", with(&[(12, 0x81), (13, 0)])),
            ("hardware type 6", with(&[(15, 6)])),
            ("protocol type IPv6", with(&[(16, 0x86), (17, 0xdd)])),
            ("hardware length 8", with(&[(18, 8)])),
            ("protocol length 16", with(&[(19, 16)])),
            ("broadcast sender", with(&[(22, 0xff)])),
            ("zero sender", with(&[(22, 0), (27, 0)])),
        ];
        for (name, bytes) in table {
            assert_eq!(parse(&bytes), None, "{name}");
        }
        for len in 0..FRAME {
            assert_eq!(parse(&REQUEST[..len]), None, "cut to {len} bytes");
        }
    }

    #[test]
    fn reply_swaps_sender_and_target() {
        let request = parse(&REQUEST).unwrap();
        let expected = [
            0x02, 0, 0, 0, 0, 0xaa, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x06, // Ethernet
            0, 1, 0x08, 0, 6, 4, 0, 2, // reply
            0x02, 0, 0, 0, 0, 0x01, 192, 0, 2, 1, // sender: the requested target, at our MAC
            0x02, 0, 0, 0, 0, 0xaa, 192, 0, 2, 9, // target: the sender of the request
        ];
        assert_eq!(request.reply(OURS), expected);
    }

    #[test]
    fn gratuitous_has_address_as_sender_and_target() {
        let [request, reply] = gratuitous(OURS, Ipv4Addr::new(192, 0, 2, 1));
        for (frame, operation) in [(&request, 1), (&reply, 2)] {
            assert_eq!(frame[..6], [0xff; 6], "broadcast");
            assert_eq!(frame[6..12], OURS);
            assert_eq!(frame[20..22], [0, operation]);
            assert_eq!(frame[22..28], OURS);
            assert_eq!(frame[28..32], [192, 0, 2, 1]);
            assert_eq!(frame[38..42], [192, 0, 2, 1]);
        }
    }
}
