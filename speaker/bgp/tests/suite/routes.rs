//! The routes that the peer learns: only differences, packed into as few UPDATEs as possible.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::{MpNextHop, PathAttributes};
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::{
    Attributes, Community, ExtendedCommunity, Family, FamilyStatus, LargeCommunity, NextHops, Origin, PeerAs,
    SessionConfig, SessionInput,
};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::harness::*;

fn host(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)))
}

fn host_v6(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::from(
        (0x2001_0db8_u128 << 96) + u128::from(number),
    )))
}

/// Lets the peer read everything that is pending. Returns the number of UPDATEs.
fn read(solo: &mut Solo, learned: &mut LearnedRoutes) -> usize {
    let before = learned.updates;
    learned.learn(solo.sent());
    assert_eq!(solo.session.pending(), 0);
    assert_eq!(solo.session.announced(), learned.routes.len());
    learned.updates - before
}

#[test]
fn ten_thousand_prefixes_are_packed_by_attributes() {
    let mut solo = Solo::new(config());
    for number in 0..10_000 {
        solo.session.announce(host(number), attributes(u16::try_from(number % 3).unwrap())).unwrap();
    }
    let mut solo = solo.established();
    let mut learned = LearnedRoutes::default();
    // After 23 octets of header and lengths and 27 of attributes, 4096 octets have room for 809 prefixes of 5
    // octets: 3 × 5 messages for 3333 prefixes each, and 2 End-of-RIB markers.
    let updates = read(&mut solo, &mut learned);
    assert_eq!(updates, 15 + 2);
    assert_eq!(learned.routes.len(), 10_000);
    assert_eq!(learned.end_of_rib, Family::ALL);

    // One change sends one UPDATE with one prefix.
    solo.session.announce(host(77), attributes(9)).unwrap();
    assert_eq!(read(&mut solo, &mut learned), 1);
    assert_eq!(learned.announced, 10_001);
    assert_eq!(learned.routes[&host(77)].1.communities, [Community(64512, 9)]);
    // Announcing equal attributes again sends nothing.
    solo.session.announce(host(77), attributes(9)).unwrap();
    assert_eq!(read(&mut solo, &mut learned), 0);
    // Withdrawals are packed too: 4073 octets have room for 814.
    for number in 0..10_000 {
        solo.session.withdraw(&host(number));
    }
    assert_eq!(read(&mut solo, &mut learned), 13);
    assert!(learned.routes.is_empty());
    assert_eq!(solo.session.routes(), 0);
}

#[test]
fn extended_messages_pack_more_prefixes() {
    let mut open = peer_open();
    open.capabilities.push(Capability::ExtendedMessage);
    let mut solo = Solo::new(config()).established_with(&open);
    let mut learned = LearnedRoutes::default();
    for number in 0..13_000 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    // 65535 octets have room for about 13,000 prefixes of 5 octets, or 3,850 of 17.
    assert_eq!(read(&mut solo, &mut learned), 1 + 4 + 2);
    assert_eq!(learned.routes.len(), 26_000);
}

#[test]
fn messages_never_exceed_negotiated_length() {
    for number in [1_u32, 800, 809, 810, 811, 2000] {
        let mut solo = Solo::over_ipv6(config());
        solo.next_hops.v4 = None;
        let mut open = peer_open();
        open.capabilities.push(Capability::ExtendedNextHop(vec![(1, 1, 2)]));
        let mut solo = solo.established_with(&open);
        for number in 0..number {
            solo.session.announce(host(number), attributes(1)).unwrap();
            solo.session.announce(host_v6(number), attributes(2)).unwrap();
        }
        for _ in 0..2 {
            let bytes = solo.sent_bytes();
            let mut rest = bytes.as_slice();
            while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                assert!(length <= 4096, "{length}");
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
            (0..number).for_each(|number| solo.session.withdraw(&host(number)));
            (0..number).for_each(|number| solo.session.withdraw(&host_v6(number)));
        }
    }
}

