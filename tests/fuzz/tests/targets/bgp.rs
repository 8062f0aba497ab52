//! BGP: the stream of messages, each message, each path attribute and each capability (RFC 4271 §4).

use fairlead_bgp::Notification;
use fairlead_bgp::message::framer::Framer;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::{DecodedUpdate, Update};
use fairlead_bgp::message::{DecodeContext, MAX_EXTENDED_LENGTH, MAX_LENGTH, Message, MessageError};
use fairlead_fuzz::fuzz;

const CONTEXTS: [DecodeContext; 4] = [
    DecodeContext { four_octet_as: false, ebgp: false, enhanced_route_refresh: false },
    DecodeContext { four_octet_as: false, ebgp: true, enhanced_route_refresh: true },
    DecodeContext { four_octet_as: true, ebgp: false, enhanced_route_refresh: false },
    DecodeContext { four_octet_as: true, ebgp: true, enhanced_route_refresh: true },
];

/// A peer receives each error as a NOTIFICATION (RFC 4271 §6): code 1 to 3, with a text for the log.
fn check_error(error: &MessageError) {
    assert!((1..=3).contains(&error.notification.code) || error.notification.code == 7, "{error:?}");
    assert!(!error.detail.is_empty());
}

fn check_update(body: &[u8], decoded: &DecodedUpdate) {
    let update = &decoded.update;
    let reach = update.attributes.mp_reach.as_ref().map_or(0, |reach| reach.nlri.len());
    let unreach = update.attributes.mp_unreach.as_ref().map_or(0, |unreach| unreach.withdrawn.len());
    let prefixes = update.nlri.len() + update.withdrawn.len() + reach + unreach;
    assert!(prefixes <= body.len(), "{prefixes} prefixes from {} octets", body.len());
    assert!(decoded.errors.len() <= body.len());
}

fn decode_update(body: &[u8]) {
    for context in CONTEXTS {
        match Update::decode(body, context) {
            Ok(decoded) => check_update(body, &decoded),
            Err(error) => check_error(&error),
        }
    }
}

/// Wraps `value` as the only attribute of an UPDATE, with each combination of flags that a peer may send.
fn decode_attribute(code: u8, value: &[u8]) {
    let value = value.get(..value.len().min(4000)).unwrap_or_default();
    for flags in [0x40_u8, 0x80, 0xc0, 0xe0, 0x00] {
        let mut attribute = vec![flags | 0x10, code];
        attribute.extend_from_slice(&(value.len() as u16).to_be_bytes());
        attribute.extend_from_slice(value);
        let mut body = vec![0, 0];
        body.extend_from_slice(&(attribute.len() as u16).to_be_bytes());
        body.extend_from_slice(&attribute);
        decode_update(&body);
        // With a route, so that mandatory attributes are missing.
        body.extend_from_slice(&[24, 192, 0, 2]);
        decode_update(&body);
    }
}

#[test]
fn bgp_stream() {
    fuzz("bgp_stream", |input| {
        for limit in [MAX_LENGTH, MAX_EXTENDED_LENGTH] {
            let mut framer = Framer::default();
            for portion in input.chunks(7) {
                let mut rest = portion;
                loop {
                    match framer.next(&mut rest, limit) {
                        Ok(Some(frame)) => {
                            assert!(frame.body.len() < limit);
                            if let Err(error) = Message::decode(frame, CONTEXTS[3]) {
                                check_error(&error);
                            }
                        }
                        Ok(None) => {
                            assert!(rest.is_empty());
                            break;
                        }
                        Err(error) => {
                            check_error(&error);
                            framer.reset();
                            break;
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn bgp_open() {
    fuzz("bgp_open", |input| match Open::decode(input) {
        Ok(open) => {
            assert!(open.capabilities.len() <= input.len());
            let _ = (open.asn(), open.four_octet_asn());
        }
        Err(error) => check_error(&error),
    });
}

#[test]
fn bgp_update() {
    fuzz("bgp_update", decode_update);
}

#[test]
fn bgp_notification() {
    fuzz("bgp_notification", |input| {
        let notification = Notification::decode(input);
        assert!(notification.data.len() <= input.len());
        let _ = (notification.text(), notification.to_string());
    });
}

#[test]
fn bgp_route_refresh() {
    fuzz("bgp_route_refresh", |input| {
        for context in CONTEXTS {
            if let Err(error) = RouteRefresh::decode(input, context) {
                check_error(&error);
            }
        }
    });
}

/// Wraps `value` as the only capability of an OPEN (RFC 5492).
fn decode_capability(code: u8, value: &[u8]) {
    let value = value.get(..value.len().min(250)).unwrap_or_default();
    let mut capability = vec![code, value.len() as u8];
    capability.extend_from_slice(value);
    let mut body = vec![4, 0xfd, 0xe8, 0, 90, 192, 0, 2, 1];
    body.extend_from_slice(&[capability.len() as u8 + 2, 2, capability.len() as u8]);
    body.extend_from_slice(&capability);
    match Open::decode(&body) {
        Ok(open) => assert!(!open.capabilities.is_empty()),
        Err(error) => check_error(&error),
    }
}

macro_rules! capabilities {
    ($($name:ident = $code:literal;)*) => {$(
        #[test]
        fn $name() {
            fuzz(stringify!($name), |input| decode_capability($code, input));
        }
    )*};
}

capabilities! {
    bgp_capability_multiprotocol = 1;
    bgp_capability_extended_next_hop = 5;
    bgp_capability_graceful_restart = 64;
    bgp_capability_four_octet_as = 65;
}

macro_rules! attributes {
    ($($name:ident = $code:literal;)*) => {$(
        #[test]
        fn $name() {
            fuzz(stringify!($name), |input| decode_attribute($code, input));
        }
    )*};
}

attributes! {
    bgp_attribute_origin = 1;
    bgp_attribute_as_path = 2;
    bgp_attribute_next_hop = 3;
    bgp_attribute_multi_exit_disc = 4;
    bgp_attribute_local_pref = 5;
    bgp_attribute_atomic_aggregate = 6;
    bgp_attribute_aggregator = 7;
    bgp_attribute_communities = 8;
    bgp_attribute_originator_id = 9;
    bgp_attribute_cluster_list = 10;
    bgp_attribute_mp_reach_nlri = 14;
    bgp_attribute_mp_unreach_nlri = 15;
    bgp_attribute_extended_communities = 16;
    bgp_attribute_as4_path = 17;
    bgp_attribute_as4_aggregator = 18;
    bgp_attribute_large_community = 32;
    bgp_attribute_unassigned = 99;
}
