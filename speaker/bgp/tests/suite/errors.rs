//! Protocol violations of a peer, and the answers of the session.

use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::update::AttributeError;
use fairlead_bgp::{
    DownReason, Family, Notification, PeerAs, SessionConfig, SessionEvent, SessionInput, SessionState,
};

use crate::harness::*;

/// Returns the NOTIFICATION with which the session answers the bytes.
fn answer(mut solo: Solo, bytes: &[u8]) -> Option<(u8, u8, Vec<u8>)> {
    solo.sent();
    solo.receive(bytes);
    match solo.sent().pop() {
        Some(Message::Notification(Notification { code, subcode, data })) => {
            assert_eq!(solo.session.state(), SessionState::Idle);
            let events: Vec<_> = std::iter::from_fn(|| solo.session.poll_event()).collect();
            assert!(events.contains(&SessionEvent::Close));
            assert!(matches!(
                events.last(),
                Some(SessionEvent::Down { reason: DownReason::Sent { .. }, .. })
            ));
            Some((code, subcode, data))
        }
        _ => None,
    }
}

fn raw(header: &str) -> Vec<u8> {
    hex(header)
}

#[test]
fn header_errors_get_notification_1() {
    let ones = "ff".repeat(16);
    for (name, bytes, expect) in [
        // RFC 4271 §6.1
        ("marker", raw(&format!("{} 0013 04", "00".repeat(16))), (1, 1, "")),
        ("marker, last bit", raw(&format!("{}fe 0013 04", "ff".repeat(15))), (1, 1, "")),
        ("length 18", raw(&format!("{ones} 0012 04")), (1, 2, "0012")),
        ("length 0", raw(&format!("{ones} 0000 04")), (1, 2, "0000")),
        ("type 0", raw(&format!("{ones} 0013 00")), (1, 3, "00")),
        ("type 6", raw(&format!("{ones} 0013 06")), (1, 3, "06")),
        ("short OPEN", raw(&format!("{ones} 001c 01")), (1, 2, "001c")),
        ("short UPDATE", raw(&format!("{ones} 0016 02")), (1, 2, "0016")),
        ("short NOTIFICATION", raw(&format!("{ones} 0014 03")), (1, 2, "0014")),
        ("long KEEPALIVE", raw(&format!("{ones} 0014 04")), (1, 2, "0014")),
        ("short ROUTE-REFRESH", raw(&format!("{ones} 0016 05")), (1, 2, "0016")),
        ("OPEN over 4096 octets", raw(&format!("{ones} 1001 01")), (1, 2, "1001")),
    ] {
        let expect = Some((expect.0, expect.1, hex(expect.2)));
        assert_eq!(answer(Solo::new(config()).open_sent(), &bytes), expect, "{name} in OpenSent");
        assert_eq!(answer(Solo::new(config()).open_confirm(), &bytes), expect, "{name} in OpenConfirm");
        assert_eq!(answer(Solo::new(config()).established(), &bytes), expect, "{name} in Established");
    }
    // RFC 8654: messages longer than 4096 octets are accepted only after the exchange of OPENs.
    let long = raw(&format!("{ones} 1001 02"));
    assert_eq!(answer(Solo::new(config()).open_sent(), &long), Some((1, 2, hex("1001"))));
    assert_eq!(answer(Solo::new(config()).established(), &long), None);
}

#[test]
fn open_errors_get_notification_2() {
    let open = |text: &str| message(1, &hex(text));
    for (name, bytes, expect) in [
        // RFC 4271 §6.2
        ("version 3", open("03 fc01 005a 0a000002 00"), (2, 1, "0004")),
        ("wrong AS", open("04 fc02 005a 0a000002 00"), (2, 2, "")),
        ("AS 0", open("04 0000 005a 0a000002 00"), (2, 2, "")),
        ("router ID 0.0.0.0", open("04 fc01 005a 00000000 00"), (2, 3, "")),
        ("authentication (deprecated)", open("04 fc01 005a 0a000002 04 0102 0000"), (2, 4, "")),
        ("hold time 1", open("04 fc01 0001 0a000002 00"), (2, 6, "")),
        ("hold time 2", open("04 fc01 0002 0a000002 00"), (2, 6, "")),
        ("parameters exceed the message", open("04 fc01 005a 0a000002 08 0202 0200"), (2, 0, "")),
        ("parameters end before the message", open("04 fc01 005a 0a000002 02 0202 0200"), (2, 0, "")),
        ("parameter exceeds its field", open("04 fc01 005a 0a000002 04 0208 0200"), (2, 0, "")),
        ("capability exceeds its parameter", open("04 fc01 005a 0a000002 04 0202 02ff"), (2, 0, "")),
        ("four-octet AS of three octets", open("04 fc01 005a 0a000002 07 0205 4103 00fc01"), (2, 0, "")),
        ("extended parameters without a length", open("04 fc01 005a 0a000002 ff ff"), (2, 0, "")),
        ("extended parameters, wrong length", open("04 fc01 005a 0a000002 ff ff ffff 02"), (2, 0, "")),
        // RFC 5492 §5
        (
            "no common family",
            open("04 fc01 005a 0a000002 08 0206 0104 0019 0046"),
            (2, 7, "0104 0001 0001 0104 0002 0001"),
        ),
    ] {
        let expect = Some((expect.0, expect.1, hex(expect.2)));
        assert_eq!(answer(Solo::new(config()).open_sent(), &bytes), expect, "{name}");
    }
    // RFC 6286 §2.2: identifiers must differ within an AS, but not between two.
    let same_id = |my_as| {
        let open = Open { my_as, router_id: config().router_id, capabilities: vec![], ..peer_open() };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        bytes
    };
    let internal = SessionConfig { peer_asn: PeerAs::Internal, ..config() };
    assert_eq!(answer(Solo::new(internal).open_sent(), &same_id(64512)), Some((2, 3, vec![])));
    assert_eq!(answer(Solo::new(config()).open_sent(), &same_id(64513)), None);
}

