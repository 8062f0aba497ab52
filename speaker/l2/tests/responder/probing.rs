//! Addresses that are probed before their first announcement, and those that another host has.

use fairlead_l2::{Claim, GroupEvent, InterfaceSet, Mac, OnConflict, Transmit};
use proptest::prelude::*;

use crate::fixture::{
    BROADCAST, CLIENT, ETH0, ETH1, Fixture, V4, V6, advertisement, arp_reply, arp_request, conflict,
    interface, ipv6, mac, ms, request_for_v4, solicitation, target_link_layer,
};

const SPEAKER: Mac = [0x02, 0, 0, 0, 2, 1];
const PROBE: Claim = Claim { probe: true, is_planned: false, on_conflict: OnConflict::Keep };

fn claim(fixture: &mut Fixture, address: std::net::IpAddr, claim: Claim) {
    fixture.responder.claim(fixture.now, address, InterfaceSet::All, claim);
}

/// A node with one interface that probes both addresses.
fn probing() -> Fixture {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    claim(&mut fixture, V4, PROBE);
    claim(&mut fixture, V6, PROBE);
    fixture.sent();
    fixture
}

/// The probe of a node with this link-layer address for [`V4`].
fn arp_probe(from: Mac) -> Vec<u8> {
    arp_request(BROADCAST, from, "0.0.0.0", "192.0.2.1")
}

/// The ICMPv6 message in an Ethernet frame.
fn message(frame: &[u8]) -> &[u8] {
    &frame[14 + 40..]
}

/// A solicitation of duplicate address detection for [`V6`], with these options.
fn detection(options: &[u8]) -> Vec<u8> {
    [&solicitation("2001:db8::1")[..], options].concat()
}

/// The nonce option of a speaker.
fn nonce_of(mac: Mac) -> Vec<u8> {
    [&[14, 2, 1, 2, 3, 4, 5, 6, 7, 8], &mac[..]].concat()
}

fn frames(log: &[(u128, Transmit)]) -> Vec<(u128, &[u8])> {
    let frames = log.iter().filter_map(|(at, transmit)| match transmit {
        Transmit::Arp { frame, .. } => Some((*at, &frame[..])),
        Transmit::Ndp { .. } => None,
    });
    frames.collect()
}

#[test]
fn ipv4_address_is_probed_three_times_and_then_announced() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    claim(&mut fixture, V4, PROBE);
    let log = fixture.run();
    let frames = frames(&log);
    let expected = arp_probe(mac(ETH0));
    assert_eq!(frames[..3], [0, 200, 400].map(|at| (at, &expected[..])));
    assert_eq!((frames[3].0, &frames[3].1[28..32]), (600, &[192, 0, 2, 1][..]), "the announcement");
    assert_eq!(log.len(), 3 + 7 * 2);
    assert_eq!(fixture.responder.poll_confirmed(), Some(V4));
    assert_eq!((fixture.responder.poll_confirmed(), fixture.responder.poll_conflict()), (None, None));
}

#[test]
fn ipv6_address_is_probed_from_the_unspecified_address_with_a_nonce() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.responder.set_nonce(u64::MAX);
    claim(&mut fixture, V6, PROBE);
    assert_eq!(fixture.events().len(), 1, "it receives the solicitations of others");
    let log = fixture.run();
    let frames = frames(&log);
    assert_eq!(frames.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 200, 400]);
    let (_, frame) = frames[0];
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!(frame[6..12], mac(ETH0));
    assert_eq!(frame[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255]);
    assert_eq!(frame[22..38], [0; 16], "source");
    assert_eq!(frame[38..54], ipv6("ff02::1:ff00:1").octets());
    let mut expected = detection(&nonce_of(mac(ETH0)));
    expected[26..34].fill(0);
    expected[2..4].copy_from_slice(&message(frame)[2..4]);
    assert_eq!(message(frame), expected);
    // RFC 1071: the sum of the packet with its checksum is all ones.
    let pseudo = [&frame[22..54], &[0, 0, 0, 40, 0, 0, 0, 58], message(frame)].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff);
    assert_ne!(frames[1].1, frame, "each probe has a nonce of its own");
    assert_eq!((fixture.responder.poll_confirmed(), fixture.events()), (Some(V6), vec![]));
}