#[test]
fn changes_during_blocked_write_are_merged() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    read(&mut solo, &mut learned);
    for round in 0..100 {
        solo.session.announce(host(1), attributes(round)).unwrap();
        solo.session.announce(host(2), attributes(round)).unwrap();
        solo.session.withdraw(&host(1));
    }
    assert_eq!(solo.session.pending(), 1);
    assert_eq!(read(&mut solo, &mut learned), 1, "host 1 was announced and withdrawn between two reads");
    assert_eq!(learned.routes[&host(2)].1.communities, [Community(64512, 99)]);
    // A withdrawal and the same announcement cancel out.
    solo.session.withdraw(&host(2));
    solo.session.announce(host(2), attributes(99)).unwrap();
    assert_eq!(read(&mut solo, &mut learned), 0);
}

#[test]
fn repetition_of_a_route_is_no_pending_change() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    let pending = |solo: &Solo| (solo.session.is_change_pending(&host(1)), solo.session.pending());
    solo.session.announce(host(1), attributes(1)).unwrap();
    assert_eq!(pending(&solo), (true, 1));
    read(&mut solo, &mut learned);
    assert_eq!(pending(&solo), (false, 0));
    let mut request = Vec::new();
    RouteRefresh::request(Family::Ipv4Unicast).encode(&mut request);
    solo.receive(&request);
    solo.session.announce(host(2), attributes(1)).unwrap();
    let mut bytes = Vec::new();
    solo.session.poll_transmit(solo.now, 1, &mut bytes);
    learned.learn(decode_all(&bytes, solo.context));
    assert_eq!(pending(&solo), (false, 1), "the repetition waits");
    solo.session.withdraw(&host(1));
    assert_eq!(pending(&solo), (true, 1), "the withdrawal takes the place of the repetition");
    read(&mut solo, &mut learned);
    assert_eq!(pending(&solo), (false, 0));
    // A session that is down sends nothing.
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    solo.session.announce(host(1), attributes(1)).unwrap();
    assert_eq!(pending(&solo), (false, 0));
}

#[test]
fn host_bits_name_the_same_route() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    solo.session.announce(net("192.0.2.7/24"), attributes(1)).unwrap();
    solo.session.announce(net("192.0.2.9/24"), attributes(1)).unwrap();
    read(&mut solo, &mut learned);
    assert_eq!(learned.prefixes(), ["192.0.2.0/24"]);
    solo.session.withdraw(&net("192.0.2.1/24"));
    read(&mut solo, &mut learned);
    assert!(learned.routes.is_empty());
}

