//! Pairs of bytes and messages, encoded and decoded.

use std::net::Ipv4Addr;

use fairlead_bgp::message::as_path::{AsPath, Segment, SegmentType};
use fairlead_bgp::message::attribute::{MpNextHop, MpReach, MpUnreach, PathAttributes};
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::framer::Framer;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::message::{DecodeContext, Message, encode_keepalive};
use fairlead_bgp::{
    CeaseSubcode, Community, ExtendedCommunity, Family, LargeCommunity, Notification, Origin,
};

use crate::harness::*;

const FOUR_OCTETS: DecodeContext =
    DecodeContext { four_octet_as: true, ebgp: false, enhanced_route_refresh: true };
const TWO_OCTETS: DecodeContext =
    DecodeContext { four_octet_as: false, ebgp: false, enhanced_route_refresh: false };

fn decode(bytes: &[u8], context: DecodeContext) -> Message {
    decode_all(bytes, context).pop().unwrap()
}

#[test]
fn open_encodes_and_decodes() {
    let open = |capabilities| Open {
        my_as: 64512,
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        capabilities,
    };
    let table = [
        ("no capabilities (RFC 4271)", "001d 01 04 fc00 005a c0000201 00", open(vec![])),
        (
            "multiprotocol, route refresh, four-octet AS (RFC 4760, 2918, 6793)",
            "0033 01 04 fc00 005a c0000201 16
             02 14 0104 0001 0001  0104 0002 0001  0200  4104 0000fc00",
            open(vec![
                Capability::multi_protocol(Family::Ipv4Unicast),
                Capability::multi_protocol(Family::Ipv6Unicast),
                Capability::RouteRefresh,
                Capability::FourOctetAs(64512),
            ]),
        ),
        (
            "extended next hop, extended messages, graceful restart (RFC 8950, 8654, 4724)",
            "0035 01 04 fc00 005a c0000201 18
             02 16 0506 0001 0001 0002  0600  400a 8078 0001 01 80 0002 01 00",
            open(vec![
                Capability::ExtendedNextHop(vec![(1, 1, 2)]),
                Capability::ExtendedMessage,
                Capability::GracefulRestart(GracefulRestart {
                    restarting: true,
                    notification: false,
                    time: 120,
                    families: vec![(1, 1, true), (2, 1, false)],
                }),
            ]),
        ),
        (
            "unknown capability",
            "0024 01 04 fc00 005a c0000201 07 02 05 ef03 616263",
            open(vec![Capability::Unknown { code: 0xef, value: b"abc".to_vec() }]),
        ),
    ];
    for (name, text, open) in table {
        let bytes = hex(&format!("{} {text}", "ff".repeat(16)));
        assert_eq!(decode(&bytes, FOUR_OCTETS), Message::Open(open.clone()), "{name}");
        let mut encoded = Vec::new();
        open.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{name}");
    }
}

#[test]
fn open_in_alternative_encodings_decodes() {
    let expected = Open {
        my_as: 64512,
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: vec![Capability::RouteRefresh, Capability::ExtendedMessage],
    };
    for (name, text) in [
        ("one parameter per capability", "0025 01 04 fc00 005a c0000201 08 0202 0200 0202 0600"),
        ("extended parameters (RFC 9072)", "0027 01 04 fc00 005a c0000201 ff ff 0007 02 0004 0200 0600"),
        (
            "extended parameters whose first length is not 255 (RFC 9072)",
            "0027 01 04 fc00 005a c0000201 0a ff 0007 02 0004 0200 0600",
        ),
    ] {
        let bytes = hex(&format!("{} {text}", "ff".repeat(16)));
        assert_eq!(decode(&bytes, FOUR_OCTETS), Message::Open(expected.clone()), "{name}");
    }
}

#[test]
fn many_capabilities_use_extended_parameters() {
    let capabilities: Vec<_> =
        (0..10).map(|code| Capability::Unknown { code: 200 + code, value: vec![code; 100] }).collect();
    let open = Open { capabilities, ..peer_open() };
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    assert_eq!(decode(&bytes, FOUR_OCTETS), Message::Open(open));
}

