//! The routes that the peer learns: only differences, packed into as few UPDATEs as possible.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::attribute::PathAttributes;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::{Community, Family, NextHops, SessionInput};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::harness::*;

pub(crate) fn host(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)))
}

pub(crate) fn host_v6(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::from(
        (0x2001_0db8_u128 << 96) + u128::from(number),
    )))
}

/// Lets the peer read everything that is pending. Returns the number of UPDATEs.
pub(crate) fn read(solo: &mut Solo, learned: &mut LearnedRoutes) -> usize {
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
