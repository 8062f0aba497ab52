//! What the peer learns: only differences, packed, in as few UPDATEs as can be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::MpNextHop;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::{
    Attributes, Community, Family, LargeCommunity, NextHops, Origin, PeerAs, SessionConfig, SessionInput,
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

/// What the peer knows after it read all there is.
fn read(solo: &mut Solo, table: &mut LearnedRoutes) -> usize {
    let before = table.updates;
    table.learn(solo.sent());
    assert_eq!(solo.session.pending(), 0);
    assert_eq!(solo.session.announced(), table.routes.len());
    table.updates - before
}

#[test]
fn ten_thousand_prefixes_with_three_sets_of_attributes_travel_in_few_updates() {
    let mut solo = Solo::new(config());
    for number in 0..10_000 {
        solo.session.announce(host(number), attributes(u16::try_from(number % 3).unwrap())).unwrap();
    }
    let mut solo = solo.established();
    let mut table = LearnedRoutes::default();
    // 4096 − 23 − 27 octets of attributes hold 809 prefixes of 5: 4 or 5 messages of 3333, and 2 End-of-RIB.
    let updates = read(&mut solo, &mut table);
    assert_eq!(updates, 15 + 2);
    assert_eq!(table.routes.len(), 10_000);
    assert_eq!(table.end_of_rib, Family::ALL);

    // One change costs one UPDATE, with one prefix.
    solo.session.announce(host(77), attributes(9)).unwrap();
    assert_eq!(read(&mut solo, &mut table), 1);
    assert_eq!(table.announced, 10_001);
    assert_eq!(table.routes[&host(77)].1.communities, [Community(64512, 9)]);
    // The same again costs nothing, even as another value of equal content.
    solo.session.announce(host(77), attributes(9)).unwrap();
    assert_eq!(read(&mut solo, &mut table), 0);
    // Withdrawals are packed and split too: 4073 octets hold 814.
    for number in 0..10_000 {
        solo.session.withdraw(&host(number));
    }
    assert_eq!(read(&mut solo, &mut table), 13);
    assert!(table.routes.is_empty());
    assert_eq!(solo.session.routes(), 0);
}

#[test]
fn extended_messages_hold_more() {
    let mut open = peer_open();
    open.capabilities.push(Capability::ExtendedMessage);
    let mut solo = Solo::new(config()).established_with(&open);
    let mut table = LearnedRoutes::default();
    for number in 0..13_000 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    // 65535 octets hold some 13,000 prefixes of 5 octets and 3,850 of 17.
    assert_eq!(read(&mut solo, &mut table), 1 + 4 + 2);
    assert_eq!(table.routes.len(), 26_000);
}