#[test]
fn update_encodes_and_decodes() {
    let sequence = |asns: &[u32]| AsPath {
        segments: vec![Segment { kind: SegmentType::Sequence, asns: asns.to_vec() }],
    };
    let base =
        PathAttributes { origin: Some(Origin::Igp), as_path: Some(sequence(&[64512])), ..Default::default() };
    let v6 = "2001:db8::1".parse().unwrap();
    let link_local = "fe80::1".parse().unwrap();
    let table = [
        (
            "End-of-RIB of IPv4 unicast (RFC 4724 §2)",
            FOUR_OCTETS,
            "0017 02 0000 0000",
            Update::end_of_rib(Family::Ipv4Unicast),
        ),
        (
            "End-of-RIB of IPv6 unicast (RFC 4724 §2)",
            FOUR_OCTETS,
            "001e 02 0000 0007 900f 0003 0002 01",
            Update::end_of_rib(Family::Ipv6Unicast),
        ),
        (
            "IPv4 withdrawal",
            FOUR_OCTETS,
            "0020 02 0009 20 c0000201 18 c00003 0000",
            Update { withdrawn: vec![net("192.0.2.1/32"), net("192.0.3.0/24")], ..Update::default() },
        ),
        (
            "IPv4 routes to an eBGP peer",
            FOUR_OCTETS,
            "003a 02 0000 001b
             4001 01 00  4002 06 02 01 0000fc00  4003 04 c0000201
             8004 04 0000000a
             20 cb007101 00 07 c8",
            Update {
                attributes: PathAttributes {
                    next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
                    med: Some(10),
                    ..base.clone()
                },
                nlri: vec![net("203.0.113.1/32"), net("0.0.0.0/0"), net("200.0.0.0/7")],
                ..Update::default()
            },
        ),
        (
            "IPv4 route to an iBGP peer, with communities",
            FOUR_OCTETS,
            "004b 02 0000 002f
             4001 01 02  4002 00  4003 04 c0000201  4005 04 00000064
             c008 08 fc000001 ffff0000
             c020 0c 0000fc00 00000001 00000002
             20 cb007101",
            Update {
                attributes: PathAttributes {
                    origin: Some(Origin::Incomplete),
                    as_path: Some(AsPath::default()),
                    next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
                    local_pref: Some(100),
                    communities: vec![Community(64512, 1), Community::GRACEFUL_SHUTDOWN],
                    large_communities: vec![LargeCommunity(64512, 1, 2)],
                    ..PathAttributes::default()
                },
                nlri: vec![net("203.0.113.1/32")],
                ..Update::default()
            },
        ),
        (
            "IPv4 route to an eBGP peer, with prepending, extended communities and AGGREGATOR",
            FOUR_OCTETS,
            "0066 02 0000 004a
             4001 01 00  4002 0e 02 03 0000fc00 0000fc00 0000fc00  4003 04 c0000201
             c007 08 0000fc00 0a000001
             c010 20 0002fc0000000064 0203fa56ea010007 0102c00002010001 4004fc004cee6b28
             20 cb007101",
            Update {
                attributes: PathAttributes {
                    as_path: Some(sequence(&[64512; 3])),
                    next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
                    aggregator: Some((64512, Ipv4Addr::new(10, 0, 0, 1))),
                    extended_communities: vec![
                        // rt:64512:100, soo:4200000001:7, rt:192.0.2.1:1, 1000 Mbit/s
                        ExtendedCommunity([0, 2, 0xfc, 0, 0, 0, 0, 100]),
                        ExtendedCommunity([2, 3, 0xfa, 0x56, 0xea, 1, 0, 7]),
                        ExtendedCommunity([1, 2, 192, 0, 2, 1, 0, 1]),
                        ExtendedCommunity::link_bandwidth(64512, 125_000_000.0, false),
                    ],
                    ..base.clone()
                },
                nlri: vec![net("203.0.113.1/32")],
                ..Update::default()
            },
        ),
        (
            "IPv4 route to a peer with two-octet AS numbers (RFC 6793 §4.2.2)",
            TWO_OCTETS,
            "0037 02 0000 001b
             4001 01 00  4002 04 02 01 5ba0  4003 04 c0000201
             c011 06 02 01 fa56ea01
             20 cb007101",
            Update {
                attributes: PathAttributes {
                    origin: Some(Origin::Igp),
                    as_path: Some(sequence(&[23456])),
                    next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
                    as4_path: Some(sequence(&[4_200_000_001])),
                    ..PathAttributes::default()
                },
                nlri: vec![net("203.0.113.1/32")],
                ..Update::default()
            },
        ),
        (
            "IPv6 route, global next hop (RFC 2545)",
            FOUR_OCTETS,
            "004f 02 0000 0038
             900e 0027 0002 01 10 20010db8000000000000000000000001 00
                80 20010db8000100000000000000000005 00
             4001 01 00  4002 06 02 01 0000fc00",
            Update {
                attributes: PathAttributes {
                    mp_reach: Some(MpReach {
                        family: Family::Ipv6Unicast,
                        next_hop: MpNextHop::V6(v6),
                        nlri: vec![net("2001:db8:1::5/128"), net("::/0")],
                    }),
                    ..base.clone()
                },
                ..Update::default()
            },
        ),
        (
            "IPv6 route, global and link-local next hop (RFC 2545 §3)",
            FOUR_OCTETS,
            "0055 02 0000 003e
             900e 002d 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
                38 20010db8000100
             4001 01 00  4002 06 02 01 0000fc00",
            Update {
                attributes: PathAttributes {
                    mp_reach: Some(MpReach {
                        family: Family::Ipv6Unicast,
                        next_hop: MpNextHop::V6WithLinkLocal(v6, link_local),
                        nlri: vec![net("2001:db8:1::/56")],
                    }),
                    ..base.clone()
                },
                ..Update::default()
            },
        ),
        (
            "IPv4 route, IPv6 next hop (RFC 8950 §3)",
            FOUR_OCTETS,
            "0042 02 0000 002b
             900e 001a 0001 01 10 20010db8000000000000000000000001 00
                20 cb007101
             4001 01 00  4002 06 02 01 0000fc00",
            Update {
                attributes: PathAttributes {
                    mp_reach: Some(MpReach {
                        family: Family::Ipv4Unicast,
                        next_hop: MpNextHop::V6(v6),
                        nlri: vec![net("203.0.113.1/32")],
                    }),
                    ..base.clone()
                },
                ..Update::default()
            },
        ),
        (
            "IPv6 withdrawal (RFC 4760 §4)",
            FOUR_OCTETS,
            "0025 02 0000 000e 900f 000a 0002 01 30 20010db80001",
            Update {
                attributes: PathAttributes {
                    mp_unreach: Some(MpUnreach {
                        family: Family::Ipv6Unicast,
                        withdrawn: vec![net("2001:db8:1::/48")],
                    }),
                    ..PathAttributes::default()
                },
                ..Update::default()
            },
        ),
    ];
    for (name, context, text, update) in table {
        let bytes = hex(&format!("{} {text}", "ff".repeat(16)));
        let mut encoded = Vec::new();
        update.encode(context.four_octet_as, &mut encoded);
        assert_eq!(encoded, bytes, "{name}");
        let Message::Update(decoded) = decode(&bytes, context) else { panic!("{name}") };
        assert_eq!((decoded.update, decoded.errors), (update, vec![]), "{name}");
    }
}

