//! The responder as the network sees it: what comes out for what goes in, in simulated time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_l2::{
    ALL_NODES, Counters, Event, Interface, InterfaceSet, Mac, NdpPacket, Responder, Transmit, solicited_node,
};
use proptest::prelude::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const CLIENT: Mac = [0x02, 0, 0, 0, 0, 0xaa];

fn v4() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn v6() -> IpAddr {
    IpAddr::V6(ipv6("2001:db8::1"))
}

fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn mac(index: u32) -> Mac {
    [0x02, 0, 0, 0, 1, index as u8]
}

fn interface(index: u32, name: &str) -> Interface {
    let link_local = Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, index as u16));
    Interface { index, name: name.into(), mac: mac(index), arp: true, link_local }
}

fn named(names: &[&str]) -> InterfaceSet {
    InterfaceSet::Named(Arc::new(names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>()))
}

fn arp_request(to: Mac, from: Mac, sender: &str, target: &str) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], &from].concat();
    frame.extend(sender.parse::<Ipv4Addr>().unwrap().octets());
    frame.extend([0; 6]);
    frame.extend(target.parse::<Ipv4Addr>().unwrap().octets());
    frame
}

fn solicitation(target: &str) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ipv6(target).octets());
    message
}

/// A responder with its clock.
struct Bench {
    responder: Responder,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(interfaces: &[(u32, &str)]) -> Self {
        let now = Instant::now();
        let mut responder = Responder::new();
        for (index, name) in interfaces {
            responder.set_interface(now, interface(*index, name));
        }
        Self { responder, start: now, now }
    }

    fn announce(&mut self, address: IpAddr, on: InterfaceSet) {
        self.responder.announce(self.now, address, on);
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.responder.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.responder.poll_event()).collect()
    }

    /// Lets time pass until nothing is left to do; what was sent, with milliseconds since the start.
    fn run(&mut self) -> Vec<(u128, Transmit)> {
        let mut log = Vec::new();
        loop {
            let at = (self.now - self.start).as_millis();
            log.extend(self.sent().into_iter().map(|transmit| (at, transmit)));
            let Some(next) = self.responder.poll_timeout() else { return log };
            self.now = self.now.max(next);
            self.responder.handle_timeout(self.now);
        }
    }

    fn arp(&mut self, ifindex: u32, frame: &[u8]) -> Vec<Transmit> {
        self.responder.handle_arp(self.now, ifindex, frame);
        self.sent()
    }

    fn ndp(&mut self, ifindex: u32, source: &str, message: &[u8]) -> Vec<Transmit> {
        let packet = NdpPacket { source: ipv6(source), destination: None, hop_limit: 255, message };
        self.responder.handle_ndp(self.now, ifindex, packet);
        self.sent()
    }
}

#[test]
fn arp_requests_are_answered_or_not() {
    const EVERYBODY: Mac = [0xff; 6];
    const ELSE: Mac = [0x02, 0, 0, 0, 0, 0xbb];
    let us = mac(ETH0);
    let table = [
        ("broadcast", arp_request(EVERYBODY, CLIENT, "192.0.2.9", "192.0.2.1"), true),
        ("unicast to us", arp_request(us, CLIENT, "192.0.2.9", "192.0.2.1"), true),
        ("RFC 5227 probe", arp_request(EVERYBODY, CLIENT, "0.0.0.0", "192.0.2.1"), true),
        ("unicast to somebody else", arp_request(ELSE, CLIENT, "192.0.2.9", "192.0.2.1"), false),
        ("another address", arp_request(EVERYBODY, CLIENT, "192.0.2.9", "192.0.2.2"), false),
        ("our own", arp_request(EVERYBODY, us, "192.0.2.9", "192.0.2.1"), false),
    ];
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.run();
    for (name, frame, answered) in table {
        let sent = bench.arp(ETH0, &frame);
        assert_eq!(sent.len(), usize::from(answered), "{name}");
        for transmit in sent {
            let Transmit::Arp { ifindex: ETH0, frame } = transmit else { panic!("{name}: {transmit:?}") };
            assert_eq!((&frame[..6], &frame[22..28], frame[21]), (&CLIENT[..], &us[..], 2), "{name}");
        }
    }
    let (_, counts) = bench.responder.announced().next().unwrap();
    assert_eq!((counts.requests, counts.responses, counts.conflicts), (3, 3, 0));
    assert_eq!(bench.responder.counters(), Counters { malformed: 0, not_announced: 1, ignored: 2 });
}