#[test]
fn unexpected_messages_get_notification_5() {
    let mut open = Vec::new();
    peer_open().encode(&mut open);
    let (keepalive, update, refresh) =
        (message(4, &[]), message(2, &hex("0000 0000")), message(5, &hex("0001 00 01")));
    // RFC 6608
    for (name, bytes) in [("KEEPALIVE", &keepalive), ("UPDATE", &update), ("ROUTE-REFRESH", &refresh)] {
        let expect = Some((5, 1, vec![bytes[18]]));
        assert_eq!(answer(Solo::new(config()).open_sent(), bytes), expect, "{name} in OpenSent");
    }
    for (name, bytes) in [("OPEN", &open), ("UPDATE", &update), ("ROUTE-REFRESH", &refresh)] {
        let expect = Some((5, 2, vec![bytes[18]]));
        assert_eq!(answer(Solo::new(config()).open_confirm(), bytes), expect, "{name} in OpenConfirm");
    }
    assert_eq!(answer(Solo::new(config()).established(), &open), Some((5, 3, vec![1])));
}

#[test]
fn notification_ends_session_without_answer() {
    for solo in [
        Solo::new(config()).open_sent(),
        Solo::new(config()).open_confirm(),
        Solo::new(config()).established(),
    ] {
        let mut solo = solo;
        solo.sent();
        solo.receive(&message(3, &[6, 5]));
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.session.state(), SessionState::Idle);
        let expected = "peer sent NOTIFICATION 6/5 (Cease: Connection Rejected)";
        assert_eq!(solo.down_reason().to_string(), expected);
    }
}

#[test]
fn fatal_update_errors_get_notification_3() {
    let body = |text: &str| message(2, &hex(text));
    for (name, bytes, expect) in [
        ("withdrawn routes exceed the message", body("0005 0000"), (3, 1, "")),
        ("attributes exceed the message", body("0000 0005"), (3, 1, "")),
        ("withdrawn prefix of 33 bits", body("0006 21 0102030405 0000"), (3, 10, "")),
        ("truncated withdrawn prefix", body("0002 18 01 0000"), (3, 10, "")),
        ("truncated announced prefix", body("0000 0000 18 01"), (3, 10, "")),
        (
            "unknown well-known attribute",
            update(&hex("4001 01 00 40c8 02 abcd"), &[]),
            (3, 2, "40c8 02 abcd"),
        ),
        ("two MP_REACH_NLRI", update(&hex("800e 05 0001 46 00 00 800e 05 0001 46 00 00"), &[]), (3, 1, "")),
        ("MP_REACH_NLRI of two octets", update(&hex("800e 02 0002"), &[]), (3, 9, "")),
        ("malformed attribute without NLRI", update(&hex("4001 02 0000"), &[]), (3, 1, "")),
        ("attribute with a length that exceeds the list", update(&hex("4002 03 020000 "), &[]), (3, 1, "")),
    ] {
        let expect = Some((expect.0, expect.1, hex(expect.2)));
        assert_eq!(answer(Solo::new(config()).established(), &bytes), expect, "{name}");
    }
}

/// Well-formed ORIGIN, AS_PATH and NEXT_HOP.
const GOOD: &str = "4001 01 00  4002 06 02 01 0000fc01  4003 04 c0000202";