#[test]
fn prefix_host_bits_are_cleared() {
    let bytes = message(2, &hex("0002 01ff 0000"));
    let Message::Update(decoded) = decode(&bytes, FOUR_OCTETS) else { panic!() };
    assert_eq!(decoded.update.withdrawn, [net("128.0.0.0/1")]);
}

#[test]
fn as_path_longer_than_a_segment_is_split() {
    let asns: Vec<u32> = (1..=600).collect();
    let path = AsPath { segments: vec![Segment { kind: SegmentType::Sequence, asns: asns.clone() }] };
    let mut bytes = Vec::new();
    path.encode(true, &mut bytes);
    let decoded = AsPath::decode(true, &bytes).unwrap();
    assert_eq!(decoded.segments.iter().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [255, 255, 90]);
    assert_eq!(decoded.segments.into_iter().flat_map(|segment| segment.asns).collect::<Vec<_>>(), asns);
}

#[test]
fn notification_encodes_decodes_and_displays() {
    let long = "ä".repeat(200);
    let table = [
        (Notification { code: 4, subcode: 0, data: vec![] }, "0015 03 0400", "4/0 (Hold Timer Expired)"),
        (
            Notification { code: 2, subcode: 1, data: vec![0, 4] },
            "0017 03 0201 0004",
            "2/1 (OPEN Message Error: Unsupported Version Number)",
        ),
        (
            Notification::cease(CeaseSubcode::AdministrativeShutdown, "bye"),
            "0019 03 0602 03 627965",
            "6/2 (Cease: Administrative Shutdown) \"bye\"",
        ),
        (
            Notification::cease(CeaseSubcode::PeerDeconfigured, "text that this subcode does not carry"),
            "0015 03 0603",
            "6/3 (Cease: Peer De-configured)",
        ),
        (
            Notification::cease(CeaseSubcode::AdministrativeReset, &long),
            &format!("0114 03 0604 fe {}", "c3a4".repeat(127)),
            &format!("6/4 (Cease: Administrative Reset) \"{}\"", "ä".repeat(127)),
        ),
        (Notification { code: 99, subcode: 1, data: vec![] }, "0015 03 6301", "99/1 (Unknown)"),
    ];
    for (notification, text, display) in table {
        let bytes = hex(&format!("{} {text}", "ff".repeat(16)));
        let mut encoded = Vec::new();
        notification.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{display}");
        assert_eq!(decode(&bytes, FOUR_OCTETS), Message::Notification(notification.clone()));
        assert_eq!(notification.to_string(), display);
    }
}