#[test]
fn solicitations_are_answered_for_announced_addresses_only() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v6(), InterfaceSet::All);
    bench.run();
    for (name, source, target, to) in [
        ("resolution", "fe80::9", "2001:db8::1", Some("fe80::9")),
        ("from a global address", "2001:db8::9", "2001:db8::1", Some("2001:db8::9")),
        ("duplicate address detection", "::", "2001:db8::1", Some("ff02::1")),
        ("another address", "fe80::9", "2001:db8::2", None),
    ] {
        let sent = bench.ndp(ETH0, source, &solicitation(target));
        let destinations = sent.iter().filter_map(|transmit| match transmit {
            Transmit::Ndp { ifindex: ETH0, destination, .. } => Some(*destination),
            _ => None,
        });
        let destinations: Vec<_> = destinations.collect();
        assert_eq!(destinations, to.map(ipv6).into_iter().collect::<Vec<_>>(), "{name}");
    }
    let own = [solicitation("2001:db8::1"), vec![1, 1], mac(ETH0).to_vec()].concat();
    assert!(bench.ndp(ETH0, "fe80::2", &own).is_empty(), "our own");
}

#[test]
fn answers_stay_on_the_interfaces_of_the_announcement() {
    let mut bench = Bench::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    bench.announce(v4(), named(&["eth1"]));
    assert_eq!(bench.responder.interfaces_of(v4()), ["eth1"]);
    assert!(bench.run().iter().all(|(_, transmit)| transmit.ifindex() == ETH1));
    let request = arp_request([0xff; 6], CLIENT, "192.0.2.9", "192.0.2.1");
    assert!(bench.arp(ETH0, &request).is_empty());
    assert_eq!(bench.arp(ETH1, &request).len(), 1);
    assert!(bench.arp(77, &request).is_empty(), "an interface never told of");

    bench.announce(v4(), named(&["eth0"]));
    assert!(bench.run().iter().all(|(_, transmit)| transmit.ifindex() == ETH0), "only the new one is told");
    assert_eq!(bench.arp(ETH0, &request).len(), 1);
    assert!(bench.arp(ETH1, &request).is_empty());

    bench.announce(v4(), named(&["eth7"]));
    assert!(bench.responder.interfaces_of(v4()).is_empty(), "nobody hears of it");
}

#[test]
fn a_take_over_is_told_for_five_seconds() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.announce(v6(), InterfaceSet::All);
    let log = bench.run();
    let times = |want_arp: bool| -> Vec<u128> {
        log.iter().filter(|(_, t)| matches!(t, Transmit::Arp { .. }) == want_arp).map(|(at, _)| *at).collect()
    };
    let expected = [0, 100, 500, 1100, 2200, 3300, 4400];
    assert_eq!(times(false), expected);
    assert_eq!(times(true), expected.iter().flat_map(|at| [*at, *at]).collect::<Vec<_>>(), "two forms each");
    assert!(log.iter().all(|(_, transmit)| match transmit {
        Transmit::Arp { frame, .. } => frame[..6] == [0xff; 6],
        Transmit::Ndp { destination, message, .. } => *destination == ALL_NODES && message[4] == 0x20,
    }));
    let counts: Vec<_> = bench.responder.announced().map(|(_, counts)| counts.gratuitous).collect();
    assert_eq!(counts, [14, 7]);
}

#[test]
fn announcing_again_unchanged_is_silent() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.run();
    bench.announce(v4(), InterfaceSet::All);
    assert_eq!(bench.run(), []);
    bench.responder.announce_all_again(bench.now);
    assert_eq!(bench.run().len(), 14, "announcements are repeated on request");
}

/// Which of the two addresses are answered for now.
fn answered(bench: &mut Bench) -> [bool; 2] {
    let arp = bench.arp(ETH0, &arp_request([0xff; 6], CLIENT, "192.0.2.9", "192.0.2.1"));
    let ndp = bench.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1"));
    [arp, ndp].map(|sent| !sent.is_empty())
}

