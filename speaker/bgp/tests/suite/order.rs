//! The order of messages: less specific announcements, other announcements, withdrawals, repetitions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use fairlead_bgp::Family;
use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use ipnet::IpNet;
use proptest::prelude::*;

use crate::harness::*;

/// Returns the OPEN of a router with enhanced route refresh (RFC 7313).
fn enhanced_open() -> Open {
    let mut open = peer_open();
    open.capabilities.push(Capability::EnhancedRouteRefresh);
    open
}

fn request(solo: &mut Solo, family: Family) {
    let mut bytes = Vec::new();
    RouteRefresh::request(family).encode(&mut bytes);
    solo.receive(&bytes);
}

/// Describes an UPDATE or ROUTE-REFRESH message: `+` precedes announced prefixes, `-` withdrawn ones.
fn text(message: &Message) -> String {
    let update = match message {
        Message::Update(decoded) => &decoded.update,
        Message::RouteRefresh(RouteRefresh { afi, subtype, .. }) => {
            return format!("{} {afi}", ["request", "begin", "end"][usize::from(*subtype)]);
        }
        other => panic!("{other:?}"),
    };
    let attributes = &update.attributes;
    let reached = attributes.mp_reach.iter().flat_map(|reach| &reach.nlri).chain(&update.nlri);
    let unreached = attributes.mp_unreach.iter().flat_map(|unreach| &unreach.withdrawn);
    let announced = reached.map(|net| format!("+{net}"));
    let parts: Vec<_> =
        announced.chain(unreached.chain(&update.withdrawn).map(|net| format!("-{net}"))).collect();
    if parts.is_empty() { "End-of-RIB".to_owned() } else { parts.join(" ") }
}

fn texts(solo: &mut Solo) -> Vec<String> {
    solo.sent().iter().map(text).collect()
}

#[test]
fn less_specific_routes_come_first_and_withdrawals_last() {
    type Routes<'a> = &'a [(&'a str, u16)];
    // Routes as (prefix, attributes) before and after, and the messages between.
    let table: [(Routes<'_>, Routes<'_>, &[&str]); 5] = [
        // An aggregate replaces its members. Its attributes sort last.
        (
            &[("10.0.0.1/32", 1), ("10.0.0.2/32", 2)],
            &[("10.0.0.0/24", 9), ("10.0.1.1/32", 0)],
            &["+10.0.0.0/24", "+10.0.1.1/32", "-10.0.0.1/32 -10.0.0.2/32"],
        ),
        // The members replace their aggregate.
        (
            &[("10.0.0.0/24", 1)],
            &[("10.0.0.1/32", 1), ("10.0.0.2/32", 0)],
            &["+10.0.0.2/32", "+10.0.0.1/32", "-10.0.0.0/24"],
        ),
        // The length counts before the attributes, and before the address.
        (
            &[],
            &[("10.0.0.0/32", 0), ("10.0.0.0/25", 1), ("10.9.0.0/16", 2), ("10.8.0.0/16", 2)],
            &["+10.8.0.0/16 +10.9.0.0/16", "+10.0.0.0/25", "+10.0.0.0/32"],
        ),
        // Changed attributes are an announcement.
        (&[("10.0.0.0/24", 1), ("10.0.0.1/32", 1)], &[("10.0.0.0/24", 2)], &["+10.0.0.0/24", "-10.0.0.1/32"]),
        // Announcements of both families come before withdrawals of either.
        (
            &[("10.0.0.1/32", 1), ("2001:db8::1/128", 1)],
            &[("10.0.0.2/32", 1), ("2001:db8::2/128", 1)],
            &["+10.0.0.2/32", "+2001:db8::2/128", "-10.0.0.1/32", "-2001:db8::1/128"],
        ),
    ];
    for (before, after, expected) in table {
        let mut solo = Solo::new(config()).established();
        for (prefix, number) in before {
            solo.session.announce(net(prefix), attributes(*number)).unwrap();
        }
        texts(&mut solo);
        before.iter().for_each(|(prefix, _)| solo.session.withdraw(&net(prefix)));
        for (prefix, number) in after {
            solo.session.announce(net(prefix), attributes(*number)).unwrap();
        }
        assert_eq!(texts(&mut solo), expected, "{before:?} to {after:?}");
    }
}

#[test]
fn new_routes_and_withdrawals_overtake_a_route_refresh() {
    let host = |number: u32| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)));
    let mut solo = Solo::new(config());
    (0..10_000).for_each(|number| solo.session.announce(host(number), attributes(1)).unwrap());
    let mut solo = solo.established();
    solo.sent();
    let mut learned = LearnedRoutes::default();
    let (mut new, mut repeated) = (10_000, 0);
    // Ten seconds of requests, one every 10 ms. Each time, the peer reads 4096 octets.
    for round in 0..1000 {
        request(&mut solo, Family::Ipv4Unicast);
        solo.wait(std::time::Duration::from_millis(10));
        let mut bytes = Vec::new();
        if round % 50 == 0 {
            // The attributes sort last, and the addresses too.
            solo.session.announce(host(new), attributes(9)).unwrap();
            solo.session.withdraw(&host(new - 1));
            solo.session.poll_transmit(solo.now, 1, &mut bytes);
            solo.session.poll_transmit(solo.now, 1, &mut bytes);
            let sent: Vec<_> = decode_all(&bytes, solo.context).iter().map(text).collect();
            assert_eq!(sent, [format!("+{}", host(new)), format!("-{}", host(new - 1))], "in round {round}");
            new += 1;
            bytes.clear();
        }
        solo.session.poll_transmit(solo.now, 4096, &mut bytes);
        let messages = decode_all(&bytes, solo.context);
        learned.learn(messages);
        repeated = learned.announced;
    }
    // The refresh is not starved either: 4096 octets carry 809 routes, and it begins once per second.
    assert!((70_000..=110_000).contains(&repeated), "{repeated} routes were repeated");
}

