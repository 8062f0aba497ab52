//! Comparison of the codec with two independent implementations.
//!
//! `netgauze-bgp-pkt` is compared in both directions: it must decode our messages to the same values and
//! encode these to the same bytes. `zettabgp` only decodes, and only messages that it decodes correctly (its
//! encoder confuses AS_SET and AS_SEQUENCE).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairlead_bgp::message::as_path::{AsPath, Segment, SegmentType};
use fairlead_bgp::message::attribute::{MpNextHop, MpReach, MpUnreach, PathAttributes};
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::message::{DecodeContext, Message};
use fairlead_bgp::{
    CeaseSubcode, Community, ExtendedCommunity, Family, LargeCommunity, Notification, Origin,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::BgpCapability;
use netgauze_bgp_pkt::notification::{BgpNotificationMessage, CeaseError};
use netgauze_bgp_pkt::path_attribute as their;
use netgauze_bgp_pkt::path_attribute::PathAttributeValue;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use crate::harness::*;

fn netgauze(bytes: &[u8], four_octet_as: bool) -> BgpMessage {
    let mut context = BgpParsingContext::asn2_default();
    context.set_asn4(four_octet_as);
    let mut reader = SliceReader::new(bytes);
    let message = BgpMessage::parse(&mut reader, &mut context).unwrap();
    let mut again = Vec::new();
    message.write(&mut again).unwrap();
    assert_eq!(again, bytes, "netgauze encodes the decoded message differently");
    message
}

/// Converts a message of netgauze.
fn update_of(message: &BgpMessage) -> Update {
    let BgpMessage::Update(message) = message else { panic!("{message:?}") };
    let mut attributes = PathAttributes::default();
    for attribute in message.path_attributes() {
        attribute_of(attribute.value(), &mut attributes);
    }
    let nets = |routes: &[netgauze_bgp_pkt::nlri::Ipv4UnicastAddress]| {
        routes.iter().map(|route| IpNet::V4(route.network().address())).collect()
    };
    Update { withdrawn: nets(message.withdraw_routes()), attributes, nlri: nets(message.nlri()) }
}

fn attribute_of(value: &PathAttributeValue, attributes: &mut PathAttributes) {
    match value {
        PathAttributeValue::Origin(origin) => {
            attributes.origin = Some(match origin {
                their::Origin::IGP => Origin::Igp,
                their::Origin::EGP => Origin::Egp,
                their::Origin::Incomplete => Origin::Incomplete,
            });
        }
        PathAttributeValue::AsPath(their::AsPath::As4PathSegments(segments)) => {
            attributes.as_path = Some(path_of(segments));
        }
        PathAttributeValue::AsPath(their::AsPath::As2PathSegments(segments)) => {
            let segment = |segment: &their::As2PathSegment| Segment {
                kind: segment_type_of(segment.segment_type()),
                asns: segment.as_numbers().iter().map(|asn| u32::from(*asn)).collect(),
            };
            attributes.as_path = Some(AsPath { segments: segments.iter().map(segment).collect() });
        }
        PathAttributeValue::As4Path(path) => attributes.as4_path = Some(path_of(path.segments())),
        PathAttributeValue::NextHop(next_hop) => attributes.next_hop = Some(next_hop.next_hop()),
        PathAttributeValue::MultiExitDiscriminator(med) => attributes.med = Some(med.metric()),
        PathAttributeValue::LocalPreference(preference) => attributes.local_pref = Some(preference.metric()),
        PathAttributeValue::AtomicAggregate(_) => attributes.atomic_aggregate = true,
        PathAttributeValue::Aggregator(their::Aggregator::As4Aggregator(aggregator)) => {
            attributes.aggregator = Some((*aggregator.asn(), aggregator.origin()));
        }
        PathAttributeValue::Aggregator(their::Aggregator::As2Aggregator(aggregator)) => {
            attributes.aggregator = Some(((*aggregator.asn()).into(), aggregator.origin()));
        }
        PathAttributeValue::Communities(communities) => {
            attributes.communities = communities
                .communities()
                .iter()
                .map(|community| Community(community.collection_asn(), community.collection_value()))
                .collect();
        }
        PathAttributeValue::ExtendedCommunities(communities) => {
            let octets = |community: &netgauze_bgp_pkt::community::ExtendedCommunity| {
                let mut octets = Vec::new();
                community.write(&mut octets).unwrap();
                ExtendedCommunity(octets.try_into().unwrap())
            };
            attributes.extended_communities = communities.communities().iter().map(octets).collect();
        }
        PathAttributeValue::LargeCommunities(communities) => {
            attributes.large_communities = communities
                .communities()
                .iter()
                .map(|c| LargeCommunity(c.global_admin(), c.local_data1(), c.local_data2()))
                .collect();
        }
        PathAttributeValue::MpReach(their::MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri }) => {
            attributes.mp_reach = Some(MpReach {
                family: Family::Ipv4Unicast,
                next_hop: match (next_hop, next_hop_local) {
                    (IpAddr::V4(address), None) => MpNextHop::V4(*address),
                    (IpAddr::V6(address), None) => MpNextHop::V6(*address),
                    (IpAddr::V6(global), Some(local)) => MpNextHop::V6WithLinkLocal(*global, *local),
                    other => panic!("{other:?}"),
                },
                nlri: nlri.iter().map(|route| IpNet::V4(route.network().address())).collect(),
            });
        }
        PathAttributeValue::MpReach(their::MpReach::Ipv6Unicast {
            next_hop_global,
            next_hop_local,
            nlri,
        }) => {
            attributes.mp_reach = Some(MpReach {
                family: Family::Ipv6Unicast,
                next_hop: match next_hop_local {
                    None => MpNextHop::V6(*next_hop_global),
                    Some(local) => MpNextHop::V6WithLinkLocal(*next_hop_global, *local),
                },
                nlri: nlri.iter().map(|route| IpNet::V6(route.network().address())).collect(),
            });
        }
        PathAttributeValue::MpUnreach(their::MpUnreach::Ipv4Unicast { nlri }) => {
            let withdrawn = nlri.iter().map(|route| IpNet::V4(route.network().address())).collect();
            attributes.mp_unreach = Some(MpUnreach { family: Family::Ipv4Unicast, withdrawn });
        }
        PathAttributeValue::MpUnreach(their::MpUnreach::Ipv6Unicast { nlri }) => {
            let withdrawn = nlri.iter().map(|route| IpNet::V6(route.network().address())).collect();
            attributes.mp_unreach = Some(MpUnreach { family: Family::Ipv6Unicast, withdrawn });
        }
        other => panic!("{other:?}"),
    }
}