#[test]
fn attributes_differ_for_ebgp_and_ibgp_peers() {
    let route = Arc::new(Attributes {
        origin: Origin::Incomplete,
        med: Some(5),
        local_pref: Some(200),
        as_path_prepend: 2,
        aggregator: true,
        communities: [Community(2, 2), Community(1, 1)].into(),
        extended_communities: [
            ExtendedCommunity([0, 3, 0, 1, 0, 0, 0, 1]),
            ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1]),
        ]
        .into(),
        large_communities: [LargeCommunity(3, 2, 1)].into(),
    });
    let learn = |config: SessionConfig, open: &Open| {
        let mut solo = Solo::new(config).established_with(open);
        solo.session.announce(net("203.0.113.1/32"), route.clone()).unwrap();
        solo.session.announce(net("203.0.113.2/32"), Arc::default()).unwrap();
        let mut learned = LearnedRoutes::default();
        read(&mut solo, &mut learned);
        let [first, second] =
            [net("203.0.113.1/32"), net("203.0.113.2/32")].map(|net| learned.routes[&net].1.clone());
        (first, second)
    };
    // eBGP: the path starts with our AS; LOCAL_PREF is not sent.
    let (full, plain) = learn(config(), &peer_open());
    assert_eq!(full.as_path, Some(AsPath::originated_with_prepend(LOCAL_AS, 2)));
    assert_eq!(plain.as_path, Some(AsPath::originated_by(LOCAL_AS)));
    assert_eq!((full.aggregator, plain.aggregator), (Some((LOCAL_AS, config().router_id)), None));
    assert!(!full.atomic_aggregate);
    let types: Vec<_> = full.extended_communities.iter().map(|community| community.0[1]).collect();
    assert_eq!(types, [2, 3], "in order");
    assert_eq!((full.local_pref, full.med, full.origin), (None, Some(5), Some(Origin::Incomplete)));
    assert_eq!(full.communities, [Community(1, 1), Community(2, 2)]);
    assert_eq!(full.large_communities, [LargeCommunity(3, 2, 1)]);
    assert_eq!((plain.local_pref, plain.med, plain.origin), (None, None, Some(Origin::Igp)));
    // iBGP: the path is empty; LOCAL_PREF is always sent.
    let internal = SessionConfig { peer_asn: PeerAs::Internal, ..config() };
    let mut open = Open { my_as: 64512, ..peer_open() };
    open.capabilities.pop();
    open.capabilities.push(Capability::FourOctetAs(LOCAL_AS));
    let (full, plain) = learn(internal, &open);
    assert_eq!(full.as_path, Some(AsPath::default()));
    assert_eq!((full.local_pref, plain.local_pref), (Some(200), Some(100)));
    // The peer has two-octet AS numbers, and the local AS needs four octets.
    let large = SessionConfig { local_asn: 4_200_000_001, ..config() };
    let old = Open { capabilities: vec![Capability::multi_protocol(Family::Ipv4Unicast)], ..peer_open() };
    let (full, _) = learn(large, &old);
    assert_eq!(full.as_path, Some(AsPath::originated_with_prepend(23456, 2)));
    assert_eq!(full.as4_path, Some(AsPath::originated_with_prepend(4_200_000_001, 2)));
    assert_eq!(full.aggregator, Some((23456, config().router_id)));
    let (full, _) = learn(config(), &old);
    assert_eq!((full.as_path, full.as4_path), (Some(AsPath::originated_with_prepend(LOCAL_AS, 2)), None));
}

#[test]
fn next_hop_encoding_follows_negotiation() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let v4 = Some(address);
    let v6 = "2001:db8::1".parse().ok();
    let link_local = "fe80::1".parse().ok();
    let (global, local) = (v6.unwrap(), link_local.unwrap());
    let classic = Some(NextHop::Classic(address));
    let single = Some(NextHop::MultiProtocol(MpNextHop::V6(global)));
    let both = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(global, local)));
    let only_local = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(local, local)));
    let hops = |v4, v6, link_local| NextHops { v4, v6, link_local, over_link_local: false };
    let on_link = |v4, v6| NextHops { over_link_local: true, ..hops(v4, v6, link_local) };
    // (next hops, peer offers RFC 8950, session over IPv6) → next hops of IPv4 and IPv6 routes
    for (next_hops, offered, over_ipv6, expect) in [
        (hops(v4, v6, None), false, false, (classic, single)),
        (hops(v4, v6, link_local), false, true, (classic, both)),
        (hops(v4, None, None), false, false, (classic, None)),
        (hops(None, v6, None), false, true, (None, single)),
        (hops(None, v6, None), true, true, (single, single)),
        (hops(None, v6, link_local), true, true, (both, both)),
        (hops(None, None, link_local), true, true, (only_local, only_local)),
        // The session does not offer RFC 8950 over IPv4.
        (hops(None, v6, None), true, false, (None, single)),
        (NextHops::default(), true, true, (None, None)),
        // Sessions between link-local addresses.
        (on_link(v4, v6), true, true, (both, both)),
        (on_link(v4, None), true, true, (only_local, only_local)),
        (on_link(v4, None), false, true, (classic, only_local)),
    ] {
        let mut open = peer_open();
        if offered {
            open.capabilities.push(Capability::ExtendedNextHop(vec![(1, 128, 2), (1, 1, 2)]));
        }
        let mut solo = if over_ipv6 { Solo::over_ipv6(config()) } else { Solo::new(config()) };
        solo.next_hops = next_hops;
        let mut solo = solo.established_with(&open);
        solo.session.announce(host(1), attributes(1)).unwrap();
        solo.session.announce(host_v6(1), attributes(1)).unwrap();
        let mut learned = LearnedRoutes::default();
        learned.learn(solo.sent());
        let next_hop = |prefix| learned.routes.get(&prefix).map(|route| route.0);
        assert_eq!((next_hop(host(1)), next_hop(host_v6(1))), expect, "{next_hops:?}");
        assert_eq!(
            solo.session.withheld().len(),
            [expect.0, expect.1].iter().filter(|n| n.is_none()).count()
        );
        // RFC 7606 §5.1: MP_REACH_NLRI is the first attribute.
        solo.session.announce(host_v6(2), attributes(1)).unwrap();
        let bytes = solo.sent_bytes();
        assert!(bytes.is_empty() || bytes[23..25] == [0x90, 14] || bytes[23..25] == [0x80, 14], "{bytes:?}");
        learned.learn(decode_all(&bytes, solo.context));
        solo.session.withdraw(&host_v6(2));
        // Withdrawals use the same encoding.
        solo.session.withdraw(&host(1));
        solo.session.withdraw(&host_v6(1));
        learned.learn(solo.sent());
        assert!(learned.routes.is_empty());
    }
}