#[test]
fn route_refresh_ends_while_other_routes_change_all_the_time() {
    let host = |number: u32| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)));
    for family in Family::ALL {
        let mut solo = Solo::new(config()).established_with(&enhanced_open());
        for number in 0..3_000 {
            solo.session.announce(host(number), attributes(1)).unwrap();
        }
        solo.session.announce(net("2001:db8::1/128"), attributes(1)).unwrap();
        solo.sent();
        let mut sent = Vec::new();
        for round in 0..200_u16 {
            if round % 100 == 0 {
                request(&mut solo, family);
                solo.wait(secs(1));
            }
            // Before each message that the peer reads, another route changes.
            if round % 2 == 0 {
                solo.session.announce(host(5_000), attributes(round)).unwrap();
            } else {
                solo.session.withdraw(&host(5_000));
            }
            let mut bytes = Vec::new();
            solo.session.poll_transmit(solo.now, 1, &mut bytes);
            sent.extend(decode_all(&bytes, solo.context).iter().map(text));
        }
        let change = |text: &&String| text.ends_with(&host(5_000).to_string());
        let is_mark = |text: &&String| text.starts_with("begin") || text.starts_with("end");
        let marks: Vec<_> = sent.iter().filter(is_mark).map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(marks, ["begin", "end", "begin", "end"], "{family:?}");
        let changes = sent.iter().filter(change).count();
        let repetitions = sent.len() - marks.len() - changes;
        assert!(repetitions <= changes / 16, "{repetitions} repetitions, {changes} changes");
    }
}

#[test]
fn changed_next_hop_overtakes_a_route_refresh() {
    let mut solo = Solo::new(config()).established();
    for number in 0..2_000_u32 {
        let prefix = IpNet::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)));
        solo.session.announce(prefix, attributes(1)).unwrap();
    }
    solo.sent();
    request(&mut solo, Family::Ipv4Unicast);
    let mut bytes = Vec::new();
    solo.session.poll_transmit(solo.now, 1, &mut bytes);
    let mut changed = next_hops();
    changed.v4 = Some(Ipv4Addr::new(192, 0, 2, 9));
    solo.session.set_next_hops(changed);
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    // Each route is sent once, with the new next hop; nothing is left of the refresh.
    assert_eq!((learned.announced, learned.routes.len()), (2_000, 2_000));
}