#[test]
fn no_message_is_longer_than_agreed() {
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
fn changes_while_the_peer_does_not_read_cost_one_message_each_prefix() {
    let mut solo = Solo::new(config()).established();
    let mut table = LearnedRoutes::default();
    read(&mut solo, &mut table);
    for round in 0..100 {
        solo.session.announce(host(1), attributes(round)).unwrap();
        solo.session.announce(host(2), attributes(round)).unwrap();
        solo.session.withdraw(&host(1));
    }
    assert_eq!(solo.session.pending(), 1);
    assert_eq!(read(&mut solo, &mut table), 1, "host 1 came and went unseen");
    assert_eq!(table.routes[&host(2)].1.communities, [Community(64512, 99)]);
    // There and back again: the peer hears nothing.
    solo.session.withdraw(&host(2));
    solo.session.announce(host(2), attributes(99)).unwrap();
    assert_eq!(read(&mut solo, &mut table), 0);
}

#[test]
fn host_bits_do_not_make_another_route() {
    let mut solo = Solo::new(config()).established();
    let mut table = LearnedRoutes::default();
    solo.session.announce(net("192.0.2.7/24"), attributes(1)).unwrap();
    solo.session.announce(net("192.0.2.9/24"), attributes(1)).unwrap();
    read(&mut solo, &mut table);
    assert_eq!(table.prefixes(), ["192.0.2.0/24"]);
    solo.session.withdraw(&net("192.0.2.1/24"));
    read(&mut solo, &mut table);
    assert!(table.routes.is_empty());
}

#[test]
fn attributes_depend_on_the_kind_of_peer() {
    let route = Arc::new(Attributes {
        origin: Origin::Incomplete,
        med: Some(5),
        local_pref: Some(200),
        communities: [Community(2, 2), Community(1, 1)].into(),
        large_communities: [LargeCommunity(3, 2, 1)].into(),
    });
    let learn = |config: SessionConfig, open: &Open| {
        let mut solo = Solo::new(config).established_with(open);
        solo.session.announce(net("203.0.113.1/32"), route.clone()).unwrap();
        solo.session.announce(net("203.0.113.2/32"), Arc::default()).unwrap();
        let mut table = LearnedRoutes::default();
        read(&mut solo, &mut table);
        let [first, second] =
            [net("203.0.113.1/32"), net("203.0.113.2/32")].map(|net| table.routes[&net].1.clone());
        (first, second)
    };
    // eBGP: the path starts with our AS; LOCAL_PREF stays at home.
    let (full, plain) = learn(config(), &peer_open());
    assert_eq!(full.as_path, Some(AsPath::originated_by(LOCAL_AS)));
    assert_eq!((full.local_pref, full.med, full.origin), (None, Some(5), Some(Origin::Incomplete)));
    assert_eq!(full.communities, [Community(1, 1), Community(2, 2)]);
    assert_eq!(full.large_communities, [LargeCommunity(3, 2, 1)]);
    assert_eq!((plain.local_pref, plain.med, plain.origin), (None, None, Some(Origin::Igp)));
    // iBGP: empty path, LOCAL_PREF always.
    let internal = SessionConfig { peer_asn: PeerAs::Internal, ..config() };
    let mut open = Open { my_as: 64512, ..peer_open() };
    open.capabilities.pop();
    open.capabilities.push(Capability::FourOctetAs(LOCAL_AS));
    let (full, plain) = learn(internal, &open);
    assert_eq!(full.as_path, Some(AsPath::default()));
    assert_eq!((full.local_pref, plain.local_pref), (Some(200), Some(100)));
    // A peer with two-octet AS numbers, and a local AS that has four.
    let large = SessionConfig { local_asn: 4_200_000_001, ..config() };
    let old = Open { capabilities: vec![Capability::multi_protocol(Family::Ipv4Unicast)], ..peer_open() };
    let (full, _) = learn(large, &old);
    assert_eq!(full.as_path, Some(AsPath::originated_by(23456)));
    assert_eq!(full.as4_path, Some(AsPath::originated_by(4_200_000_001)));
    let (full, _) = learn(config(), &old);
    assert_eq!((full.as_path, full.as4_path), (Some(AsPath::originated_by(LOCAL_AS)), None));
}

#[test]
fn next_hops_travel_as_the_session_allows() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let v4 = Some(address);
    let v6 = "2001:db8::1".parse().ok();
    let link_local = "fe80::1".parse().ok();
    let (global, local) = (v6.unwrap(), link_local.unwrap());
    let classic = Some(NextHop::Classic(address));
    let single = Some(NextHop::MultiProtocol(MpNextHop::V6(global)));
    let both = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(global, local)));
    let only_local = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(local, local)));
    // (next hops, the peer offers RFC 8950, over IPv6) → next hop of IPv4 routes and of IPv6 routes
    for (next_hops, offered, over_ipv6, expect) in [
        (NextHops { v4, v6, link_local: None }, false, false, (classic, single)),
        (NextHops { v4, v6, link_local }, false, true, (classic, both)),
        (NextHops { v4, v6: None, link_local: None }, false, false, (classic, None)),
        (NextHops { v4: None, v6, link_local: None }, false, true, (None, single)),
        (NextHops { v4: None, v6, link_local: None }, true, true, (single, single)),
        (NextHops { v4: None, v6, link_local }, true, true, (both, both)),
        (NextHops { v4: None, v6: None, link_local }, true, true, (only_local, only_local)),
        // Not offered by us over IPv4, so not negotiated.
        (NextHops { v4: None, v6, link_local: None }, true, false, (None, single)),
        (NextHops::default(), true, true, (None, None)),
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
        let mut table = LearnedRoutes::default();
        table.learn(solo.sent());
        let next_hop = |prefix| table.routes.get(&prefix).map(|route| route.0);
        assert_eq!((next_hop(host(1)), next_hop(host_v6(1))), expect, "{next_hops:?}");
        assert_eq!(
            solo.session.withheld().len(),
            [expect.0, expect.1].iter().filter(|n| n.is_none()).count()
        );
        // What was announced can be withdrawn in the same fields.
        solo.session.withdraw(&host(1));
        solo.session.withdraw(&host_v6(1));
        table.learn(solo.sent());
        assert!(table.routes.is_empty());
    }
}

#[test]
fn a_new_next_hop_sends_the_routes_again() {
    let mut solo = Solo::new(config()).established();
    let mut table = LearnedRoutes::default();
    for number in 0..100 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    read(&mut solo, &mut table);
    let other = NextHops { v4: Some(Ipv4Addr::new(192, 0, 2, 99)), ..next_hops() };
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut table), 1, "IPv4 only");
    assert!(table.routes.iter().all(|(prefix, route)| {
        Family::of(prefix) == Family::Ipv6Unicast || route.0 == NextHop::Classic(Ipv4Addr::new(192, 0, 2, 99))
    }));
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut table), 0);
}

