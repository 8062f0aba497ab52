//! Unsolicited announcements: their times, their rate, and the defense of an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fairlead_l2::{ALL_NODES, InterfaceSet, Transmit};

use crate::fixture::{BROADCAST, CLIENT, ETH0, Fixture, V4, V6, arp_request, interface};

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
fn announce_unchanged_sends_nothing() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    fixture.announce(V4, InterfaceSet::All);
    assert_eq!(fixture.run(), []);
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.run().len(), 14, "announcements are repeated on request");
}

#[test]
fn address_is_defended_at_most_every_ten_seconds() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    let foreign = arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1");
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 2, "at once");
    assert_eq!(fixture.run().len(), 12, "and for the next 5 s");
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 0, "less than 10 s after the last defense");
    fixture.now += Duration::from_secs(10);
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 2);
    fixture.now += Duration::from_secs(10);
    fixture.responder.hand_over(fixture.now, V4);
    assert_eq!(fixture.arp(ETH0, &foreign).len(), 0, "another node takes the address over");
    assert_eq!(fixture.run(), []);
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