#[test]
fn shutdown_text_control_characters_are_replaced() {
    let text = |data: &[u8]| Notification { code: 6, subcode: 2, data: data.to_vec() }.text();
    assert_eq!(text(b"\x04ab\ncd"), Some("ab\u{fffd}c".to_owned()));
    assert_eq!(text(b"\x02\xff\xfe"), Some("\u{fffd}\u{fffd}".to_owned()));
    for malformed in [&b""[..], b"\x00", b"\x05abc"] {
        assert_eq!(text(malformed), None);
    }
}

#[test]
fn keepalive_and_route_refresh_encode_and_decode() {
    let mut bytes = Vec::new();
    encode_keepalive(&mut bytes);
    assert_eq!(bytes, hex(&format!("{} 0013 04", "ff".repeat(16))));
    let mut bytes = Vec::new();
    RouteRefresh::request(Family::Ipv6Unicast).encode(&mut bytes);
    assert_eq!(bytes, hex(&format!("{} 0017 05 0002 00 01", "ff".repeat(16))));
    let refresh = RouteRefresh { afi: 2, subtype: 0, safi: 1 };
    assert_eq!(decode(&bytes, FOUR_OCTETS), Message::RouteRefresh(refresh));
}

#[test]
fn framer_accepts_chunks_of_any_size() {
    let mut stream = Vec::new();
    encode_keepalive(&mut stream);
    peer_open().encode(&mut stream);
    Update::end_of_rib(Family::Ipv6Unicast).encode(true, &mut stream);
    for size in 1..=stream.len() {
        let mut framer = Framer::default();
        let mut kinds = Vec::new();
        for mut bytes in stream.chunks(size) {
            while let Some(frame) = framer.next(&mut bytes, 4096).unwrap() {
                kinds.push(frame.kind as u8);
            }
            assert!(bytes.is_empty());
        }
        assert_eq!(kinds, [4, 1, 2], "chunks of {size} octets");
    }
}

/// RFC 6793 §4.2.2: a peer with two-octet AS numbers gets those that need four in AS4_AGGREGATOR too.
#[test]
fn aggregator_with_large_as_number_is_sent_twice_to_two_octet_peer() {
    for (asn, four_octet_as, expected) in [
        (4_200_000_001, false, "c007 06 5ba0 0a000001  c012 08 fa56ea01 0a000001"),
        (4_200_000_001, true, "c007 08 fa56ea01 0a000001"),
        (64512, false, "c007 06 fc00 0a000001"),
    ] {
        let attributes = PathAttributes {
            aggregator: Some((asn, Ipv4Addr::new(10, 0, 0, 1))),
            ..PathAttributes::default()
        };
        let mut bytes = Vec::new();
        attributes.encode(four_octet_as, &mut bytes);
        assert_eq!(bytes, hex(expected), "AS {asn}");
    }
}