#[test]
fn handover_answers_for_300_ms_then_withdraws() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.announce(v6(), InterfaceSet::All);
    bench.sent();
    bench.events();
    bench.responder.hand_over(bench.now, v4());
    bench.responder.hand_over(bench.now, v6());
    let end = bench.now + Duration::from_millis(300);
    assert_eq!(bench.responder.poll_timeout(), Some(end), "no announcements are left");

    bench.now = end - Duration::from_millis(1);
    bench.responder.handle_timeout(bench.now);
    assert_eq!(bench.sent(), []);
    assert_eq!(answered(&mut bench), [true, true], "just before the end");

    bench.now = end;
    bench.responder.handle_timeout(bench.now);
    assert_eq!(answered(&mut bench), [false, false], "at the end");
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(bench.events(), [Event::LeaveGroup { ifindex: ETH0, group }]);
    assert_eq!(bench.responder.announced().len(), 0);
    assert_eq!(bench.responder.poll_timeout(), None);
}

#[test]
fn handover_interrupted_by_other_calls() {
    type Call = fn(&mut Bench);
    let table: [(&str, Call, bool, usize); 7] = [
        ("nothing", |_| {}, false, 0),
        ("announce unchanged", |bench| bench.announce(v4(), named(&["eth0"])), true, 14),
        ("announce elsewhere too", |bench| bench.announce(v4(), named(&["eth0", "eth1"])), true, 28),
        ("announce elsewhere only", |bench| bench.announce(v4(), named(&["eth1"])), false, 14),
        ("withdraw", |bench| bench.responder.withdraw(v4()), false, 0),
        ("announce all again", |bench| bench.responder.announce_all_again(bench.now), false, 0),
        ("announce another address", |bench| bench.announce(v6(), named(&["eth0"])), false, 7),
    ];
    for (name, call, stays, announcements) in table {
        let mut bench = Bench::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
        bench.announce(v4(), named(&["eth0"]));
        bench.run();
        bench.responder.hand_over(bench.now, v4());
        bench.now += Duration::from_millis(100);
        call(&mut bench);
        assert_eq!(bench.run().len(), announcements, "{name}: frames sent");
        bench.now += Duration::from_secs(1);
        bench.responder.handle_timeout(bench.now);
        let request = arp_request([0xff; 6], CLIENT, "192.0.2.9", "192.0.2.1");
        assert_eq!(bench.arp(ETH0, &request).len(), usize::from(stays), "{name}: answered after the overlap");
    }
}

#[test]
fn handover_of_unannounced_address_does_nothing() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.responder.hand_over(bench.now, v4());
    assert_eq!(bench.responder.poll_timeout(), None);
}

#[test]
fn second_handover_starts_overlap_again() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.run();
    bench.responder.hand_over(bench.now, v4());
    bench.now += Duration::from_millis(200);
    bench.responder.hand_over(bench.now, v4());
    assert_eq!(bench.responder.poll_timeout(), Some(bench.now + Duration::from_millis(300)));
}

#[test]
fn an_address_that_another_host_announces_is_defended_every_ten_seconds_at_most() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.run();
    let foreign = arp_request([0xff; 6], CLIENT, "192.0.2.1", "192.0.2.1");
    assert_eq!(bench.arp(ETH0, &foreign).len(), 2, "at once");
    assert_eq!(bench.run().len(), 12, "and a few times more");
    assert_eq!(bench.arp(ETH0, &foreign).len(), 0);
    bench.now += std::time::Duration::from_secs(10);
    assert_eq!(bench.arp(ETH0, &foreign).len(), 2);
    bench.now += std::time::Duration::from_secs(10);
    bench.responder.hand_over(bench.now, v4());
    assert_eq!(bench.arp(ETH0, &foreign).len(), 0, "not while another node takes it over");
    assert_eq!(bench.run(), []);
}

#[test]
fn withdrawal_ends_everything_at_once() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.announce(v6(), InterfaceSet::All);
    bench.sent();
    bench.responder.withdraw(v4());
    bench.responder.withdraw(v6());
    bench.responder.withdraw(v6());
    assert_eq!(bench.run(), []);
    assert!(bench.arp(ETH0, &arp_request([0xff; 6], CLIENT, "192.0.2.9", "192.0.2.1")).is_empty());
    assert!(bench.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")).is_empty());
    assert_eq!(bench.responder.announced().len(), 0);
}