#[test]
fn route_refresh_sends_the_family_again_once() {
    let mut solo = Solo::new(config()).established();
    let mut table = LearnedRoutes::default();
    for number in 0..100 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    read(&mut solo, &mut table);
    table.routes.retain(|prefix, _| Family::of(prefix) == Family::Ipv4Unicast);
    let mut flood = Vec::new();
    (0..1000).for_each(|_| RouteRefresh::new(Family::Ipv6Unicast).encode(&mut flood));
    // Requests for families that are not carried, and subtypes of RFC 7313, are ignored.
    RouteRefresh { afi: 25, subtype: 0, safi: 70 }.encode(&mut flood);
    RouteRefresh { afi: 1, subtype: 1, safi: 1 }.encode(&mut flood);
    solo.receive(&flood);
    solo.session.withdraw(&host_v6(5));
    table.routes.insert(host_v6(5), table.routes[&host(1)].clone());
    // One withdrawal, one announcement of the other 99.
    assert_eq!(read(&mut solo, &mut table), 2);
    assert_eq!(table.routes.len(), 199);
}

#[test]
fn a_new_connection_starts_from_nothing() {
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
fn end_of_rib_follows_the_last_route_of_the_first_sync_and_comes_once() {
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
fn a_portion_is_as_large_as_asked_for_and_ends_with_a_message() {
    let mut solo = Solo::new(config()).established();
    (0..5000).for_each(|number| solo.session.announce(host(number), attributes(1)).unwrap());
    let mut portion = Vec::new();
    assert!(solo.session.poll_transmit(solo.now, 6000, &mut portion));
    assert!(portion.len() >= 6000 && portion.len() < 6000 + 4096);
    decode_all(&portion, solo.context);
    let pending = solo.session.pending();
    assert!(pending > 3000, "{pending} wait as differences, not as bytes");
}

#[test]
fn communities_that_no_message_can_hold_are_refused() {
    let mut solo = Solo::new(config()).established();
    let with = |count: u16| {
        Arc::new(Attributes {
            communities: (0..count).map(|value| Community(1, value)).collect(),
            ..Attributes::default()
        })
    };
    solo.session.announce(host(1), with(960)).unwrap();
    let error = solo.session.announce(host(2), with(961)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the communities of the route need 3844 octets; an UPDATE has room for 3840"
    );
    let mut table = LearnedRoutes::default();
    read(&mut solo, &mut table);
    assert_eq!(table.routes.keys().copied().collect::<Vec<_>>(), [host(1)]);
    // The largest that are taken fit with any prefix and any next hop.
    let mut solo = Solo::over_ipv6(SessionConfig { local_asn: 4_200_000_001, ..config() });
    solo.next_hops.link_local = "fe80::1".parse().ok();
    let mut solo = solo.established();
    solo.session
        .announce(
            host_v6(1),
            Arc::new(Attributes { med: Some(1), local_pref: Some(1), ..(*with(960)).clone() }),
        )
        .unwrap();
    let mut table = LearnedRoutes::default();
    read(&mut solo, &mut table);
    assert_eq!(table.routes.len(), 1);
}

#[test]
fn equal_routes_in_any_order_make_equal_bytes() {
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
        1 => any::<bool>().prop_map(|v4| Step::Refresh(if v4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast })),
        1 => any::<bool>().prop_map(Step::NextHop),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: in the end the peer knows what it should, and was never told to withdraw what
    /// it did not know ([`LearnedRoutes::learn`] checks that).
    #[test]
    fn the_peer_ends_up_with_what_it_should_know(steps in proptest::collection::vec(step(), 0..80)) {
        // Even numbers are IPv4, odd ones IPv6.
        let prefix = |number: u32| if number.is_multiple_of(2) { host(number) } else { host_v6(number) };
        let mut solo = Solo::new(config()).established();
        let mut table = LearnedRoutes::default();
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
                    table.learn(decode_all(&bytes, solo.context));
                }
                Step::Refresh(family) => {
                    let mut bytes = Vec::new();
                    RouteRefresh::new(family).encode(&mut bytes);
                    solo.receive(&bytes);
                }
                Step::NextHop(there) => {
                    has_v6 = there;
                    solo.session.set_next_hops(NextHops { v6: next_hops().v6.filter(|_| there), ..next_hops() });
                }
                Step::Reset => {
                    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
                    let wait = solo.session.poll_timeout().unwrap() - solo.now;
                    solo.wait(wait);
                    solo.next_hops = next_hops();
                    solo.reestablish();
                    has_v6 = true;
                    table = LearnedRoutes::default();
                }
            }
            prop_assert_eq!(solo.session.routes(), model.len());
        }
        table.learn(solo.sent());
        let known: BTreeMap<_, _> = table.routes.iter().map(|(net, route)| (*net, route.1.communities[0].1)).collect();
        model.retain(|net, _| has_v6 || Family::of(net) == Family::Ipv4Unicast);
        prop_assert_eq!(solo.session.announced(), known.len());
        prop_assert_eq!(known, model);
        prop_assert_eq!(solo.session.pending(), 0);
    }
}