fn path_of(segments: &[their::As4PathSegment]) -> AsPath {
    let segment = |segment: &their::As4PathSegment| Segment {
        kind: segment_type_of(segment.segment_type()),
        asns: segment.as_numbers().to_vec(),
    };
    AsPath { segments: segments.iter().map(segment).collect() }
}

fn segment_type_of(kind: their::AsPathSegmentType) -> SegmentType {
    match kind {
        their::AsPathSegmentType::AsSet => SegmentType::Set,
        their::AsPathSegmentType::AsSequence => SegmentType::Sequence,
    }
}

// ===== values that both implementations can express =====

/// Netgauze rejects prefixes that include multicast or broadcast addresses.
fn ipv4_net() -> impl Strategy<Value = IpNet> {
    (0x0100_0000..0xDF00_0000_u32, 8..=32_u8)
        .prop_map(|(address, length)| IpNet::V4(Ipv4Net::new(address.into(), length).unwrap().trunc()))
}

fn ipv6_net() -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 3..=128_u8).prop_map(|(address, length)| {
        let global = address >> 3 | 0x2000_u128 << 112;
        IpNet::V6(Ipv6Net::new(global.into(), length).unwrap().trunc())
    })
}

fn nets(family: Family, count: std::ops::Range<usize>) -> BoxedStrategy<Vec<IpNet>> {
    match family {
        Family::Ipv4Unicast => proptest::collection::vec(ipv4_net(), count).boxed(),
        Family::Ipv6Unicast => proptest::collection::vec(ipv6_net(), count).boxed(),
    }
}