#[test]
fn changed_next_hop_resends_routes() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    for number in 0..100 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    read(&mut solo, &mut learned);
    let other = NextHops { v4: Some(Ipv4Addr::new(192, 0, 2, 99)), ..next_hops() };
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut learned), 1, "only the IPv4 next hop changed");
    assert!(learned.routes.iter().all(|(prefix, route)| {
        Family::of(prefix) == Family::Ipv6Unicast || route.0 == NextHop::Classic(Ipv4Addr::new(192, 0, 2, 99))
    }));
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut learned), 0);
}

#[test]
fn route_refresh_flood_resends_family_once() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    for number in 0..100 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    read(&mut solo, &mut learned);
    learned.routes.retain(|prefix, _| Family::of(prefix) == Family::Ipv4Unicast);
    let mut flood = Vec::new();
    (0..1000).for_each(|_| RouteRefresh::request(Family::Ipv6Unicast).encode(&mut flood));
    // Requests for other families and subtypes of RFC 7313 are ignored.
    RouteRefresh { afi: 25, subtype: 0, safi: 70 }.encode(&mut flood);
    RouteRefresh { afi: 1, subtype: 1, safi: 1 }.encode(&mut flood);
    solo.receive(&flood);
    solo.session.withdraw(&host_v6(5));
    learned.routes.insert(host_v6(5), learned.routes[&host(1)].clone());
    // One UPDATE withdraws a route, another announces the other 99.
    assert_eq!(read(&mut solo, &mut learned), 2);
    assert_eq!(learned.routes.len(), 199);
}

#[test]
fn new_connection_resends_all_routes() {
    let mut pair = Pair::ebgp();
    for number in 0..100 {
        pair.ends[0].session.announce(host(number), attributes(1)).unwrap();
    }
    pair.start();
    pair.run(secs(1));
    assert_eq!(pair.ends[1].session.statistics().prefixes_received, 100);
    pair.reset_connection();
    pair.ends[0].session.withdraw(&host(7));
    assert_eq!((pair.ends[0].session.announced(), pair.ends[0].session.routes()), (0, 99));
    pair.run(secs(5));
    let received = pair.ends[1].session.statistics().prefixes_received;
    assert_eq!((received, pair.ends[1].withdrawals()), (199, 0));
    assert_eq!(pair.ends[0].session.announced(), 99);
}

