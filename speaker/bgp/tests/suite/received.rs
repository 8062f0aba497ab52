//! The routes that the peer sends, which the session counts and discards.

use std::net::Ipv4Addr;

use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::PathAttributes;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::{Family, FamilyStatus, Origin, SessionInput};
use ipnet::IpNet;

use crate::harness::*;
use crate::routes::host;

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
