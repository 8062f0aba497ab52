//! The Neighbor Discovery messages (RFC 4861) that the responder reads and writes.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOption, NdpOptionType, NdpOptionTypes, NeighborAdvertFlags,
    NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Types};

use crate::Mac;

/// The multicast group of all nodes on the link, `ff02::1`.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Length of a neighbor advertisement with one option of 8 bytes.
const ADVERTISEMENT: usize = 24 + 8;
/// Length of a neighbor solicitation or advertisement without options: type, code, checksum, reserved or
/// flags, target.
const WITHOUT_OPTIONS: usize = 24;
/// ICMPv6 in the IPv6 header (RFC 4443 section 1).
const ICMPV6: u8 = 58;
/// ICMPv6 type (RFC 4861 section 4.3).
const NEIGHBOR_SOLICITATION: u8 = 135;
/// Type of the nonce option (RFC 3971 section 5.3.2).
const NONCE: u8 = 14;
/// Length of the nonce option of a speaker, in units of 8 octets: 8 octets that differ in each probe, and a
/// link-layer address.
const NONCE_UNITS: usize = 2;

/// A received ICMPv6 message with the fields of its IPv6 header that validation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpPacket<'a> {
    #[allow(missing_docs)]
    pub source: Ipv6Addr,
    /// The IPv6 destination, if the socket reports it.
    pub destination: Option<Ipv6Addr>,
    /// The received hop limit.
    pub hop_limit: u8,
    /// The ICMPv6 message from its type on. The shell has verified the checksum.
    pub message: &'a [u8],
}

/// A neighbor solicitation that passed the validation of RFC 4861 section 7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solicitation {
    /// The address to resolve.
    pub(crate) target: Ipv6Addr,
    /// `None` for duplicate address detection (RFC 4862 section 5.4).
    pub(crate) source: Option<Ipv6Addr>,
    /// Source link-layer address option.
    pub(crate) source_mac: Option<Mac>,
    /// The link-layer address in the nonce of a probe that a speaker sent: see [`probe`].
    pub(crate) prober: Option<Mac>,
}

/// Returns the solicited-node group of an address, `ff02::1:ffXX:XXXX` (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Reads an ICMPv6 message. Returns `None` if it is not a valid neighbor solicitation (RFC 4861 section
/// 7.1.1).
pub(crate) fn parse(packet: &NdpPacket<'_>) -> Option<Solicitation> {
    let solicit = NeighborSolicitPacket::new(packet.message)?;
    let target = solicit.get_target_addr();
    // A hop limit of 255 proves that no router forwarded the packet.
    if solicit.get_icmpv6_type() != Icmpv6Types::NeighborSolicit
        || packet.hop_limit != 255
        || solicit.get_icmpv6_code() != Icmpv6Code(0)
        || target.is_multicast()
        || packet.source.is_multicast()
    {
        return None;
    }
    let source_mac = link_layer_address(NdpOptionTypes::SourceLLAddr, &packet.message[WITHOUT_OPTIONS..])?;
    if !packet.source.is_unspecified() {
        return Some(Solicitation { target, source: Some(packet.source), source_mac, prober: None });
    }
    let to_group = packet.destination.is_none_or(|destination| destination == solicited_node(target));
    let prober = prober(&packet.message[WITHOUT_OPTIONS..]);
    (to_group && source_mac.is_none()).then_some(Solicitation { target, source: None, source_mac, prober })
}

/// Reads an ICMPv6 message. Returns the target of a valid neighbor advertisement (RFC 4861 section 7.1.2)
/// and its link-layer address; `None` if it is not one, or has no target link-layer address option.
pub(crate) fn parse_advertisement(packet: &NdpPacket<'_>) -> Option<(Ipv6Addr, Mac)> {
    let advert = NeighborAdvertPacket::new(packet.message)?;
    let target = advert.get_target_addr();
    let solicited = advert.get_flags() & NeighborAdvertFlags::Solicited != 0;
    if advert.get_icmpv6_type() != Icmpv6Types::NeighborAdvert
        || packet.hop_limit != 255
        || advert.get_icmpv6_code() != Icmpv6Code(0)
        || target.is_multicast()
        || packet.source.is_multicast()
        || packet.source.is_unspecified()
        || solicited && packet.destination.is_some_and(|destination| destination.is_multicast())
    {
        return None;
    }
    let mac = link_layer_address(NdpOptionTypes::TargetLLAddr, &packet.message[WITHOUT_OPTIONS..])??;
    // A host cannot have a multicast link-layer address.
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some((target, mac))
}