#[test]
fn update_errors_of_rfc_7606_keep_session_up() {
    let withdrawn = |text: &str| (1, 0, 1, text.to_owned());
    let discarded = |text: &str| (0, 1, 1, text.to_owned());
    let with = |text: &str| hex(&format!("{GOOD} {text}"));
    // RFC 7606 §3 and §7: number of withdrawn prefixes, announced prefixes and malformed UPDATEs.
    for (name, attributes, (withdrawals, announced, malformed, text)) in [
        ("nothing", with(""), (0, 1, 0, String::new())),
        ("an unknown optional attribute", with("c0fe 02 abcd"), (0, 1, 0, String::new())),
        ("ORIGIN 3", hex("4001 01 03 4002 00 4003 04 c0000202"), withdrawn("ORIGIN has an undefined value")),
        ("ORIGIN empty", hex("4001 00 4002 00 4003 04 c0000202"), withdrawn("ORIGIN has an invalid length")),
        ("no ORIGIN", hex("4002 00 4003 04 c0000202"), withdrawn("ORIGIN is missing")),
        ("no AS_PATH", hex("4001 01 00 4003 04 c0000202"), withdrawn("AS_PATH is missing")),
        ("no NEXT_HOP", hex("4001 01 00 4002 00"), withdrawn("NEXT_HOP is missing")),
        (
            "no NEXT_HOP after a discarded attribute",
            hex("4001 01 00 4001 01 00 4002 00"),
            withdrawn("NEXT_HOP is missing"),
        ),
        (
            "AS_PATH, segment type 9",
            hex("4001 01 00 4002 06 09 01 0000fc01"),
            withdrawn("AS_PATH has an unrecognized segment type"),
        ),
        (
            "AS_PATH, empty segment",
            hex("4001 01 00 4002 02 02 00"),
            withdrawn("AS_PATH has an empty segment"),
        ),
        (
            "AS_PATH, one octet left",
            hex("4001 01 00 4002 07 02 01 0000fc01 02"),
            withdrawn("AS_PATH has a trailing octet after the last segment"),
        ),
        (
            "AS_PATH, segment too long",
            hex("4001 01 00 4002 06 02 02 0000fc01"),
            withdrawn("AS_PATH segment exceeds the attribute"),
        ),
        (
            "NEXT_HOP of 3",
            hex("4001 01 00 4002 00 4003 03 c00002"),
            withdrawn("NEXT_HOP has an invalid length"),
        ),
        (
            "NEXT_HOP 0.0.0.0",
            hex("4001 01 00 4002 00 4003 04 00000000"),
            withdrawn("NEXT_HOP is not a valid unicast address"),
        ),
        ("MED of 3", with("8004 03 000000"), withdrawn("MULTI_EXIT_DISC has an invalid length")),
        ("LOCAL_PREF over eBGP", with("4005 01 00"), discarded("")),
        ("ATOMIC_AGGREGATE of 1", with("4006 01 00"), discarded("")),
        ("AGGREGATOR of 6 with four-octet AS", with("c007 06 fc01 0a000002"), discarded("")),
        ("COMMUNITIES of 5", with("c008 05 0102030405"), withdrawn("COMMUNITIES has an invalid length")),
        ("COMMUNITIES of 0", with("c008 00"), withdrawn("COMMUNITIES has an invalid length")),
        ("ORIGINATOR_ID over eBGP", with("8009 01 00"), discarded("")),
        ("CLUSTER_LIST over eBGP", with("800a 01 00"), discarded("")),
        (
            "two errors: the stronger action counts",
            with("4006 01 00 8004 03 000000 c007 01 00"),
            withdrawn("MULTI_EXIT_DISC has an invalid length"),
        ),
        (
            "EXTENDED COMMUNITIES of 7",
            with("c010 07 01020304050607"),
            withdrawn("EXTENDED_COMMUNITIES has an invalid length"),
        ),
        ("AS4_PATH with four-octet AS", with("c011 06 02 01 0000fc01"), discarded("")),
        (
            "LARGE_COMMUNITY of 11",
            with("c020 0b 0102030405060708090a0b"),
            withdrawn("LARGE_COMMUNITY has an invalid length"),
        ),
        (
            "ORIGIN marked optional",
            hex("c001 01 00 4002 00 4003 04 c0000202"),
            withdrawn("attribute flags conflict with the attribute type"),
        ),
        (
            "COMMUNITIES marked non-transitive",
            with("8008 04 fc000001"),
            withdrawn("attribute flags conflict with the attribute type"),
        ),
        ("a second MED", with("8004 04 00000001 8004 01 00"), discarded("")),
        (
            "attribute length exceeds the list",
            with("8004 ff 00"),
            withdrawn("a path attribute exceeds the attribute list"),
        ),
        ("a trailing octet", with("80"), withdrawn("a path attribute exceeds the attribute list")),
        ("a flag of the length only", with("d008 0004 fc000001"), (0, 1, 0, String::new())),
    ] {
        let mut solo = Solo::new(config()).established();
        let bytes = update(&attributes, &hex("18 cb0071"));
        solo.receive(&bytes);
        assert_eq!(solo.session.state(), SessionState::Established, "{name}: {:?}", solo.down_reason());
        let statistics = solo.session.statistics();
        let Message::Update(decoded) = decode_all(&bytes, solo.context).remove(0) else { panic!("{name}") };
        let counted =
            (decoded.update.withdrawn.len(), statistics.prefixes_received, statistics.updates_malformed);
        assert_eq!(counted, (withdrawals, announced, malformed), "{name}");
        let shown = solo.session.first_malformed().unwrap_or_default();
        assert!(shown.starts_with(&text) && shown.is_empty() == text.is_empty(), "{name}: {shown}");
    }
}