#[test]
fn probing_node_answers_nothing() {
    let mut fixture = probing();
    assert_eq!(fixture.arp(ETH0, &request_for_v4()), []);
    assert_eq!(fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")), []);
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.sent(), []);
    assert!(!fixture.responder.answers_for(V4) && !fixture.responder.answers_for(V6));
    fixture.run();
    assert_eq!(fixture.arp(ETH0, &request_for_v4()).len(), 1);
    assert_eq!(fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")).len(), 1);
}

#[test]
fn answer_or_probe_of_stranger_leaves_ipv4_address_until_it_is_free() {
    for (name, frame) in [
        ("answer", arp_reply(CLIENT, "192.0.2.1", "0.0.0.0")),
        ("announcement", arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1")),
        ("request from the address", arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.9")),
        ("probe at the same time", arp_probe(CLIENT)),
    ] {
        let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
        claim(&mut fixture, V4, PROBE);
        fixture.sent();
        assert_eq!(fixture.arp(ETH0, &frame), [], "{name}");
        assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V4, true)), "{name}");
        fixture.advance(ms(29_999));
        assert_eq!(fixture.arp(ETH0, &request_for_v4()), [], "{name}: it answers nothing");
        assert_eq!(fixture.arp(ETH0, &frame), [], "{name}: known already");
        assert_eq!(fixture.responder.poll_conflict(), None, "{name}");
        fixture.advance(ms(1));
        assert_eq!(fixture.sent().len(), 1, "{name}: it probes again");
        fixture.arp(ETH0, &frame);
        assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V4, true)), "{name}: still there");
        assert_eq!(fixture.responder.poll_confirmed(), None, "{name}");
        fixture.run();
        assert_eq!(fixture.responder.poll_confirmed(), Some(V4), "{name}: free");
        assert_eq!(fixture.arp(ETH0, &request_for_v4()).len(), 1, "{name}");
    }
}

#[test]
fn answer_or_probe_of_stranger_leaves_ipv6_address() {
    let answer = advertisement("2001:db8::1", 0x20, &target_link_layer(CLIENT));
    for (name, source, message, claimant) in [
        ("answer", "fe80::9", answer, Some(CLIENT)),
        ("detection", "::", detection(&[]), None),
        ("detection with a nonce", "::", detection(&[14, 1, 1, 2, 3, 4, 5, 6]), None),
    ] {
        let mut fixture = probing();
        fixture.ndp(ETH0, source, &message);
        let expected = fairlead_l2::Conflict { claimant, ..conflict(V6, true) };
        assert_eq!(fixture.responder.poll_conflict(), Some(expected), "{name}");
        (0..3).for_each(|_| fixture.advance(ms(200)));
        assert!(!fixture.responder.answers_for(V6), "{name}");
        assert_eq!(fixture.responder.poll_confirmed(), Some(V4), "{name}: only the other address");
    }
}

#[test]
fn own_frames_and_other_speakers_are_no_conflict() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    fixture.responder.set_speaker_macs(fixture.now, [SPEAKER].into());
    claim(&mut fixture, V4, PROBE);
    claim(&mut fixture, V6, PROBE);
    for host in [mac(ETH0), mac(ETH1), SPEAKER] {
        fixture.arp(ETH0, &arp_probe(host));
        fixture.arp(ETH0, &arp_reply(host, "192.0.2.1", "0.0.0.0"));
        fixture.ndp(ETH0, "::", &detection(&nonce_of(host)));
        fixture.ndp(ETH0, "fe80::9", &advertisement("2001:db8::1", 0x20, &target_link_layer(host)));
        assert_eq!(fixture.responder.poll_conflict(), None, "{host:?}");
    }
    fixture.run();
    assert!(fixture.responder.answers_for(V4) && fixture.responder.answers_for(V6));
}