fn as_path(four_octets: bool) -> impl Strategy<Value = AsPath> {
    let asn = if four_octets { 1..u32::MAX } else { 1..65536_u32 };
    let kind = prop_oneof![Just(SegmentType::Sequence), Just(SegmentType::Set)];
    let segment =
        (kind, proptest::collection::vec(asn, 1..20)).prop_map(|(kind, asns)| Segment { kind, asns });
    proptest::collection::vec(segment, 0..4).prop_map(|segments| AsPath { segments })
}

fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
}

fn mp_reach() -> impl Strategy<Value = MpReach> {
    let next_hop = prop_oneof![
        ipv6().prop_map(MpNextHop::V6),
        // Netgauze requires that the second address is link-local.
        (ipv6(), any::<u64>())
            .prop_map(|(global, low)| (global, Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(low))))
            .prop_map(|(global, local)| MpNextHop::V6WithLinkLocal(global, local)),
    ];
    (family(), next_hop).prop_flat_map(|(family, next_hop)| {
        nets(family, 0..40).prop_map(move |nlri| MpReach { family, next_hop, nlri })
    })
}

/// Communities with an AS number of two or four octets or an IPv4 address, transitive or not. Netgauze
/// encodes subtype 9 as 2.
fn extended_community() -> impl Strategy<Value = ExtendedCommunity> {
    let kind = prop_oneof![0..3_u8, 0x40..0x43_u8];
    let subtype = prop_oneof![0..9_u8, 10..=255_u8];
    (kind, subtype, any::<[u8; 6]>())
        .prop_map(|(kind, subtype, [a, b, c, d, e, f])| ExtendedCommunity([kind, subtype, a, b, c, d, e, f]))
}

fn update(four_octets: bool) -> impl Strategy<Value = Update> {
    let mandatory = (
        prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path(four_octets),
        (0x0100_0000..0xDF00_0000_u32).prop_map(Ipv4Addr::from),
    );
    let optional = (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<bool>(),
        proptest::option::of((1..65536_u32, any::<Ipv4Addr>())),
    );
    let communities = (
        proptest::collection::vec((any::<u16>(), any::<u16>()).prop_map(|(a, b)| Community(a, b)), 0..100),
        proptest::collection::vec(extended_community(), 0..40),
        proptest::collection::vec(
            any::<(u32, u32, u32)>().prop_map(|(a, b, c)| LargeCommunity(a, b, c)),
            0..40,
        ),
    );
    let unreach = family().prop_flat_map(|family| {
        nets(family, 0..40).prop_map(move |withdrawn| MpUnreach { family, withdrawn })
    });
    let multi_protocol = (proptest::option::of(mp_reach()), proptest::option::of(unreach));
    let classic = (nets(Family::Ipv4Unicast, 0..60), nets(Family::Ipv4Unicast, 0..60));
    (mandatory, optional, communities, multi_protocol, classic).prop_map(
        |(mandatory, optional, communities, multi_protocol, (withdrawn, nlri))| Update {
            withdrawn,
            attributes: PathAttributes {
                origin: Some(mandatory.0),
                as_path: Some(mandatory.1),
                next_hop: Some(mandatory.2),
                med: optional.0,
                local_pref: optional.1,
                atomic_aggregate: optional.2,
                aggregator: optional.3,
                communities: communities.0,
                extended_communities: communities.1,
                large_communities: communities.2,
                mp_reach: multi_protocol.0,
                mp_unreach: multi_protocol.1,
                as4_path: None,
            },
            nlri,
        },
    )
}