#[test]
fn errors_of_an_internal_peer_keep_session_up() {
    let mut open = peer_open();
    open.my_as = 64512;
    open.capabilities.retain(|capability| capability.code() != 65);
    open.capabilities.push(Capability::FourOctetAs(LOCAL_AS));
    let good = "4001 01 00  4002 00  4003 04 c0000202";
    for (attribute, error) in [
        ("4005 01 00", "LOCAL_PREF has an invalid length"),
        ("8009 03 000000", "ORIGINATOR_ID has an invalid length"),
        ("800a 00", "CLUSTER_LIST has an invalid length"),
        ("800a 05 0102030405", "CLUSTER_LIST has an invalid length"),
    ] {
        let internal = SessionConfig { peer_asn: PeerAs::Internal, ..config() };
        let mut solo = Solo::new(internal).established_with(&open);
        solo.receive(&update(&hex(&format!("{good} {attribute}")), &hex("18 cb0071")));
        assert!(solo.session.first_malformed().unwrap().starts_with(error), "{attribute}");
        assert_eq!(solo.session.statistics().prefixes_received, 0, "{attribute}");
    }
}

#[test]
fn first_malformed_update_of_a_connection_is_kept() {
    let mut solo = Solo::new(config()).established();
    solo.receive(&update(&hex("4002 00 4003 04 c0000202"), &hex("18 cb0071")));
    solo.receive(&update(&hex("4001 01 00 4003 04 c0000202"), &hex("18 cb0071")));
    assert_eq!(solo.session.first_malformed(), Some("ORIGIN is missing (treat-as-withdraw)"));
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    assert_eq!(solo.session.first_malformed(), None);
    solo.wait(secs(1));
    solo.reestablish();
    assert_eq!(solo.session.first_malformed(), None);
}

#[test]
fn family_with_unparsable_prefixes_is_ignored() {
    let good = "4001 01 00 4002 06 02 01 0000fc01";
    let next_hop = "20010db8000000000000000000000002";
    for (name, mp) in [
        ("next hop of 15 octets", format!("800e 14 0002 01 0f {} 00", "00".repeat(15))),
        ("next hop exceeds the attribute", "800e 05 0002 01 10 00".to_owned()),
        ("prefix of 129 bits", format!("800e 16 0002 01 10 {next_hop} 00 81")),
        ("truncated prefix", format!("800e 18 0002 01 10 {next_hop} 00 30 2001")),
        ("truncated withdrawn prefix", "800f 05 0002 01 30 20".to_owned()),
    ] {
        let mut solo = Solo::new(config()).established();
        solo.receive(&update(&hex(&format!("{mp} {good}")), &[]));
        assert_eq!(solo.session.state(), SessionState::Established, "{name}: {:?}", solo.down_reason());
        assert!(solo.session.first_malformed().unwrap().ends_with("(IPv6 unicast routes ignored)"), "{name}");
        assert_eq!(solo.session.statistics().prefixes_received, 0, "{name}");
    }
    // A family that the session does not carry is not an error.
    let mut solo = Solo::new(config()).established();
    solo.receive(&update(&hex(&format!("800e 08 0019 46 00 00 010203 {good}")), &[]));
    assert_eq!(solo.session.statistics().updates_malformed, 0);
    assert_eq!(solo.session.state(), SessionState::Established);
}

#[test]
fn repeated_attribute_errors_are_bounded() {
    // 500 repetitions of an attribute: the first errors are kept.
    let attributes = hex(&format!("{GOOD} {}", "8004 04 00000001".repeat(500)));
    let bytes = update(&attributes, &hex("18 cb0071"));
    let Message::Update(decoded) = decode_all(&bytes, Solo::new(config()).context).remove(0) else {
        panic!()
    };
    assert_eq!(decoded.errors.len(), 8);
    assert_eq!(decoded.errors[0], AttributeError::Discard("a path attribute occurs twice"));
    let shown = AttributeError::AfiSafiDisable(Family::Ipv6Unicast, "what").to_string();
    assert_eq!(shown, "what (IPv6 unicast routes ignored)");
}