/// Returns the first link-layer address option of this type with the length of an Ethernet address, or
/// `Some(None)` if there is no such option. Returns `None` if an option has length zero or exceeds the
/// message.
fn link_layer_address(wanted: NdpOptionType, mut options: &[u8]) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, length, ..] = *options {
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if kind == wanted.0 && found.is_none() && length == 1 {
            found = option.get(2..8).and_then(|mac| Mac::try_from(mac).ok());
        }
        options = &options[option.len()..];
    }
    options.is_empty().then_some(found)
}

/// Returns the link-layer address in the first nonce option that has the length of those of speakers.
fn prober(mut options: &[u8]) -> Option<Mac> {
    while let [kind, length, ..] = *options {
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if kind == NONCE && usize::from(length) == NONCE_UNITS {
            return option.last_chunk().copied();
        }
        options = &options[option.len()..];
    }
    None
}

/// Returns the probe for an address as an Ethernet frame: a neighbor solicitation from the unspecified
/// address (RFC 4862 section 5.4.2) with a nonce (RFC 7527), by which a host recognizes its own one.
///
/// The nonce of a speaker ends with its link-layer address, because such a solicitation has none elsewhere:
/// two speakers may probe one address at the same time.
pub(crate) fn probe(mac: Mac, target: Ipv6Addr, nonce: u64) -> Vec<u8> {
    let group = solicited_node(target);
    let mut message = vec![NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([NONCE, NONCE_UNITS as u8]);
    message.extend(nonce.to_be_bytes());
    message.extend(mac);
    let sum = checksum(Ipv6Addr::UNSPECIFIED, group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c] = group.octets();
    // RFC 2464 section 7.
    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, 255]);
    frame.extend(Ipv6Addr::UNSPECIFIED.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// Returns the checksum of an ICMPv6 message (RFC 4443 section 2.3).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u32 {
        octets
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let mut sum = words(&source.octets()) + words(&destination.octets()) + words(message);
    sum += message.len() as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Solicitation {
    /// Returns the destination and the advertisement that maps the target to `mac` (RFC 4861 section 7.2.4).
    pub(crate) fn reply(&self, mac: Mac) -> (Ipv6Addr, Vec<u8>) {
        match self.source {
            Some(source) => (source, advertisement(self.target, mac, NeighborAdvertFlags::Solicited)),
            None => (ALL_NODES, advertisement(self.target, mac, 0)),
        }
    }
}

/// Returns the unsolicited advertisement of a take-over (RFC 4861 section 7.2.6), to be sent to
/// [`ALL_NODES`].
pub(crate) fn unsolicited(target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    advertisement(target, mac, 0)
}

/// Always sets Override: without it, a neighbor would keep the link-layer address of the previous owner.
/// Never sets Router: the announced address does not forward packets.
fn advertisement(target: Ipv6Addr, mac: Mac, flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; ADVERTISEMENT];
    if let Some(mut advert) = MutableNeighborAdvertPacket::new(&mut bytes) {
        advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advert.set_flags(flags | NeighborAdvertFlags::Override);
        advert.set_target_addr(target);
        advert.set_options(&[NdpOption {
            option_type: NdpOptionTypes::TargetLLAddr,
            length: 1,
            data: mac.to_vec(),
        }]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: Mac = [0x02, 0, 0, 0, 0, 0xaa];

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn solicitation(options: &[u8]) -> Vec<u8> {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(address("2001:db8::1:2345").octets());
        message.extend(options);
        message
    }

    fn packet<'a>(source: &str, message: &'a [u8]) -> NdpPacket<'a> {
        let destination = Some(address("ff02::1:ff01:2345"));
        NdpPacket { source: address(source), destination, hop_limit: 255, message }
    }

    const SLLAO: [u8; 8] = [1, 1, 0x02, 0, 0, 0, 0, 0xaa];
    const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];

    #[test]
    fn solicited_node_has_last_24_bits() {
        for (unicast, group) in [
            ("2001:db8::1:2345", "ff02::1:ff01:2345"),
            ("fe80::ffff:ffff", "ff02::1:ffff:ffff"),
            ("::1", "ff02::1:ff00:1"),
        ] {
            assert_eq!(solicited_node(address(unicast)), address(group), "{unicast}");
        }
    }

    #[test]
    fn parse_returns_valid_solicitation() {
        let target = address("2001:db8::1:2345");
        let source = Some(address("fe80::9"));
        let table = [
            ("with link-layer address", "fe80::9", SLLAO.to_vec(), source, Some(THEIRS)),
            ("unreachability probe without options", "fe80::9", vec![], source, None),
            ("unknown option first", "fe80::9", [NONCE, SLLAO].concat(), source, Some(THEIRS)),
            ("duplicate address detection", "::", vec![], None, None),
            ("enhanced duplicate address detection, RFC 7527", "::", NONCE.to_vec(), None, None),
        ];
        for (name, from, options, source, source_mac) in table {
            let message = solicitation(&options);
            let expected = Solicitation { target, source, source_mac, prober: None };
            assert_eq!(parse(&packet(from, &message)), Some(expected), "{name}");
        }
    }

    #[test]
    fn parse_validates_rfc_4861_section_7_1_1() {
        let good = solicitation(&SLLAO);
        let edit = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let table = [
            ("code 1", "fe80::9", edit(1, 1)),
            ("multicast target", "fe80::9", edit(8, 0xff)),
            ("option of length 0", "fe80::9", edit(25, 0)),
            ("option longer than the message", "fe80::9", edit(25, 2)),
            ("one byte after the options", "fe80::9", [&good[..], &[0]].concat()),
            ("multicast source", "ff02::9", good.clone()),
            ("unspecified source with link-layer address", "::", good.clone()),
        ];
        for (name, from, message) in table {
            assert_eq!(parse(&packet(from, &message)), None, "{name}");
        }
        let routed = NdpPacket { hop_limit: 254, ..packet("fe80::9", &good) };
        assert_eq!(parse(&routed), None, "hop limit 254");
        let plain = solicitation(&[]);
        let unicast = NdpPacket { destination: Some(address("2001:db8::1:2345")), ..packet("::", &plain) };
        assert_eq!(parse(&unicast), None, "unspecified source to a unicast address");
        for len in 0..WITHOUT_OPTIONS {
            assert_eq!(parse(&packet("fe80::9", &good[..len])), None, "cut to {len} bytes");
        }
    }

    #[test]
    fn parse_rejects_other_message_types() {
        for kind in [0, 128, 133, 134, 136, 255] {
            let mut message = solicitation(&[]);
            message[0] = kind;
            assert_eq!(parse(&packet("fe80::9", &message)), None, "type {kind}");
        }
    }

    #[test]
    fn advertisement_bytes_and_destination() {
        let target = address("2001:db8::1");
        let expected = |flags: u8| {
            let mut bytes = vec![136, 0, 0, 0, flags, 0, 0, 0];
            bytes.extend(target.octets());
            bytes.extend([2, 1, 0x02, 0, 0, 0, 0, 0xaa]);
            bytes
        };
        let source = Some(address("fe80::9"));
        let solicited = Solicitation { target, source, source_mac: None, prober: None };
        let detection = Solicitation { source: None, ..solicited };
        assert_eq!(solicited.reply(THEIRS), (address("fe80::9"), expected(0x60)), "Solicited and Override");
        assert_eq!(
            detection.reply(THEIRS),
            (ALL_NODES, expected(0x20)),
            "RFC 4861 section 7.2.4: not Solicited"
        );
        assert_eq!(unsolicited(target, THEIRS), expected(0x20));
    }
}
