//! Answers to ARP requests and neighbor solicitations.

use fairlead_l2::{InterfaceSet, Mac, Transmit};

use crate::fixture::{
    BROADCAST, CLIENT, ETH0, ETH1, Fixture, V4, V6, arp_request, ipv6, mac, named, request_for_v4,
    solicitation,
};

#[test]
fn arp_request_answered_only_for_announced_address() {
    const OTHER_HOST: Mac = [0x02, 0, 0, 0, 0, 0xbb];
    let own = mac(ETH0);
    let table = [
        ("broadcast", request_for_v4(), true),
        ("unicast", arp_request(own, CLIENT, "192.0.2.9", "192.0.2.1"), true),
        ("RFC 5227 probe", arp_request(BROADCAST, CLIENT, "0.0.0.0", "192.0.2.1"), true),
        ("unicast to another host", arp_request(OTHER_HOST, CLIENT, "192.0.2.9", "192.0.2.1"), false),
        ("another address", arp_request(BROADCAST, CLIENT, "192.0.2.9", "192.0.2.2"), false),
        ("own frame", arp_request(BROADCAST, own, "192.0.2.9", "192.0.2.1"), false),
    ];
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    for (name, frame, answered) in table {
        let sent = fixture.arp(ETH0, &frame);
        assert_eq!(sent.len(), usize::from(answered), "{name}");
        for transmit in sent {
            let Transmit::Arp { ifindex: ETH0, frame } = transmit else { panic!("{name}: {transmit:?}") };
            assert_eq!((&frame[..6], &frame[22..28], frame[21]), (&CLIENT[..], &own[..], 2), "{name}");
        }
    }
    let (_, counters) = fixture.responder.announced().next().unwrap();
    assert_eq!((counters.requests, counters.responses), (3, 3));
}

#[test]
fn solicitation_answered_only_for_announced_address() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V6, InterfaceSet::All);
    fixture.run();
    for (name, source, target, to) in [
        ("resolution", "fe80::9", "2001:db8::1", Some("fe80::9")),
        ("from a global address", "2001:db8::9", "2001:db8::1", Some("2001:db8::9")),
        ("duplicate address detection", "::", "2001:db8::1", Some("ff02::1")),
        ("another address", "fe80::9", "2001:db8::2", None),
    ] {
        let sent = fixture.ndp(ETH0, source, &solicitation(target));
        let destinations = sent.iter().filter_map(|transmit| match transmit {
            Transmit::Ndp { ifindex: ETH0, destination, .. } => Some(*destination),
            _ => None,
        });
        let destinations: Vec<_> = destinations.collect();
        assert_eq!(destinations, to.map(ipv6).into_iter().collect::<Vec<_>>(), "{name}");
    }
    let own = [solicitation("2001:db8::1"), vec![1, 1], mac(ETH0).to_vec()].concat();
    assert!(fixture.ndp(ETH0, "fe80::2", &own).is_empty(), "own solicitation");
}

#[test]
fn answers_follow_interfaces_of_the_announcement() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    fixture.announce(V4, named(&["eth1"]));
    let log = fixture.run();
    assert_eq!(log.len(), 14);
    assert!(log.iter().all(|(_, transmit)| transmit.ifindex() == ETH1));
    let request = request_for_v4();
    assert!(fixture.arp(ETH0, &request).is_empty());
    assert_eq!(fixture.arp(ETH1, &request).len(), 1);
    assert!(fixture.arp(77, &request).is_empty(), "unknown interface");

    fixture.announce(V4, named(&["eth0"]));
    let log = fixture.run();
    assert_eq!(log.len(), 14);
    assert!(
        log.iter().all(|(_, transmit)| transmit.ifindex() == ETH0),
        "announced on the new interface only"
    );
    assert_eq!(fixture.arp(ETH0, &request).len(), 1);
    assert!(fixture.arp(ETH1, &request).is_empty());

    fixture.announce(V4, named(&["eth7"]));
    assert_eq!(fixture.run(), []);
    for ifindex in [ETH0, ETH1] {
        assert!(fixture.arp(ifindex, &request).is_empty(), "no interface has the name");
    }
}

#[test]
fn withdrawal_stops_answers_and_announcements() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    fixture.sent();
    fixture.responder.withdraw(V4);
    fixture.responder.withdraw(V6);
    fixture.responder.withdraw(V6);
    assert_eq!(fixture.run(), []);
    assert!(fixture.arp(ETH0, &request_for_v4()).is_empty());
    assert!(fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")).is_empty());
    assert_eq!(fixture.responder.announced().len(), 0);
}
