//! Unsolicited announcements: their times, their rate, and the defense of an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fairlead_l2::{ALL_NODES, Claim, InterfaceSet, Transmit};

use crate::fixture::{
    BROADCAST, CLIENT, ETH0, ETH1, Fixture, V4, V6, arp_request, conflict, interface, ipv6, mac, solicitation,
};

#[test]
fn take_over_is_announced_for_five_seconds() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    let log = fixture.run();
    let times = |want_arp: bool| -> Vec<u128> {
        log.iter().filter(|(_, t)| matches!(t, Transmit::Arp { .. }) == want_arp).map(|(at, _)| *at).collect()
    };
    let expected = [0, 100, 350, 1100, 2200, 3300, 4400];
    assert_eq!(times(false), expected);
    assert_eq!(
        times(true),
        expected.iter().flat_map(|at| [*at, *at]).collect::<Vec<_>>(),
        "request and reply"
    );
    assert!(log.iter().all(|(_, transmit)| match transmit {
        Transmit::Arp { frame, .. } => frame[..6] == BROADCAST,
        Transmit::Ndp { destination, message, .. } => *destination == ALL_NODES && message[4] == 0x20,
    }));
    let counters: Vec<_> = fixture.responder.announced().map(|(_, counters)| counters.gratuitous).collect();
    assert_eq!(counters, [14, 7]);
}

#[test]
fn planned_move_is_announced_by_three_frames() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    let claim = Claim { is_planned: true, ..Claim::default() };
    fixture.responder.claim(fixture.now, V4, InterfaceSet::All, claim);
    fixture.responder.claim(fixture.now, V6, InterfaceSet::All, claim);
    let mut sent = [Vec::new(), Vec::new()];
    for (at, transmit) in fixture.run() {
        match transmit {
            Transmit::Arp { frame, .. } => sent[0].push((at, frame[21])),
            Transmit::Ndp { message, .. } => sent[1].push((at, message[0])),
        }
    }
    let [requests_and_replies, advertisements] = sent;
    assert_eq!(requests_and_replies, [(0, 1), (100, 2), (350, 1)]);
    assert_eq!(advertisements, [(0, 136), (100, 136), (350, 136)]);
    fixture.set_interface(interface(ETH1, "eth1"));
    assert_eq!(fixture.run().len(), 14 + 7, "a new interface is not part of the move");
}

#[test]
fn announce_unchanged_sends_nothing() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    fixture.announce(V4, InterfaceSet::All);
    assert_eq!(fixture.run(), []);
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.run().len(), 1, "one frame on request");
    fixture.announce(V6, InterfaceSet::All);
    fixture.sent();
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.run().len(), 1 + 6, "announcements that have begun continue");
}

#[test]
fn address_is_defended_at_most_every_ten_seconds() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    let foreign = arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1");
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 2, "at once");
    assert_eq!(fixture.run(), [], "RFC 5227 section 2.4: a single announcement");
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 0, "less than 10 s after the last defense");
    fixture.now += Duration::from_secs(10);
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 2);
    fixture.now += Duration::from_secs(10);
    fixture.responder.hand_over(fixture.now, V4);
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 0, "another node takes the address over");
    assert_eq!(fixture.run(), []);
}

#[test]
fn every_message_of_another_host_with_the_address_is_a_conflict() {
    let option = [&[1, 1], &CLIENT[..]].concat();
    let solicitation = [&solicitation("2001:db8::9")[..], &option].concat();
    let mut advertisement = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    advertisement.extend(ipv6("2001:db8::1").octets());
    advertisement.extend([&[2, 1], &CLIENT[..]].concat());
    let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    fixture.run();
    let mut reply = arp_request(mac(ETH0), CLIENT, "192.0.2.1", "192.0.2.7");
    reply[21] = 2;
    let arp = [
        ("announcement", arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1"), true),
        ("request for another host", arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.7"), true),
        ("reply", reply, true),
        ("own interface", arp_request(BROADCAST, mac(ETH1), "192.0.2.1", "192.0.2.7"), false),
        ("request of another host", arp_request(BROADCAST, CLIENT, "192.0.2.9", "192.0.2.1"), false),
        ("probe", arp_request(BROADCAST, CLIENT, "0.0.0.0", "192.0.2.1"), false),
    ];
    let mut count = 0;
    for (name, frame, conflict) in arp {
        fixture.now += Duration::from_secs(10);
        let sent = fixture.arp(ETH0, &frame);
        count += u64::from(conflict);
        if conflict {
            assert_eq!(sent.len(), 2, "{name}: it defends the address");
        }
        assert_eq!(fixture.responder.poll_conflict().is_some(), conflict, "{name}");
        assert_eq!(conflicts(&fixture, V4), count, "{name}");
    }
    for (name, source, message) in [
        ("solicitation from the address", "2001:db8::1", &solicitation),
        ("advertisement of the address", "fe80::9", &advertisement),
    ] {
        fixture.now += Duration::from_secs(10);
        fixture.ndp(ETH0, source, message);
        assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V6, false)), "{name}");
    }
    fixture.ndp(ETH0, "fe80::9", &solicitation);
    assert_eq!((conflicts(&fixture, V6), fixture.responder.poll_conflict()), (2, None));
}

fn conflicts(fixture: &Fixture, address: IpAddr) -> u64 {
    let mut announced = fixture.responder.announced();
    announced.find(|(other, _)| *other == address).map_or(0, |(_, counters)| counters.conflicts)
}

#[test]
fn announcements_of_10_000_addresses_are_paced() {
    let mut fixture = Fixture::new(&[]);
    for n in 0..10_000 {
        fixture.announce(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)), InterfaceSet::All);
    }
    fixture.set_interface(interface(ETH0, "eth0"));
    let log = fixture.run();
    let mut per_window = BTreeMap::<u128, usize>::new();
    for (at, _) in &log {
        *per_window.entry(at / 10).or_default() += 1;
    }
    assert!(per_window.values().all(|frames| *frames <= 2 * 512), "at most 256 announcements in 10 ms");
    let first: BTreeSet<_> = log.iter().filter(|(at, _)| *at < 800).map(|(_, t)| format!("{t:?}")).collect();
    assert_eq!(first.len(), 2 * 10_000, "every address is announced within 800 ms");
    assert!(log.last().unwrap().0 < 6_000);
}