#[test]
fn end_of_rib_follows_initial_routes_once() {
    let mut solo = Solo::new(config());
    solo.session.announce(host(1), attributes(1)).unwrap();
    let mut solo = solo.established();
    let kinds: Vec<_> = solo
        .sent()
        .into_iter()
        .map(|message| match message {
            Message::Update(decoded) => {
                let update = decoded.update;
                (update.nlri.len(), update.attributes.mp_unreach.is_some())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [(1, false), (0, false), (0, true)]);
    solo.session.announce(host(2), attributes(1)).unwrap();
    assert_eq!(solo.sent().len(), 1);
}

#[test]
fn families_report_what_was_sent_and_received() {
    let mut solo = Solo::new(config());
    solo.session.announce(host(1), attributes(1)).unwrap();
    let mut solo = solo.established();
    let families = |solo: &Solo| solo.session.families().collect::<Vec<_>>();
    let nothing = FamilyStatus::default();
    assert_eq!(families(&solo), [(Family::Ipv4Unicast, nothing), (Family::Ipv6Unicast, nothing)]);
    solo.sent();
    solo.receive(&update(&hex("4001 01 00  4002 06 02 01 0000fc01  4003 04 c0000202"), &hex("18 cb0071")));
    let mut markers = Vec::new();
    Update::end_of_rib(Family::Ipv6Unicast).encode(true, &mut markers);
    solo.receive(&markers);
    let v4 = FamilyStatus { sent: 1, received: 1, end_of_rib_sent: true, end_of_rib_received: false };
    let v6 = FamilyStatus { end_of_rib_sent: true, end_of_rib_received: true, ..nothing };
    assert_eq!(families(&solo), [(Family::Ipv4Unicast, v4), (Family::Ipv6Unicast, v6)]);
    // The next connection begins at zero.
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    assert_eq!(families(&solo), []);
    solo.wait(secs(1));
    solo.reestablish();
    assert_eq!(families(&solo), [(Family::Ipv4Unicast, nothing), (Family::Ipv6Unicast, nothing)]);
}

/// Returns an UPDATE of the peer that announces or withdraws IPv4 prefixes.
fn update_of_peer(announced: &[IpNet], withdrawn: &[IpNet]) -> Vec<u8> {
    let mut message = Update { withdrawn: withdrawn.to_vec(), nlri: announced.to_vec(), ..Update::default() };
    message.attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::originated_by(PEER_AS)),
        next_hop: Some(Ipv4Addr::new(192, 0, 2, 2)),
        ..PathAttributes::default()
    };
    let mut bytes = Vec::new();
    message.encode(true, &mut bytes);
    bytes
}

#[test]
fn peer_with_too_many_prefixes_is_named_and_keeps_its_session() {
    let mut solo = Solo::new(config()).established();
    let hosts: Vec<_> = (0..1001).map(host).collect();
    let (first, second) = hosts.split_at(500);
    // Repeated and withdrawn prefixes do not count: the peer has no more than 500 at a time.
    for _ in 0..2 {
        for half in [first, second] {
            solo.receive(&update_of_peer(half, &[]));
            solo.receive(&update_of_peer(half, &[]));
            solo.receive(&update_of_peer(&[], half));
        }
    }
    solo.receive(&update_of_peer(first, &[]));
    solo.receive(&update_of_peer(&second[1..], &[]));
    assert!(!solo.session.exceeds_expected_prefixes(), "1000 prefixes");
    solo.receive(&update_of_peer(&second[..1], &[]));
    assert!(solo.session.exceeds_expected_prefixes());
    // The peer is reported until the end of the connection.
    solo.receive(&update_of_peer(&[], &hosts));
    assert!(solo.session.exceeds_expected_prefixes() && solo.session.negotiated().is_some());
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    assert!(!solo.session.exceeds_expected_prefixes());
    solo.wait(secs(1));
    solo.reestablish();
    assert!(!solo.session.exceeds_expected_prefixes());
}

#[test]
fn flood_of_few_prefixes_names_no_peer_with_too_many() {
    let mut solo = Solo::new(config()).established();
    let hosts: Vec<_> = (0..1800).map(host).collect();
    // Each minute, 900 prefixes are announced again and again, and withdrawn; the next minute has others.
    for minute in 0..6 {
        let half = &hosts[minute % 2 * 900..][..900];
        for _ in 0..100 {
            half.chunks(300).for_each(|part| solo.receive(&update_of_peer(part, &[])));
        }
        half.chunks(300).for_each(|part| solo.receive(&update_of_peer(&[], part)));
        solo.keepalive();
        solo.wait(secs(60));
        assert!(!solo.session.exceeds_expected_prefixes(), "minute {minute}");
    }
    // After a minute with a flood, a large table is still noticed.
    hosts.chunks(300).for_each(|part| solo.receive(&update_of_peer(part, &[])));
    assert!(solo.session.exceeds_expected_prefixes());
}

