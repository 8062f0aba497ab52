//! Any bytes, in any state: refused or handled, never a panic, never more memory than the bytes deserve.

use std::time::Duration;

use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::{MpNextHop, MpReach, MpUnreach, PathAttributes};
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::encode_keepalive;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::update::Update;
use fairlead_bgp::{
    CeaseSubcode, Community, Family, LargeCommunity, NextHops, Notification, Origin, SessionEvent,
    SessionInput, SessionState,
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

/// Feeds the bytes in portions; whatever they are, the session stays in order.
fn survive(mut solo: Solo, bytes: &[u8], portion: usize) {
    for portion in bytes.chunks(portion.max(1)) {
        solo.receive(portion);
        solo.sent_bytes();
    }
    in_order(&mut solo);
    // And it comes back.
    solo.wait(secs(300));
    in_order(&mut solo);
    assert!(solo.session.state() >= SessionState::Idle);
}

fn in_order(solo: &mut Solo) {
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

/// One good message of each kind, with all that can be in it.
fn good_messages() -> Vec<Vec<u8>> {
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
    RouteRefresh::new(Family::Ipv4Unicast).encode(&mut messages[6]);
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
    /// To the body, leaving a header that fits.
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

/// An attribute that may be anything from right to wrong.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let flags =
        prop_oneof![Just(0x40), Just(0x80), Just(0xC0), Just(0x50), Just(0x90), Just(0xD0), any::<u8>()];
    let code = prop_oneof![9 => 1..=18_u8, 1 => Just(32), 1 => any::<u8>()];
    let interesting = prop_oneof![3 => any::<u8>(), 2 => 0..4_u8, 1 => Just(0xFF)];
    let value = vec(interesting, 0..48);
    let lie = prop_oneof![8 => Just(0_i32), 1 => -3..4_i32, 1 => 200..256_i32];
    (flags, code, value, lie).prop_map(|(flags, code, value, lie)| {
        let length = i32::try_from(value.len()).unwrap() + lie;
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
    fn arbitrary_bytes(state in 0..4_usize, bytes in vec(any::<u8>(), 0..300), portion in 1..40_usize) {
        survive(in_state(state), &bytes, portion);
    }

    #[test]
    fn arbitrary_bodies_behind_a_good_header(
        state in 0..4_usize,
        messages in vec((0..7_u8, vec(any::<u8>(), 0..120)), 1..5),
        portion in 1..200_usize,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
        survive(in_state(state), &bytes, portion);
    }

    #[test]
    fn damaged_messages(
        state in 0..4_usize,
        kinds in vec(any::<Index>(), 1..4),
        damages in vec(damage(), 0..6),
        portion in 1..200_usize,
    ) {
        let good = good_messages();
        let mut bytes = Vec::new();
        for kind in kinds {
            let mut body = kind.get(&good)[19..].to_vec();
            damages.iter().for_each(|damage| damage.inflict(&mut body));
            bytes.extend(message(kind.get(&good)[18], &body));
        }
        survive(in_state(state), &bytes, portion);
    }

    #[test]
    fn arbitrary_attributes(attributes in vec(attribute(), 0..12), nlri in vec(any::<u8>(), 0..12)) {
        survive(in_state(3), &update(&attributes.concat(), &nlri), 4096);
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

    /// Events in an order no sane shell would produce.
    #[test]
    fn events_in_any_order(steps in vec(step(), 0..60)) {
        let good = good_messages();
        let mut solo = in_state(0);
        for step in steps {
            match step {
                Step::Start => solo.session.handle_input(solo.now, SessionInput::ManualStart),
                Step::Stop => solo.stop(),
                Step::Connected => {
                    let (local, remote) = ("192.0.2.1:1".parse().unwrap(), solo.remote);
                    solo.session.handle_input(solo.now, SessionInput::Connected { local, remote, next_hops: next_hops() });
                }
                Step::Failed => {
                    solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: "refused".to_owned() });
                }
                Step::Closed => solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() }),
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
            in_order(&mut solo);
            let running = solo.session.poll_timeout().is_some();
            // Only a stopped session, or an established one without hold time, may sleep for ever.
            prop_assert!(running || solo.session.state() == SessionState::Idle, "{}", solo.session.state());
        }
    }
}

/// The message that made a published codec loop and eat all memory.
#[test]
fn an_as_path_that_does_not_end_with_its_attribute() {
    let mut solo = in_state(3);
    solo.receive(&message(2, &hex("0000 0006 40 02 03 020000")));
    assert_eq!(solo.session.state(), SessionState::Idle);
    let said = solo.down_reason().to_string();
    assert_eq!(
        said,
        "sent NOTIFICATION 3/1 (UPDATE Message Error: Malformed Attribute List): AS_PATH has an empty segment"
    );
}

#[test]
fn a_router_that_sends_its_whole_table_changes_nothing() {
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