#[test]
fn an_interface_that_appears_later_joins_and_announces() {
    let mut bench = Bench::new(&[]);
    bench.announce(v4(), InterfaceSet::All);
    bench.announce(v6(), InterfaceSet::All);
    assert_eq!((bench.run(), bench.events()), (vec![], vec![]));

    bench.responder.set_interface(bench.now, interface(ETH0, "eth0"));
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(bench.events(), [Event::JoinGroup { ifindex: ETH0, group }]);
    assert_eq!(bench.run().len(), 7 * 3);

    bench.responder.set_interface(bench.now, interface(ETH0, "eth0"));
    assert_eq!(bench.run(), [], "telling the same twice changes nothing");

    bench.responder.remove_interface(ETH0);
    assert_eq!(bench.events(), [], "its socket is gone with it");
    bench.responder.set_interface(bench.now, interface(ETH0, "eth0"));
    assert_eq!(bench.events().len(), 1);
    assert_eq!(bench.run().len(), 7 * 3, "up again, told again");
}

#[test]
fn ndp_begins_when_the_link_local_address_is_there() {
    let mut bench = Bench::new(&[]);
    bench.announce(v6(), InterfaceSet::All);
    bench.responder.set_interface(bench.now, Interface { link_local: None, ..interface(ETH0, "eth0") });
    assert_eq!((bench.run(), bench.events()), (vec![], vec![]));
    bench.responder.set_interface(bench.now, interface(ETH0, "eth0"));
    assert_eq!((bench.run().len(), bench.events().len()), (7, 1));
}

#[test]
fn another_hardware_address_is_announced_and_answered_with() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v4(), InterfaceSet::All);
    bench.announce(v6(), InterfaceSet::All);
    bench.run();
    bench.events();
    let other: Mac = [0x02, 9, 9, 9, 9, 9];
    bench.responder.set_interface(bench.now, Interface { mac: other, ..interface(ETH0, "eth0") });
    let log = bench.run();
    assert_eq!(log.len(), 7 * 3);
    for (_, transmit) in log {
        match transmit {
            Transmit::Arp { frame, .. } => {
                assert_eq!((&frame[6..12], &frame[22..28]), (&other[..], &other[..]))
            }
            Transmit::Ndp { message, .. } => assert_eq!(message[26..32], other),
        }
    }
    assert_eq!(bench.events(), [], "it stays in its groups");
    let old = arp_request(mac(ETH0), CLIENT, "192.0.2.9", "192.0.2.1");
    assert!(bench.arp(ETH0, &old).is_empty(), "a request to the address it had");
}

#[test]
fn a_renamed_interface_follows_the_names() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    bench.announce(v6(), named(&["eth0"]));
    bench.run();
    bench.events();
    bench.responder.set_interface(bench.now, interface(ETH0, "wan"));
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(bench.events(), [Event::LeaveGroup { ifindex: ETH0, group }]);
    assert!(bench.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")).is_empty());
}

#[test]
fn addresses_share_solicited_node_groups() {
    let mut bench = Bench::new(&[(ETH0, "eth0")]);
    let [one, two] = ["2001:db8:1::7", "2001:db8:2::7"].map(|text| IpAddr::V6(ipv6(text)));
    let group = ipv6("ff02::1:ff00:7");
    bench.announce(one, InterfaceSet::All);
    assert_eq!(bench.events(), [Event::JoinGroup { ifindex: ETH0, group }]);
    bench.announce(two, InterfaceSet::All);
    assert_eq!(bench.events(), []);
    bench.responder.withdraw(one);
    assert_eq!(bench.events(), []);
    bench.responder.withdraw(two);
    assert_eq!(bench.events(), [Event::LeaveGroup { ifindex: ETH0, group }]);
}

#[test]
fn ten_thousand_addresses_are_paced() {
    let mut bench = Bench::new(&[]);
    for n in 0..10_000 {
        bench.announce(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)), InterfaceSet::All);
    }
    bench.responder.set_interface(bench.now, interface(ETH0, "eth0"));
    let log = bench.run();
    let mut per_window = std::collections::BTreeMap::<u128, usize>::new();
    for (at, _) in &log {
        *per_window.entry(at / 10).or_default() += 1;
    }
    assert!(per_window.values().all(|frames| *frames <= 2 * 512), "at most 256 announcements in 10 ms");
    let firsts: BTreeSet<_> = log.iter().filter(|(at, _)| *at < 800).map(|(_, t)| format!("{t:?}")).collect();
    assert_eq!(firsts.len(), 2 * 10_000, "every address was announced within 800 ms");
    assert!(log.last().unwrap().0 < 6_000);
}