#[test]
fn transmit_stops_after_requested_size() {
    let mut solo = Solo::new(config()).established();
    (0..5000).for_each(|number| solo.session.announce(host(number), attributes(1)).unwrap());
    let mut bytes = Vec::new();
    assert!(solo.session.poll_transmit(solo.now, 6000, &mut bytes));
    assert!(bytes.len() >= 6000 && bytes.len() < 6000 + 4096);
    decode_all(&bytes, solo.context);
    let pending = solo.session.pending();
    assert!(pending > 3000, "{pending} prefixes wait without being encoded");
}

/// Attributes with these numbers of standard, extended and large communities.
fn with_communities(standard: u16, extended: u8, large: u32, prepend: u8) -> Arc<Attributes> {
    Arc::new(Attributes {
        med: Some(1),
        local_pref: Some(1),
        as_path_prepend: prepend,
        aggregator: true,
        communities: (0..standard).map(|value| Community(1, value)).collect(),
        extended_communities: (0..extended)
            .map(|value| ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, value]))
            .collect(),
        large_communities: (0..large).map(|value| LargeCommunity(1, 1, value)).collect(),
        ..Attributes::default()
    })
}

#[test]
fn route_that_fits_no_message_is_rejected() {
    // (standard, extended and large communities, prepend) that just fit.
    for (standard, extended, large, prepend) in
        [(990, 0, 0, 0), (975, 0, 0, 10), (0, 250, 162, 0), (0, 0, 329, 0), (499, 100, 94, 4)]
    {
        let largest = with_communities(standard, extended, large, prepend);
        assert_eq!(largest.check_size(), Ok(()), "{standard} {extended} {large} {prepend}");
        // What needs the most octets: AS4_PATH, a next hop with a link-local address, GRACEFUL_SHUTDOWN.
        let config = SessionConfig { local_asn: 4_200_000_001, ..config() };
        let mut open = peer_open();
        open.capabilities.pop();
        let mut solo = Solo::over_ipv6(config);
        solo.next_hops.link_local = "fe80::1".parse().ok();
        let mut solo = solo.established_with(&Open { my_as: 64513, ..open });
        solo.session.set_graceful_shutdown(true);
        solo.session.announce(host_v6(1), largest).unwrap();
        // After the End-of-RIB marker of IPv4.
        let bytes = &solo.sent_bytes()[23..];
        let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        assert!((4096 - 12..=4096).contains(&length), "{standard} {extended} {large} {prepend}: {length}");
    }
}