fn capability() -> impl Strategy<Value = Capability> {
    let families = proptest::collection::vec(
        (family(), any::<bool>()).prop_map(|(family, kept)| (family.afi(), family.safi(), kept)),
        0..3,
    );
    prop_oneof![
        family().prop_map(Capability::multi_protocol),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::ExtendedNextHop(vec![(1, 1, 2)])),
        any::<u32>().prop_map(Capability::FourOctetAs),
        (any::<bool>(), any::<bool>(), 0..4096_u16, families).prop_map(
            |(restarting, notification, time, families)| {
                Capability::GracefulRestart(GracefulRestart { restarting, notification, time, families })
            }
        ),
        (160..239_u8, proptest::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn open(capabilities: std::ops::Range<usize>) -> impl Strategy<Value = Open> {
    // Netgauze requires identifiers that are valid unicast addresses, and refuses the hold times of 1 s and
    // 2 s (RFC 4271 section 4.2) when it decodes. Fairlead refuses them when it negotiates.
    let hold_time = prop_oneof![Just(0_u16), 3..=u16::MAX];
    let router_id = (0x0100_0000..0xDF00_0000_u32).prop_map(Ipv4Addr::from);
    let capabilities = proptest::collection::vec(capability(), capabilities);
    (any::<u16>(), hold_time, router_id, capabilities).prop_map(
        |(my_as, hold_time, router_id, capabilities)| Open { my_as, hold_time, router_id, capabilities },
    )
}

fn decode(bytes: &[u8], four_octet_as: bool) -> Message {
    decode_all(bytes, DecodeContext { four_octet_as, ebgp: false, enhanced_route_refresh: false })
        .pop()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn updates_decode_as_netgauze_decodes_them(
        four_octets: bool,
        update in any::<bool>().prop_flat_map(update),
    ) {
        // A two-octet session replaces AS numbers that need four octets; `update_encodes_and_decodes` covers
        // it.
        let path = update.attributes.as_path.as_ref();
        let four_octets = four_octets || path.is_some_and(AsPath::needs_four_octets);
        let mut bytes = Vec::new();
        update.encode(four_octets, &mut bytes);
        prop_assert_eq!(&update_of(&netgauze(&bytes, four_octets)), &update);
        let Message::Update(decoded) = decode(&bytes, four_octets) else { panic!() };
        prop_assert_eq!(&decoded.errors, &[]);
        prop_assert_eq!(decoded.update, update);
    }

    #[test]
    fn opens_decode_as_netgauze_decodes_them(open in open(0..8)) {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        prop_assert_eq!(decode(&bytes, true), Message::Open(open.clone()));
        let BgpMessage::Open(read) = netgauze(&bytes, true) else { panic!() };
        let decoded = (read.my_as(), read.hold_time(), read.bgp_id());
        prop_assert_eq!(decoded, (open.my_as, open.hold_time, open.router_id));
        prop_assert_eq!(read.capabilities().len(), open.capabilities.len());
        for (theirs, ours) in read.capabilities().into_iter().zip(&open.capabilities) {
            match (theirs, ours) {
                (BgpCapability::MultiProtocolExtensions(theirs), Capability::MultiProtocol { afi, .. }) => {
                    prop_assert_eq!(theirs.address_type().address_family() as u16, *afi);
                }
                (BgpCapability::FourOctetAs(theirs), Capability::FourOctetAs(ours)) => {
                    prop_assert_eq!(theirs.asn4(), *ours);
                }
                (BgpCapability::GracefulRestartCapability(theirs), Capability::GracefulRestart(ours)) => {
                    prop_assert_eq!(theirs.restart(), ours.restarting);
                    prop_assert_eq!(theirs.graceful_notification(), ours.notification);
                    prop_assert_eq!(theirs.time(), ours.time);
                    let families = theirs.address_families();
                    let kept: Vec<_> = families.iter().map(|f| f.forwarding_state()).collect();
                    prop_assert_eq!(kept, ours.families.iter().map(|f| f.2).collect::<Vec<_>>());
                }
                (theirs, ours) => {
                    let code = match theirs.code() {
                        Ok(code) => code as u8,
                        Err(code) => code,
                    };
                    prop_assert_eq!(code, ours.code());
                }
            }
        }
    }

    /// Netgauze does not implement the extended form.
    #[test]
    fn opens_with_extended_parameters_round_trip(open in open(0..200)) {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        prop_assert_eq!(decode(&bytes, true), Message::Open(open));
    }

    #[test]
    fn notifications_round_trip(
        code: u8,
        subcode: u8,
        data in proptest::collection::vec(any::<u8>(), 0..4075),
    ) {
        let notification = Notification { code, subcode, data };
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        prop_assert_eq!(decode(&bytes, true), Message::Notification(notification));
    }

    #[test]
    fn updates_decode_as_zettabgp_decodes_them(update in update(true)) {
        let mut update = update;
        // Zettabgp drops the second address of 32-octet next hops, and does not implement RFC 8950.
        if let Some(reach) = &mut update.attributes.mp_reach {
            let (MpNextHop::V6(global) | MpNextHop::V6WithLinkLocal(global, _)) = reach.next_hop else {
                panic!("{:?}", reach.next_hop)
            };
            reach.next_hop = MpNextHop::V6(global);
        }
        update.attributes.mp_reach.take_if(|reach| reach.family == Family::Ipv4Unicast);
        let mut bytes = Vec::new();
        update.encode(true, &mut bytes);
        zettabgp_agrees(&bytes[19..], &update);
    }
}

fn zettabgp_agrees(body: &[u8], update: &Update) {
    use zettabgp::prelude::*;
    let capabilities =
        [BgpCapability::SafiIPv4u, BgpCapability::SafiIPv6u, BgpCapability::CapASN32(LOCAL_AS)];
    let mut session = BgpSessionParams::new(
        LOCAL_AS,
        180,
        BgpTransportMode::IPv4,
        Ipv4Addr::new(10, 0, 0, 9),
        capabilities.into_iter().collect(),
    );
    session.fuzzy_pathid = false;
    session.has_as32bit = true;
    let mut read = BgpUpdateMessage::new();
    read.decode_from(&session, body).unwrap();

    let v4 = |addresses: &BgpAddrs| match addresses {
        BgpAddrs::None => vec![],
        BgpAddrs::IPV4U(nets) => {
            nets.iter().map(|net| IpNet::V4(Ipv4Net::new(net.addr, net.prefixlen).unwrap())).collect()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(v4(&read.updates), update.nlri);
    assert_eq!(v4(&read.withdraws), update.withdrawn);
    let attributes = &update.attributes;
    let path = attributes.as_path.as_ref().unwrap();
    let asns = |item: &BgpASitem| match item {
        BgpASitem::Seq(sequence) => (SegmentType::Sequence, sequence.value.iter().map(|a| a.value).collect()),
        BgpASitem::Set(set) => (SegmentType::Set, set.value.iter().map(|a| a.value).collect::<Vec<_>>()),
    };
    let theirs: Vec<_> = read.get_attr_aspath().unwrap().value.iter().map(asns).collect();
    let ours = path.segments.iter().map(|segment| {
        let mut asns = segment.asns.clone();
        if segment.kind == SegmentType::Set {
            // Zettabgp sorts sets.
            asns.sort_unstable();
            asns.dedup();
        }
        (segment.kind, asns)
    });
    assert_eq!(theirs, ours.collect::<Vec<_>>());
    let communities: std::collections::BTreeSet<u32> =
        attributes.communities.iter().map(|c| u32::from(c.0) << 16 | u32::from(c.1)).collect();
    let theirs = read.get_attr_communitylist();
    let theirs: Option<std::collections::BTreeSet<_>> =
        theirs.map(|list| list.value.iter().map(|c| c.value).collect());
    assert_eq!(theirs.unwrap_or_default(), communities);
    if let Some(reach) = &attributes.mp_reach {
        let theirs = read.get_mpupdates().unwrap();
        let MpNextHop::V6(next_hop) = reach.next_hop else { panic!() };
        assert_eq!(theirs.nexthop, BgpAddr::V6(next_hop));
        let BgpAddrs::IPV6U(nets) = &theirs.addrs else { panic!("{:?}", theirs.addrs) };
        let nets = nets.iter().map(|net| IpNet::V6(Ipv6Net::new(net.addr, net.prefixlen).unwrap()));
        assert_eq!(nets.collect::<Vec<_>>(), reach.nlri);
    }
}

/// The names that netgauze gives to the communities of RFC 4360 and draft-ietf-idr-link-bandwidth.
#[test]
fn extended_communities_decode_as_netgauze_names_them() {
    let update = Update {
        attributes: PathAttributes {
            extended_communities: vec![
                ExtendedCommunity([0x00, 0x02, 0xfc, 0x00, 0, 0, 0, 100]),
                ExtendedCommunity([0x02, 0x03, 0xfa, 0x56, 0xea, 0x01, 0, 7]),
                ExtendedCommunity::link_bandwidth(64512, 125_000_000.0, false),
                ExtendedCommunity::link_bandwidth(4_200_000_001, 0.5, false),
            ],
            ..PathAttributes::default()
        },
        ..Update::default()
    };
    let mut bytes = Vec::new();
    update.encode(true, &mut bytes);
    let BgpMessage::Update(read) = netgauze(&bytes, true) else { panic!() };
    let PathAttributeValue::ExtendedCommunities(communities) = read.path_attributes()[0].value() else {
        panic!("{read:?}")
    };
    let texts: Vec<String> = communities.communities().iter().map(ToString::to_string).collect();
    let [gigabit, half] = [125_000_000.0_f32, 0.5].map(f32::to_bits);
    let bandwidths = [format!("link-bw:64512:{gigabit}"), format!("link-bw:23456:{half}")];
    assert_eq!(texts[..2], ["rt:64512:100", "ro:4200000001:7"]);
    assert_eq!(texts[2..], bandwidths);
}

#[test]
fn remaining_messages_decode_as_netgauze_decodes_them() {
    let mut bytes = Vec::new();
    Notification::cease(CeaseSubcode::AdministrativeReset, "bye").encode(&mut bytes);
    let expected = CeaseError::AdministrativeReset { value: b"\x03bye".to_vec().into() };
    assert_eq!(
        netgauze(&bytes, true),
        BgpMessage::Notification(BgpNotificationMessage::CeaseError(expected))
    );

    let mut bytes = Vec::new();
    RouteRefresh::request(Family::Ipv6Unicast).encode(&mut bytes);
    assert!(matches!(netgauze(&bytes, true), BgpMessage::RouteRefresh(_)));

    let mut bytes = Vec::new();
    fairlead_bgp::message::encode_keepalive(&mut bytes);
    assert_eq!(netgauze(&bytes, true), BgpMessage::KeepAlive);

    for family in Family::ALL {
        let mut bytes = Vec::new();
        Update::end_of_rib(family).encode(true, &mut bytes);
        let BgpMessage::Update(update) = netgauze(&bytes, true) else { panic!() };
        assert_eq!(format!("{:?}", update.end_of_rib()), format!("Some({family:?})"));
    }
}

/// Decodes all messages that a session sends.
#[test]
fn session_output_decodes_with_netgauze() {
    let mut solo = Solo::over_ipv6(config());
    solo.next_hops.link_local = "fe80::1".parse().ok();
    for number in 0..2000_u32 {
        let v4 = IpNet::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)));
        let v6 = IpNet::from(IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(number))));
        solo.session.announce(v4, attributes(1)).unwrap();
        solo.session.announce(v6, attributes(2)).unwrap();
    }
    let mut solo = solo.established();
    let bytes = solo.sent_bytes();
    let mut rest = bytes.as_slice();
    let mut prefixes = 0;
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
        let (message, tail) = rest.split_at(length);
        rest = tail;
        let update = update_of(&netgauze(message, true));
        prefixes += update.nlri.len() + update.attributes.mp_reach.map_or(0, |reach| reach.nlri.len());
    }
    assert_eq!(prefixes, 4000);
}