/// Whatever arrives, only announced addresses are answered for, and only on their interface.
fn check_answers(sent: &[Transmit]) {
    for transmit in sent {
        match transmit {
            Transmit::Arp { ifindex, frame } => {
                assert_eq!((*ifindex, &frame[28..32]), (ETH0, &[192, 0, 2, 1][..]));
            }
            Transmit::Ndp { ifindex, message, .. } => {
                assert_eq!((*ifindex, &message[8..24]), (ETH0, &ipv6("2001:db8::1").octets()[..]));
            }
        }
    }
}

fn announced_on_eth0() -> Bench {
    let mut bench = Bench::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    bench.announce(v4(), named(&["eth0"]));
    bench.announce(v6(), named(&["eth0"]));
    bench.run();
    bench
}

proptest! {
    #[test]
    fn random_bytes_never_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000), ifindex in 1u32..5) {
        let mut bench = announced_on_eth0();
        check_answers(&bench.arp(ifindex, &bytes));
        check_answers(&bench.ndp(ifindex, "fe80::9", &bytes));
        prop_assert!(bench.responder.poll_timeout().is_none());
    }

    #[test]
    fn damaged_requests_never_do_harm(
        damage in prop::collection::vec((0usize..64, any::<u8>()), 0..6),
        cut in 0usize..80,
        hop_limit in any::<u8>(),
        source in any::<u128>(),
        ifindex in 1u32..5,
    ) {
        let harm = |mut bytes: Vec<u8>| {
            bytes.resize(cut.max(20), 0);
            for (at, value) in &damage {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = *value;
                }
            }
            bytes
        };
        let mut bench = announced_on_eth0();
        let request = harm(arp_request([0xff; 6], CLIENT, "192.0.2.9", "192.0.2.1"));
        check_answers(&bench.arp(ifindex, &request));
        let message = harm(solicitation("2001:db8::1"));
        let packet = NdpPacket {
            source: Ipv6Addr::from_bits(source),
            destination: None,
            hop_limit,
            message: &message,
        };
        bench.responder.handle_ndp(bench.now, ifindex, packet);
        let sent = bench.sent();
        check_answers(&sent);
        prop_assert!(hop_limit == 255 || sent.is_empty());
    }

    /// However addresses and interfaces come and go: groups are joined and left in turn, and at the end, with
    /// nothing announced, there is nothing left to do.
    #[test]
    fn groups_are_balanced(steps in prop::collection::vec((0u8..4, 0u16..6, 0u32..2), 0..60)) {
        let mut bench = Bench::new(&[]);
        let mut joined = BTreeSet::new();
        let address = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, n % 3));
        let names = ["eth0", "eth1"];
        let drain = |bench: &mut Bench, joined: &mut BTreeSet<(u32, Ipv6Addr)>| {
            for event in bench.events() {
                match event {
                    Event::JoinGroup { ifindex, group } => assert!(joined.insert((ifindex, group))),
                    Event::LeaveGroup { ifindex, group } => assert!(joined.remove(&(ifindex, group))),
                }
            }
        };
        for (verb, n, link) in steps {
            let index = ETH0 + link;
            match verb {
                0 => bench.announce(address(n), InterfaceSet::All),
                1 => bench.announce(address(n), named(&[names[link as usize]])),
                2 => bench.responder.withdraw(address(n)),
                _ if joined.iter().any(|(of, _)| *of == index) => {
                    bench.responder.remove_interface(index);
                    joined.retain(|(of, _)| *of != index);
                }
                _ => bench.responder.set_interface(bench.now, interface(index, names[link as usize])),
            }
            drain(&mut bench, &mut joined);
            bench.now += Duration::from_millis(50);
        }
        for n in 0..6 {
            bench.responder.withdraw(address(n));
        }
        drain(&mut bench, &mut joined);
        prop_assert!(joined.is_empty());
        bench.sent();
        prop_assert!(bench.run().is_empty());
    }
}