#[test]
fn rejected_route_leaves_the_earlier_one_in_place() {
    let mut solo = Solo::new(config()).established();
    solo.session.announce(host(1), with_communities(1, 0, 0, 0)).unwrap();
    let error = solo.session.announce(host(1), with_communities(1000, 0, 0, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the route needs an UPDATE of 4136 octets, but a message has at most 4096: use fewer communities"
    );
    let mut learned = LearnedRoutes::default();
    read(&mut solo, &mut learned);
    assert_eq!(learned.routes[&host(1)].1.communities.len(), 1);
}

#[test]
fn equal_routes_in_any_order_encode_equally() {
    let bytes = |order: &mut dyn Iterator<Item = u32>| {
        let mut solo = Solo::new(config());
        for number in order {
            solo.session.announce(host(number), attributes(u16::try_from(number % 7).unwrap())).unwrap();
        }
        solo.established().sent_bytes()
    };
    assert_eq!(bytes(&mut (0..500)), bytes(&mut (0..500).rev()));
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u32, u16),
    Withdraw(u32),
    Pull(usize),
    Refresh(Family),
    NextHop(bool),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = 0..12_u32;
    prop_oneof![
        6 => (prefix.clone(), 0..3_u16).prop_map(|(prefix, community)| Step::Announce(prefix, community)),
        4 => prefix.prop_map(Step::Withdraw),
        3 => (1..80_usize).prop_map(Step::Pull),
        1 => prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)].prop_map(Step::Refresh),
        1 => any::<bool>().prop_map(Step::NextHop),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The peer ends up with exactly the desired routes. [`LearnedRoutes::learn`] checks that no unknown
    /// route is withdrawn.
    #[test]
    fn peer_converges_after_any_steps(steps in proptest::collection::vec(step(), 0..80)) {
        // Even numbers are IPv4 routes, odd numbers IPv6 routes.
        let prefix = |number: u32| if number.is_multiple_of(2) { host(number) } else { host_v6(number) };
        let mut solo = Solo::new(config()).established();
        let mut learned = LearnedRoutes::default();
        let mut model = BTreeMap::new();
        let mut has_v6 = true;
        for step in steps {
            match step {
                Step::Announce(number, community) => {
                    solo.session.announce(prefix(number), attributes(community)).unwrap();
                    model.insert(prefix(number), community);
                }
                Step::Withdraw(number) => {
                    solo.session.withdraw(&prefix(number));
                    model.remove(&prefix(number));
                }
                Step::Pull(max) => {
                    let mut bytes = Vec::new();
                    solo.session.poll_transmit(solo.now, max, &mut bytes);
                    learned.learn(decode_all(&bytes, solo.context));
                }
                Step::Refresh(family) => {
                    let mut bytes = Vec::new();
                    RouteRefresh::request(family).encode(&mut bytes);
                    solo.receive(&bytes);
                }
                Step::NextHop(there) => {
                    has_v6 = there;
                    let v6 = next_hops().v6.filter(|_| there);
                    solo.session.set_next_hops(NextHops { v6, ..next_hops() });
                }
                Step::Reset => {
                    let reason = String::new();
                    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
                    let wait = solo.session.poll_timeout().unwrap() - solo.now;
                    solo.wait(wait);
                    solo.next_hops = next_hops();
                    solo.reestablish();
                    has_v6 = true;
                    learned = LearnedRoutes::default();
                }
            }
            prop_assert_eq!(solo.session.routes(), model.len());
        }
        learned.learn(solo.sent());
        let community = |(net, route): (&IpNet, &(NextHop, PathAttributes))| (*net, route.1.communities[0].1);
        let known: BTreeMap<_, _> = learned.routes.iter().map(community).collect();
        model.retain(|net, _| has_v6 || Family::of(net) == Family::Ipv4Unicast);
        prop_assert_eq!(solo.session.announced(), known.len());
        prop_assert_eq!(known, model);
        prop_assert_eq!(solo.session.pending(), 0);
    }
}

#[test]
fn aggregate_is_announced_before_its_members_are_withdrawn() {
    let mut solo = Solo::new(config());
    let members: Vec<_> = (0..=255).map(|n| net(&format!("192.0.2.{n}/32"))).collect();
    for member in &members {
        solo.session.announce(*member, attributes(1)).unwrap();
    }
    let mut solo = solo.established();
    solo.sent();
    members.iter().for_each(|member| solo.session.withdraw(member));
    solo.session.announce(net("192.0.2.0/24"), attributes(2)).unwrap();
    let sent = solo.sent();
    let Some(Message::Update(first)) = sent.first() else { panic!("{sent:?}") };
    assert_eq!((first.update.nlri.as_slice(), first.update.withdrawn.len()), (&[net("192.0.2.0/24")][..], 0));
    let mut learned = LearnedRoutes::default();
    learned.routes.extend(
        members
            .iter()
            .map(|member| (*member, (NextHop::Classic(std::net::Ipv4Addr::UNSPECIFIED), Default::default()))),
    );
    learned.learn(sent);
    assert_eq!(learned.prefixes(), ["192.0.2.0/24"]);
}