#[test]
fn conflict_with_host_that_proves_to_be_a_speaker_ends_at_once() {
    let mut fixture = probing();
    fixture.arp(ETH0, &arp_reply(CLIENT, "192.0.2.1", "0.0.0.0"));
    fixture.advance(ms(1_000));
    fixture.sent();
    fixture.responder.set_speaker_macs(fixture.now, [CLIENT].into());
    assert_eq!(fixture.sent().len(), 1, "it probes the address again");
    (0..3).for_each(|_| fixture.advance(ms(200)));
    assert!(fixture.responder.answers_for(V4));
}

#[test]
fn interface_that_comes_begins_the_probes_anew() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    claim(&mut fixture, V4, PROBE);
    fixture.advance(ms(500));
    fixture.sent();
    fixture.set_interface(interface(ETH1, "eth1"));
    let interfaces: Vec<u32> = fixture.sent().iter().map(Transmit::ifindex).collect();
    assert_eq!(interfaces, [ETH0, ETH1]);
    fixture.advance(ms(599));
    assert!(!fixture.responder.answers_for(V4));
}

#[test]
fn handover_or_withdrawal_ends_the_probes() {
    for hand_over in [true, false] {
        let mut fixture = probing();
        match hand_over {
            true => fixture.responder.hand_over(fixture.now, V6),
            false => fixture.responder.withdraw(V6),
        }
        let left = fixture.events().into_iter().filter(|event| matches!(event, GroupEvent::Leave { .. }));
        assert_eq!(left.count(), 1);
        fixture.responder.withdraw(V4);
        assert_eq!((fixture.run(), fixture.responder.poll_confirmed()), (vec![], None));
    }
}

#[test]
fn yielding_claim_leaves_address_to_host_that_announces_it() {
    let yields = Claim { on_conflict: OnConflict::Yield, ..Claim::default() };
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    claim(&mut fixture, V4, yields);
    claim(&mut fixture, V6, yields);
    fixture.run();
    let used = arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.9");
    fixture.arp(ETH0, &used);
    assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V4, false)), "use alone is defended");
    fixture.run();
    assert_eq!(fixture.arp(ETH0, &arp_reply(CLIENT, "192.0.2.1", "192.0.2.1")), []);
    assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V4, true)));
    assert_eq!(fixture.arp(ETH0, &request_for_v4()), []);
    let claim = advertisement("2001:db8::1", 0x20, &target_link_layer(CLIENT));
    fixture.ndp(ETH0, "fe80::9", &claim);
    assert_eq!(fixture.responder.poll_conflict(), Some(conflict(V6, true)));
    assert_eq!(fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")), []);
    let log = fixture.run();
    let probes = frames(&log).into_iter().filter(|(_, frame)| frame[28..32] == [0; 4] || frame[12] == 0x86);
    assert_eq!(probes.count(), 6, "it probes both addresses before it announces them again");
    assert!(fixture.responder.answers_for(V4) && fixture.responder.answers_for(V6));
}

#[test]
fn ten_thousand_addresses_are_probed_in_bursts() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    for n in 0..10_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n).into();
        claim(&mut fixture, address, PROBE);
    }
    let mut by_time = std::collections::BTreeMap::<u128, usize>::new();
    for (at, transmit) in fixture.run() {
        if matches!(&transmit, Transmit::Arp { frame, .. } if frame[28..32] == [0; 4]) {
            *by_time.entry(at / 10).or_default() += 1;
        }
    }
    assert_eq!(by_time.values().sum::<usize>(), 30_000);
    assert!(by_time.values().all(|count| *count <= 2 * 256), "{by_time:?}");
}

proptest! {
    /// No frame of another host makes a probing node answer, or panics.
    #[test]
    fn probing_node_stays_silent_for_any_frame(
        frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let mut fixture = probing();
        for (arp, bytes) in frames {
            let frame = [&request_for_v4()[..14], &bytes].concat();
            let message = [&solicitation("2001:db8::1")[..], &bytes].concat();
            let sent = if arp { fixture.arp(ETH0, &frame) } else { fixture.ndp(ETH0, "::", &message) };
            prop_assert!(sent.is_empty());
        }
    }
}