#[test]
fn route_refresh_is_marked_for_peers_with_enhanced_route_refresh() {
    for (open, marked) in [(peer_open(), false), (enhanced_open(), true)] {
        let mut solo = Solo::new(config());
        solo.session.announce(net("10.0.0.1/32"), attributes(1)).unwrap();
        let mut solo = solo.established_with(&open);
        assert_eq!(solo.session.negotiated().unwrap().enhanced_route_refresh, marked);
        // RFC 7313 §4.1: no mark before the End-of-RIB marker.
        request(&mut solo, Family::Ipv4Unicast);
        let initial = ["+10.0.0.1/32", "End-of-RIB", "End-of-RIB"];
        let refresh: &[&str] = if marked { &["begin 1", "+10.0.0.1/32", "end 1"] } else { &["+10.0.0.1/32"] };
        assert_eq!(texts(&mut solo), [&initial, refresh].concat());
        // Requests during the second after a refresh are answered once, by one more refresh.
        request(&mut solo, Family::Ipv4Unicast);
        request(&mut solo, Family::Ipv4Unicast);
        assert_eq!(texts(&mut solo), [""; 0]);
        solo.wait(secs(1));
        assert_eq!(texts(&mut solo), refresh);
        // A family without routes has marks too.
        solo.wait(secs(1));
        request(&mut solo, Family::Ipv6Unicast);
        assert_eq!(texts(&mut solo), if marked { &["begin 2", "end 2"][..] } else { &[] });
        assert_eq!(solo.session.pending(), 0);
    }
}

#[test]
fn end_of_route_refresh_waits_for_routes_that_changed_meanwhile() {
    let mut solo = Solo::new(config()).established_with(&enhanced_open());
    for prefix in ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"] {
        solo.session.announce(net(prefix), attributes(1)).unwrap();
    }
    solo.sent();
    request(&mut solo, Family::Ipv4Unicast);
    let mut bytes = Vec::new();
    solo.session.poll_transmit(solo.now, 1, &mut bytes);
    assert_eq!(decode_all(&bytes, solo.context).iter().map(text).collect::<Vec<_>>(), ["begin 1"]);
    solo.session.announce(net("10.0.0.1/32"), attributes(2)).unwrap();
    solo.session.withdraw(&net("10.0.0.2/32"));
    solo.session.announce(net("10.0.0.4/32"), attributes(1)).unwrap();
    assert_eq!(
        texts(&mut solo),
        ["+10.0.0.4/32", "+10.0.0.1/32", "-10.0.0.2/32", "+10.0.0.3/32", "end 1"],
        "every route that the peer has was sent after the beginning"
    );
}

