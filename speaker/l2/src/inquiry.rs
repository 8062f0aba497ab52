//! Asks the hosts on the link for their Ethernet addresses, to find out whether they are there: every kernel
//! answers ARP (RFC 826) and Neighbor Discovery (RFC 4861) for the addresses of its interfaces.

use std::net::{IpAddr, Ipv6Addr};

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpOperations, ArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNeighborSolicitPacket, NdpOption, NdpOptionTypes, NeighborAdvertPacket,
};
use pnet_packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types, MutableIcmpv6Packet};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use crate::ndp::solicited_node;
use crate::{Mac, arp};

const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
/// Length of a neighbor solicitation with one option of 8 octets.
const SOLICITATION: usize = 24 + 8;

/// Returns the Ethernet frame that asks for `target`, from a host with the addresses `mac` and `own`; `None`
/// if the families differ.
pub fn inquiry(mac: Mac, own: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    match (own, target) {
        (IpAddr::V4(own), IpAddr::V4(target)) => Some(arp::request(mac, own, target)),
        (IpAddr::V6(own), IpAddr::V6(target)) => solicitation(mac, own, target),
        _ => None,
    }
}

/// Returns the address for which an Ethernet frame answers an inquiry of the host with this `mac`; `None` if
/// it is no answer to this host.
pub fn answered(mac: Mac, frame: &[u8]) -> Option<IpAddr> {
    let ethernet = EthernetPacket::new(frame)?;
    if ethernet.get_destination().octets() != mac {
        return None;
    }
    match ethernet.get_ethertype() {
        EtherTypes::Arp => {
            let arp = ArpPacket::new(ethernet.payload())?;
            // The offsets of the fields below hold only for these types and lengths.
            let reply = arp.get_protocol_type() == EtherTypes::Ipv4
                && arp.get_hw_addr_len() == 6
                && arp.get_proto_addr_len() == 4
                && arp.get_operation() == ArpOperations::Reply
                && arp.get_target_hw_addr().octets() == mac;
            reply.then(|| arp.get_sender_proto_addr().into())
        }
        EtherTypes::Ipv6 => {
            let packet = Ipv6Packet::new(ethernet.payload())?;
            if packet.get_next_header() != IpNextHeaderProtocols::Icmpv6 || packet.get_hop_limit() != 255 {
                return None;
            }
            let message = packet.payload();
            let checksum = icmpv6::checksum(
                &Icmpv6Packet::new(message)?,
                &packet.get_source(),
                &packet.get_destination(),
            );
            let advertisement = NeighborAdvertPacket::new(message)?;
            let valid = advertisement.get_icmpv6_type() == Icmpv6Types::NeighborAdvert
                && advertisement.get_checksum() == checksum;
            valid.then(|| advertisement.get_target_addr().into())
        }
        _ => None,
    }
}

fn solicitation(mac: Mac, own: Ipv6Addr, target: Ipv6Addr) -> Option<Vec<u8>> {
    let group = solicited_node(target);
    let [.., a, b, c, d] = group.octets();
    let [f, g, h, i, j, k] = mac;
    let mut bytes = vec![0; ETHERNET_HEADER + IPV6_HEADER + SOLICITATION];
    let mut ethernet = MutableEthernetPacket::new(&mut bytes)?;
    // RFC 2464 section 7.
    ethernet.set_destination(MacAddr::new(0x33, 0x33, a, b, c, d));
    ethernet.set_source(MacAddr::new(f, g, h, i, j, k));
    ethernet.set_ethertype(EtherTypes::Ipv6);
    let mut packet = MutableIpv6Packet::new(bytes.get_mut(ETHERNET_HEADER..)?)?;
    packet.set_version(6);
    packet.set_payload_length(SOLICITATION as u16);
    packet.set_next_header(IpNextHeaderProtocols::Icmpv6);
    packet.set_hop_limit(255);
    packet.set_source(own);
    packet.set_destination(group);
    let message = bytes.get_mut(ETHERNET_HEADER + IPV6_HEADER..)?;
    let mut solicit = MutableNeighborSolicitPacket::new(message)?;
    solicit.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
    solicit.set_target_addr(target);
    solicit.set_options(&[NdpOption {
        option_type: NdpOptionTypes::SourceLLAddr,
        length: 1,
        data: mac.to_vec(),
    }]);
    let checksum = icmpv6::checksum(&Icmpv6Packet::new(message)?, &own, &group);
    MutableIcmpv6Packet::new(message)?.set_checksum(checksum);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NdpPacket;
    use crate::ndp;

    const OURS: Mac = [0x02, 0, 0, 0, 0, 0x01];
    const THEIRS: Mac = [0x02, 0, 0, 0, 0, 0xaa];

    /// A neighbor advertisement of 2001:db8::1 to fe80::1, solicited, from another host.
    fn advertisement() -> Vec<u8> {
        let (from, to): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap());
        let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend(from.octets());
        message.extend([2, 1, 0x02, 0, 0, 0, 0, 0xaa]);
        let checksum = icmpv6::checksum(&Icmpv6Packet::new(&message).unwrap(), &from, &to);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let header = [0x60, 0, 0, 0, 0, 32, 58, 255];
        [&OURS[..], &THEIRS, &[0x86, 0xdd], &header, &from.octets(), &to.octets(), &message].concat()
    }

    fn reply() -> Vec<u8> {
        let header = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2];
        [&OURS[..], &THEIRS, &header, &THEIRS, &[192, 0, 2, 1], &OURS, &[192, 0, 2, 9]].concat()
    }

    #[test]
    fn inquiry_is_understood_by_own_parsers() {
        let frame = inquiry(OURS, [192, 0, 2, 9].into(), [192, 0, 2, 1].into()).unwrap();
        let request = arp::parse(&frame).unwrap();
        assert_eq!(
            (request.sender_mac, request.sender, request.target),
            (OURS, [192, 0, 2, 9].into(), [192, 0, 2, 1].into())
        );
        assert!(request.is_for(THEIRS), "broadcast");

        let (own, target) = ("2001:db8::9".parse().unwrap(), "2001:db8::1:2345".parse().unwrap());
        let frame = inquiry(OURS, IpAddr::V6(own), IpAddr::V6(target)).unwrap();
        assert_eq!(frame[..14], [0x33, 0x33, 0xff, 1, 0x23, 0x45, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        let message = &frame[54..];
        let packet =
            NdpPacket { source: own, destination: Some(solicited_node(target)), hop_limit: 255, message };
        let solicitation = ndp::parse(&packet).unwrap();
        assert_eq!((solicitation.target, solicitation.source_mac), (target, Some(OURS)));
        assert_eq!(inquiry(OURS, IpAddr::V6(own), [192, 0, 2, 1].into()), None);
    }

    #[test]
    fn answer_must_be_complete_and_to_this_host() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        for (name, frame, address) in [("ARP", reply(), [192, 0, 2, 1].into()), ("NDP", advertisement(), v6)]
        {
            assert_eq!(answered(OURS, &frame), Some(address), "{name}");
            assert_eq!(answered(THEIRS, &frame), None, "{name} to another host");
            for length in 0..frame.len() {
                assert_eq!(answered(OURS, &frame[..length]), None, "{name}, truncated to {length} octets");
            }
        }
        let mut request = reply();
        request[21] = 1;
        assert_eq!(answered(OURS, &request), None, "an ARP request");
        for octet in 54..advertisement().len() {
            let mut damaged = advertisement();
            damaged[octet] ^= 0x10;
            assert_eq!(answered(OURS, &damaged), None, "octet {octet} of the advertisement damaged");
        }
    }
}
