//! The wire format (RFC 5880 §4.1), and the checks of RFC 5880 §6.8.6 that need no session.

use std::time::Duration;

use fairlead_bfd::{ControlPacket, Diagnostic, Discard, State};
use proptest::prelude::*;

use crate::harness::{fin, ms, packet, poll};

/// A valid packet: Up, Detect Mult 3, discriminators 0x2222 and 0x1111, intervals 100 ms, 50 ms and 0.
const VALID: [u8; 24] =
    [0x20, 0xC0, 3, 24, 0, 0, 0x22, 0x22, 0, 0, 0x11, 0x11, 0, 1, 0x86, 0xA0, 0, 0, 0xC3, 0x50, 0, 0, 0, 0];

/// Returns the valid packet with changed octets.
fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut octets = VALID.to_vec();
    for (at, octet) in changes {
        octets[*at] = *octet;
    }
    octets
}

#[test]
fn packet_has_the_octets_of_the_rfc() {
    let up = ControlPacket { required_min_rx: ms(50), ..packet(State::Up) };
    assert_eq!(up.encode(), VALID);
    assert_eq!(ControlPacket::decode(&VALID), Ok(up));

    let down = ControlPacket {
        diagnostic: Diagnostic::CONTROL_DETECTION_TIME_EXPIRED,
        required_min_echo_rx: Duration::from_micros(1),
        ..poll(packet(State::Down))
    };
    assert_eq!(down.encode()[..4], [0x21, 0x60, 3, 24]);
    assert_eq!(down.encode()[8..12], [0; 4]);
    assert_eq!(down.encode()[20..], [0, 0, 0, 1]);
    assert_eq!(fin(packet(State::Init)).encode()[1], 0x90);
    assert_eq!(packet(State::AdminDown).encode()[1], 0);
}

#[test]
fn invalid_packets_are_discarded_for_the_first_failed_check() {
    let short = VALID[..23].to_vec();
    let table: &[(Vec<u8>, Discard)] = &[
        (changed(&[(0, 0x00)]), Discard::Version),
        (changed(&[(0, 0x40)]), Discard::Version),
        (changed(&[(0, 0x40), (3, 23)]), Discard::Version),
        (changed(&[(3, 23)]), Discard::LengthTooShort),
        (changed(&[(1, 0xC4), (3, 25)]), Discard::LengthTooShort),
        (vec![], Discard::LengthTooShort),
        (VALID[..3].to_vec(), Discard::LengthTooShort),
        (short, Discard::LengthExceedsPayload),
        (changed(&[(3, 25), (2, 0)]), Discard::LengthExceedsPayload),
        (changed(&[(2, 0), (1, 0xC1)]), Discard::DetectMultiplierZero),
        (changed(&[(1, 0xC1), (6, 0), (7, 0)]), Discard::Multipoint),
        (changed(&[(6, 0), (7, 0), (10, 0), (11, 0)]), Discard::MyDiscriminatorZero),
        (changed(&[(10, 0), (11, 0)]), Discard::YourDiscriminatorZero),
        (changed(&[(10, 0), (11, 0), (1, 0x80)]), Discard::YourDiscriminatorZero),
    ];
    for (octets, reason) in table {
        assert_eq!(ControlPacket::decode(octets), Err(*reason), "{octets:02x?}");
    }
}

#[test]
fn packet_may_be_shorter_than_the_payload() {
    let octets = [&VALID[..], &[0xFF; 40]].concat();
    assert_eq!(ControlPacket::decode(&octets), ControlPacket::decode(&VALID));
}

#[test]
fn packet_in_down_or_admin_down_may_lack_your_discriminator() {
    for state in [State::Down, State::AdminDown] {
        let octets = packet(state).encode();
        assert_eq!(ControlPacket::decode(&octets).unwrap().your_discriminator, None);
    }
}

#[test]
fn diagnostics_have_the_names_of_the_rfc() {
    let codes = [
        (Diagnostic::NONE, 0, "No Diagnostic"),
        (Diagnostic::CONTROL_DETECTION_TIME_EXPIRED, 1, "Control Detection Time Expired"),
        (Diagnostic::ECHO_FUNCTION_FAILED, 2, "Echo Function Failed"),
        (Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN, 3, "Neighbor Signaled Session Down"),
        (Diagnostic::PATH_DOWN, 5, "Path Down"),
        (Diagnostic::ADMINISTRATIVELY_DOWN, 7, "Administratively Down"),
    ];
    for (diagnostic, code, text) in codes {
        assert_eq!((diagnostic.code(), diagnostic.to_string().as_str()), (code, text));
    }
    let unknown = ControlPacket::decode(&changed(&[(0, 0x3F)])).unwrap().diagnostic;
    assert_eq!(unknown.to_string(), "Diagnostic 31");
}

#[test]
fn interval_above_the_field_is_encoded_as_the_maximum() {
    let long = ControlPacket { desired_min_tx: Duration::from_secs(5000), ..packet(State::Up) };
    assert_eq!(long.encode()[12..16], [0xFF; 4]);
}

proptest! {
    #[test]
    fn decoded_packets_are_encoded_to_the_same_octets(mut octets in any::<[u8; 24]>()) {
        octets[0] = 0x20 | octets[0] & 0x1F;
        octets[1] &= !0x05;
        octets[3] = 24;
        if let Ok(packet) = ControlPacket::decode(&octets) {
            prop_assert_eq!(packet.encode(), octets);
        }
    }

    #[test]
    fn any_octets_are_decoded_or_discarded(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = ControlPacket::decode(&octets) {
            prop_assert!(packet.detect_multiplier > 0);
            prop_assert!(octets.len() >= 24);
        }
    }
}