#[test]
fn stopped_session_answers_no_route_refresh() {
    let mut solo = Solo::new(config()).established_with(&enhanced_open());
    solo.session.announce(net("10.0.0.1/32"), attributes(1)).unwrap();
    solo.sent();
    solo.stop();
    request(&mut solo, Family::Ipv4Unicast);
    let sent = solo.sent();
    let [withdrawal, Message::Notification(_)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(text(withdrawal), "-10.0.0.1/32");
}

#[test]
fn marks_of_the_peer_are_ignored_and_their_length_is_checked() {
    // Subtype and length after the header, enhanced route refresh offered → NOTIFICATION.
    for (subtype, octets, offered, expected) in [
        (1, 4, true, None),
        (2, 4, true, None),
        (0, 4, true, None),
        // Filters of RFC 5291.
        (0, 9, true, None),
        (1, 5, true, Some((7, 1))),
        (2, 60, true, Some((7, 1))),
        (1, 5, false, None),
        // RFC 7313 §5: unknown subtypes are ignored.
        (3, 4, true, None),
        (255, 9, true, None),
    ] {
        let mut solo = Solo::new(config());
        solo.session.announce(net("10.0.0.1/32"), attributes(1)).unwrap();
        let mut solo = solo.established_with(&if offered { enhanced_open() } else { peer_open() });
        solo.sent();
        let mut body = vec![0, 1, subtype, 1];
        body.resize(octets, 0);
        let bytes = message(5, &body);
        solo.receive(&bytes);
        let sent = solo.sent();
        match expected {
            Some(codes) => {
                let [Message::Notification(notification)] = sent.as_slice() else { panic!("{sent:?}") };
                assert_eq!((notification.code, notification.subcode), codes);
                assert_eq!(notification.data, bytes, "the data is the whole message");
                let reason = solo.down_reason().to_string();
                let name = "7/1 (ROUTE-REFRESH Message Error: Invalid Message Length)";
                assert!(reason.contains(name), "{reason}");
            }
            None => {
                let routes = sent.iter().filter(|sent| text(sent) == "+10.0.0.1/32").count();
                assert_eq!(routes, usize::from(subtype == 0), "subtype {subtype}, {octets} octets");
                assert!(solo.session.negotiated().is_some(), "subtype {subtype}, {octets} octets");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Edit(Vec<(u32, Option<u16>)>),
    Pull(usize),
    Refresh,
    NextHop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let edit = (1..31_u32, proptest::option::of(0..3_u16));
    prop_oneof![
        5 => proptest::collection::vec(edit, 1..12).prop_map(Step::Edit),
        4 => (1..120_usize).prop_map(Step::Pull),
        2 => Just(Step::Refresh),
        1 => (1..4_u8).prop_map(Step::NextHop),
    ]
}

/// Returns the prefixes of 10.0.0.0/28 and in it by number: 1 is 10.0.0.0/28, 2 and 3 are its halves, and so
/// on down to /32.
fn prefix(number: u32) -> IpNet {
    let depth = number.ilog2();
    let offset = (number - (1 << depth)) << (4 - depth);
    IpNet::new(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + offset)), 28 + u8::try_from(depth).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// After each message, an address that was covered before and should be covered is covered. At the end of
    /// a route refresh, the peer has received every route since its beginning.
    #[test]
    fn address_that_stays_covered_is_covered_after_each_message(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let addresses: Vec<_> = (0..16).map(|n| Ipv4Addr::from(0x0A00_0000 + n)).map(IpAddr::from).collect();
        let covers = |nets: &mut dyn Iterator<Item = IpNet>| -> Vec<bool> {
            let nets: Vec<_> = nets.collect();
            addresses.iter().map(|address| nets.iter().any(|net| net.contains(address))).collect()
        };
        let mut solo = Solo::new(config()).established_with(&enhanced_open());
        let mut learned = LearnedRoutes::default();
        // Routes that the peer deletes at the end of the route refresh.
        let mut stale = Vec::new();
        let mut wanted = BTreeMap::new();
        let finish = [Step::Pull(usize::MAX), Step::Pull(usize::MAX)];
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Edit(edits) => for (number, attribute) in edits {
                    match attribute {
                        Some(attribute) => {
                            solo.session.announce(prefix(number), attributes(attribute)).unwrap();
                            wanted.insert(prefix(number), ());
                        }
                        None => {
                            solo.session.withdraw(&prefix(number));
                            wanted.remove(&prefix(number));
                        }
                    }
                },
                Step::Pull(max) => {
                    solo.wait(secs(1));
                    let mut bytes = Vec::new();
                    solo.session.poll_transmit(solo.now, max, &mut bytes);
                    for message in decode_all(&bytes, solo.context) {
                        let before = covers(&mut learned.routes.keys().copied());
                        match text(&message).as_str() {
                            "begin 1" => stale = learned.routes.keys().copied().collect(),
                            "end 1" => prop_assert_eq!(std::mem::take(&mut stale), []),
                            text => {
                                stale.retain(|net| {
                                    !text.split(' ').any(|part| part[1..] == net.to_string())
                                });
                                learned.learn(vec![message]);
                            }
                        }
                        let after = covers(&mut learned.routes.keys().copied());
                        let should = covers(&mut wanted.keys().copied());
                        for (index, address) in addresses.iter().enumerate() {
                            prop_assert!(
                                after[index] || !before[index] || !should[index],
                                "{} was uncovered", address
                            );
                        }
                    }
                }
                Step::Refresh => request(&mut solo, Family::Ipv4Unicast),
                Step::NextHop(last) => {
                    let mut changed = next_hops();
                    changed.v4 = Some(Ipv4Addr::new(192, 0, 2, last));
                    solo.session.set_next_hops(changed);
                }
            }
        }
        prop_assert_eq!(learned.routes.len(), wanted.len());
        prop_assert!(stale.is_empty(), "every route refresh ends");
    }
}
