//! Arbitrary bytes in any state are handled or rejected, without a panic and with bounded memory.

use std::time::Duration;

use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::{MpNextHop, MpReach, MpUnreach, PathAttributes};
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::encode_keepalive;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::{
    CeaseSubcode, Community, ExtendedCommunity, Family, LargeCommunity, NextHops, Notification, Origin,
    SessionEvent, SessionInput, SessionState,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::harness::*;

fn in_state(state: usize) -> Solo {
    let mut solo = Solo::new(config());
    (0..20).for_each(|n| solo.session.announce(net(&format!("10.0.0.{n}/32")), attributes(1)).unwrap());
    match state {
        0 => solo,
        1 => solo.open_sent(),
        2 => solo.open_confirm(),
        _ => solo.established(),
    }
}

/// Passes in the bytes in chunks, and checks that the session remains consistent.
fn check_survival(mut solo: Solo, bytes: &[u8], size: usize) {
    for chunk in bytes.chunks(size.max(1)) {
        solo.receive(chunk);
        solo.sent_bytes();
    }
    check_consistency(&mut solo);
    // The session remains consistent while it retries.
    solo.wait(secs(300));
    check_consistency(&mut solo);
    assert!(solo.session.state() >= SessionState::Idle);
}

fn check_consistency(solo: &mut Solo) {
    let mut events = 0;
    while let Some(event) = solo.session.poll_event() {
        events += 1;
        if let SessionEvent::Down { reason, .. } = event {
            assert!(!reason.to_string().is_empty());
        }
    }
    assert!(events < 200, "{events} events");
    let up = solo.session.state() == SessionState::Established;
    assert_eq!(solo.session.negotiated().is_some(), up);
    assert!(up || solo.session.announced() == 0);
    assert_eq!(solo.session.routes(), 20);
}

/// Returns well-formed messages of each type, with all fields that they can have.
fn well_formed_messages() -> Vec<Vec<u8>> {
    let mut messages = vec![Vec::new(); 7];
    let capabilities = vec![
        Capability::multi_protocol(Family::Ipv4Unicast),
        Capability::multi_protocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![(1, 1, 2)]),
        Capability::ExtendedMessage,
        Capability::GracefulRestart(GracefulRestart { families: vec![(1, 1, true)], ..Default::default() }),
        Capability::FourOctetAs(PEER_AS),
        Capability::Unknown { code: 73, value: b"\x06router\x00".to_vec() },
    ];
    Open { capabilities: capabilities.clone(), ..peer_open() }.encode(&mut messages[0]);
    let many = std::iter::repeat_n(capabilities, 8).flatten().collect();
    Open { capabilities: many, ..peer_open() }.encode(&mut messages[1]);
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::originated_by(PEER_AS)),
        next_hop: Some([192, 0, 2, 2].into()),
        med: Some(1),
        local_pref: Some(100),
        atomic_aggregate: true,
        aggregator: Some((PEER_AS, [10, 0, 0, 2].into())),
        communities: vec![Community(1, 2), Community(3, 4)],
        extended_communities: vec![ExtendedCommunity([0, 2, 0xfc, 0, 0, 0, 0, 1])],
        mp_reach: Some(MpReach {
            family: Family::Ipv6Unicast,
            next_hop: MpNextHop::V6WithLinkLocal("2001:db8::2".parse().unwrap(), "fe80::2".parse().unwrap()),
            nlri: vec![net("2001:db8:2::/48"), net("::/0")],
        }),
        mp_unreach: Some(MpUnreach { family: Family::Ipv6Unicast, withdrawn: vec![net("2001:db8:3::/48")] }),
        as4_path: Some(AsPath::originated_by(PEER_AS)),
        large_communities: vec![LargeCommunity(1, 2, 3)],
    };
    let update = Update { withdrawn: vec![net("10.1.0.0/16")], attributes, nlri: vec![net("10.2.0.0/15")] };
    update.encode(true, &mut messages[2]);
    Update::end_of_rib(Family::Ipv6Unicast).encode(true, &mut messages[3]);
    Notification::cease(CeaseSubcode::AdministrativeReset, "bye").encode(&mut messages[4]);
    encode_keepalive(&mut messages[5]);
    RouteRefresh::request(Family::Ipv4Unicast).encode(&mut messages[6]);
    messages
}

#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index),
    Insert(Index, u8),
    Truncate(Index),
}

