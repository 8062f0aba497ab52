//! A quiet node withdraws the addresses that other hosts announce.

use std::net::IpAddr;

use fairlead_l2::{GroupEvent, InterfaceSet, NdpPacket, Yielded};

use crate::fixture::{
    BROADCAST, CLIENT, ETH0, ETH1, Fixture, V4, V6, advertisement, arp_reply, arp_request, ipv6, mac, ms,
    named, request_for_v4, solicitation, target_link_layer,
};

/// A node with two interfaces that announces both addresses on the first one.
fn fixture(quiet: bool) -> Fixture {
    let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    fixture.announce(V4, named(&["eth0"]));
    fixture.announce(V6, named(&["eth0"]));
    fixture.run();
    fixture.events();
    fixture.responder.set_quiet(quiet);
    fixture
}

fn yielded(fixture: &mut Fixture) -> Vec<Yielded> {
    std::iter::from_fn(|| fixture.responder.poll_yielded()).collect()
}

fn announced(fixture: &Fixture) -> Vec<IpAddr> {
    fixture.responder.announced().map(|(address, _)| address).collect()
}

#[test]
fn quiet_node_yields_ipv4_address_that_another_host_has() {
    let claims = [
        ("gratuitous request", arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1")),
        ("gratuitous reply", arp_reply(CLIENT, "192.0.2.1", "192.0.2.1")),
        ("answer of another host", {
            let mut frame = arp_reply(CLIENT, "192.0.2.1", "192.0.2.9");
            frame[..6].copy_from_slice(&mac(ETH0));
            frame
        }),
    ];
    for (name, claim) in claims {
        let mut fixture = fixture(true);
        assert_eq!(fixture.arp(ETH0, &claim), [], "{name}: no defense, no answer");
        assert_eq!(yielded(&mut fixture), [Yielded { address: V4, claimant: CLIENT }], "{name}");
        assert_eq!(announced(&fixture), [V6], "{name}");
        assert_eq!(fixture.arp(ETH0, &request_for_v4()), [], "{name}: it answers no more");
        assert_eq!(fixture.arp(ETH0, &claim), [], "{name}, repeated");
        assert_eq!(yielded(&mut fixture), [], "{name}, repeated");
        // It takes the address again.
        fixture.responder.set_quiet(false);
        fixture.announce(V4, InterfaceSet::All);
        assert!(!fixture.sent().is_empty(), "{name}: it announces the address again");
    }
}

#[test]
fn quiet_node_yields_ipv6_address_that_another_host_has() {
    for (name, flags) in [("unsolicited", 0x20), ("solicited", 0x60), ("of a router", 0x80)] {
        let mut fixture = fixture(true);
        let claim = advertisement("2001:db8::1", flags, &target_link_layer(CLIENT));
        assert_eq!(fixture.ndp(ETH0, "fe80::9", &claim), [], "{name}");
        assert_eq!(yielded(&mut fixture), [Yielded { address: V6, claimant: CLIENT }], "{name}");
        assert_eq!(announced(&fixture), [V4], "{name}");
        assert!(matches!(fixture.events()[..], [GroupEvent::Leave { ifindex: ETH0, .. }]), "{name}");
        let asked = fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1"));
        assert_eq!(asked, [], "{name}: it answers no more");
    }
}

#[test]
fn other_messages_and_own_frames_yield_nothing() {
    let arp = [
        ("request for the address", ETH0, request_for_v4()),
        // The kernel of a node on which the address is local may use it as a source.
        ("request from the address", ETH0, arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.9")),
        ("own interface", ETH0, arp_request(BROADCAST, mac(ETH1), "192.0.2.1", "192.0.2.1")),
        (
            "own interface without announcements",
            ETH0,
            arp_reply([2, 0, 0, 0, 9, 9], "192.0.2.1", "192.0.2.1"),
        ),
        ("another address", ETH0, arp_request(BROADCAST, CLIENT, "192.0.2.2", "192.0.2.2")),
        ("probe", ETH0, arp_request(BROADCAST, CLIENT, "0.0.0.0", "192.0.2.1")),
        ("an interface without the address", ETH1, arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1")),
        ("multicast sender", ETH0, arp_reply([3, 0, 0, 0, 0, 1], "192.0.2.1", "192.0.2.1")),
    ];
    let option = target_link_layer(CLIENT);
    let valid = advertisement("2001:db8::1", 0x20, &option);
    let mut code = valid.clone();
    code[1] = 1;
    let ndp = [
        (
            "own interface",
            ETH0,
            "fe80::9",
            255,
            advertisement("2001:db8::1", 0x20, &target_link_layer(mac(ETH1))),
        ),
        ("another address", ETH0, "fe80::9", 255, advertisement("2001:db8::2", 0x20, &option)),
        ("an interface without the address", ETH1, "fe80::9", 255, valid.clone()),
        ("without link-layer address", ETH0, "fe80::9", 255, advertisement("2001:db8::1", 0x20, &[])),
        ("routed", ETH0, "fe80::9", 254, valid.clone()),
        ("multicast source", ETH0, "ff02::9", 255, valid.clone()),
        ("unspecified source", ETH0, "::", 255, valid.clone()),
        ("code 1", ETH0, "fe80::9", 255, code),
        (
            "broken option",
            ETH0,
            "fe80::9",
            255,
            advertisement("2001:db8::1", 0x20, &[2, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "multicast owner",
            ETH0,
            "fe80::9",
            255,
            advertisement("2001:db8::1", 0x20, &target_link_layer(BROADCAST)),
        ),
    ];
    let mut fixture = fixture(true);
    fixture.responder.set_own_macs([mac(ETH0), mac(ETH1), [2, 0, 0, 0, 9, 9]].into());
    for (name, ifindex, frame) in arp {
        fixture.arp(ifindex, &frame);
        assert_eq!(yielded(&mut fixture), [], "ARP: {name}");
    }
    for (name, ifindex, source, hop_limit, message) in ndp {
        let packet = NdpPacket { source: ipv6(source), destination: None, hop_limit, message: &message };
        fixture.responder.handle_ndp(fixture.now, ifindex, packet);
        assert_eq!(yielded(&mut fixture), [], "NDP: {name}");
    }
    assert_eq!(announced(&fixture), [V4, V6]);
}

#[test]
fn node_that_is_not_quiet_yields_nothing() {
    let mut fixture = fixture(false);
    let claim = arp_reply(CLIENT, "192.0.2.1", "192.0.2.1");
    assert_eq!(fixture.arp(ETH0, &claim).len(), 2, "it defends the address");
    fixture.ndp(ETH0, "fe80::9", &advertisement("2001:db8::1", 0x20, &target_link_layer(CLIENT)));
    let own = arp_request(BROADCAST, mac(ETH1), "192.0.2.1", "192.0.2.1");
    fixture.run();
    fixture.now += std::time::Duration::from_secs(60);
    assert_eq!(fixture.arp(ETH0, &own), [], "no defense against itself");
    // It becomes quiet in a handover: the announcement of the new owner is expected.
    fixture.responder.hand_over(fixture.now, V4);
    fixture.responder.set_quiet(true);
    fixture.arp(ETH0, &claim);
    assert_eq!((yielded(&mut fixture), announced(&fixture)), (vec![], vec![V4, V6]));
}

#[test]
fn owner_announces_again_when_another_speaker_has_announced() {
    let mut fixture = fixture(false);
    fixture.responder.set_speaker_macs(fixture.now, [CLIENT].into());
    let start = fixture.now;
    for _ in 0..2 {
        fixture.arp(ETH0, &arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1"));
        fixture.ndp(ETH0, "fe80::9", &advertisement("2001:db8::1", 0x20, &target_link_layer(CLIENT)));
    }
    // Two frames of IPv4, a request and a reply, and one of IPv6.
    assert_eq!(fixture.run().len(), 3);
    assert_eq!(fixture.now - start, ms(1_000));
    assert_eq!(fixture.responder.poll_conflict(), None, "a speaker is no stranger");
}