impl Damage {
    /// Damages a body; the caller adds a matching header.
    fn inflict(&self, body: &mut Vec<u8>) {
        let at = |index: &Index, length: usize| if length == 0 { None } else { Some(index.index(length)) };
        match self {
            Self::Set(index, value) => at(index, body.len()).into_iter().for_each(|at| body[at] = *value),
            Self::Flip(index, bit) => {
                at(index, body.len()).into_iter().for_each(|at| body[at] ^= 1 << (bit % 8))
            }
            Self::Remove(index) => at(index, body.len()).into_iter().for_each(|at| _ = body.remove(at)),
            Self::Insert(index, value) => body.insert(index.index(body.len() + 1), *value),
            Self::Truncate(index) => body.truncate(index.index(body.len() + 1)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<(Index, u8)>().prop_map(|(index, value)| Damage::Set(index, value)),
        any::<(Index, u8)>().prop_map(|(index, bit)| Damage::Flip(index, bit)),
        any::<Index>().prop_map(Damage::Remove),
        any::<(Index, u8)>().prop_map(|(index, value)| Damage::Insert(index, value)),
        any::<Index>().prop_map(Damage::Truncate),
    ]
}

/// An attribute that may be well-formed or malformed.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let flags =
        prop_oneof![Just(0x40), Just(0x80), Just(0xC0), Just(0x50), Just(0x90), Just(0xD0), any::<u8>()];
    let code = prop_oneof![9 => 1..=18_u8, 1 => Just(32), 1 => any::<u8>()];
    let interesting = prop_oneof![3 => any::<u8>(), 2 => 0..4_u8, 1 => Just(0xFF)];
    let value = vec(interesting, 0..48);
    let length_error = prop_oneof![8 => Just(0_i32), 1 => -3..4_i32, 1 => 200..256_i32];
    (flags, code, value, length_error).prop_map(|(flags, code, value, length_error)| {
        let length = i32::try_from(value.len()).unwrap() + length_error;
        let mut bytes = vec![flags, code];
        if flags & 0x10 != 0 {
            bytes.extend(u16::try_from(length.max(0)).unwrap().to_be_bytes());
        } else {
            bytes.push(u8::try_from(length.clamp(0, 255)).unwrap());
        }
        bytes.extend(value);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_break_session(
        state in 0..4_usize,
        bytes in vec(any::<u8>(), 0..300),
        size in 1..40_usize,
    ) {
        check_survival(in_state(state), &bytes, size);
    }

    #[test]
    fn arbitrary_bodies_never_break_session(
        state in 0..4_usize,
        messages in vec((0..7_u8, vec(any::<u8>(), 0..120)), 1..5),
        size in 1..200_usize,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
        check_survival(in_state(state), &bytes, size);
    }

    #[test]
    fn damaged_messages_never_break_session(
        state in 0..4_usize,
        kinds in vec(any::<Index>(), 1..4),
        damages in vec(damage(), 0..6),
        size in 1..200_usize,
    ) {
        let good = well_formed_messages();
        let mut bytes = Vec::new();
        for kind in kinds {
            let mut body = kind.get(&good)[19..].to_vec();
            damages.iter().for_each(|damage| damage.inflict(&mut body));
            bytes.extend(message(kind.get(&good)[18], &body));
        }
        check_survival(in_state(state), &bytes, size);
    }

    #[test]
    fn arbitrary_attributes_never_break_session(
        attributes in vec(attribute(), 0..12),
        nlri in vec(any::<u8>(), 0..12),
    ) {
        check_survival(in_state(3), &update(&attributes.concat(), &nlri), 4096);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    Stop,
    Connected,
    Failed,
    Closed,
    Good(Index),
    Pull(usize),
    Wait(u64),
    NextHops(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Start),
        1 => Just(Step::Stop),
        3 => Just(Step::Connected),
        1 => Just(Step::Failed),
        1 => Just(Step::Closed),
        6 => any::<Index>().prop_map(Step::Good),
        3 => (0..5000_usize).prop_map(Step::Pull),
        3 => (0..400_000_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::NextHops),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The inputs include sequences that a correct shell never produces.
    #[test]
    fn inputs_in_any_order_never_break_session(steps in vec(step(), 0..60)) {
        let good = well_formed_messages();
        let mut solo = in_state(0);
        for step in steps {
            match step {
                Step::Start => solo.session.handle_input(solo.now, SessionInput::ManualStart),
                Step::Stop => solo.stop(),
                Step::Connected => {
                    let (local, remote) = ("192.0.2.1:1".parse().unwrap(), solo.remote);
                    let next_hops = next_hops();
                    solo.session.handle_input(solo.now, SessionInput::Connected { local, remote, next_hops });
                }
                Step::Failed => {
                    let reason = "refused".to_owned();
                    solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason });
                }
                Step::Closed => {
                    let reason = String::new();
                    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
                }
                Step::Good(index) => solo.receive(index.get::<Vec<u8>>(&good)),
                Step::Pull(max) => {
                    let mut bytes = Vec::new();
                    let any = solo.session.poll_transmit(solo.now, max, &mut bytes);
                    prop_assert_eq!(any, !bytes.is_empty());
                    prop_assert!(bytes.len() <= max + 65535);
                }
                Step::Wait(millis) => solo.wait(Duration::from_millis(millis)),
                Step::NextHops(there) => {
                    solo.session.set_next_hops(if there { next_hops() } else { NextHops::default() });
                }
            }
            check_consistency(&mut solo);
            let running = solo.session.poll_timeout().is_some();
            // Every session that is not stopped has a running timer.
            prop_assert!(running || solo.session.state() == SessionState::Idle, "{}", solo.session.state());
        }
    }
}

/// This message causes unbounded memory use in zettabgp 0.6.
#[test]
fn as_path_exceeding_attribute_resets_session() {
    let mut solo = in_state(3);
    solo.receive(&message(2, &hex("0000 0006 40 02 03 020000")));
    assert_eq!(solo.session.state(), SessionState::Idle);
    let message = solo.down_reason().to_string();
    assert_eq!(
        message,
        "sent NOTIFICATION 3/1 (UPDATE Message Error: Malformed Attribute List): AS_PATH has an empty segment"
    );
}

#[test]
fn full_table_from_peer_leaves_session_unchanged() {
    let mut solo = in_state(3);
    let mut update = Vec::new();
    Update {
        attributes: PathAttributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath::originated_by(PEER_AS)),
            next_hop: Some([192, 0, 2, 2].into()),
            ..PathAttributes::default()
        },
        nlri: (0..800_u32).map(|n| net(&format!("20.{}.{}.0/24", n >> 8, n & 255))).collect(),
        ..Update::default()
    }
    .encode(true, &mut update);
    for _ in 0..100 {
        solo.receive(&update);
    }
    assert_eq!(solo.session.statistics().prefixes_received, 80_000);
    assert_eq!((solo.session.state(), solo.session.routes()), (SessionState::Established, 20));
}
