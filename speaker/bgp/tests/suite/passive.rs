//! Passive sessions: the peer opens the connections, and collisions are resolved (RFC 4271 §6.8, RFC 4724).

use std::net::Ipv4Addr;

use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::{Message, encode_keepalive};
use fairlead_bgp::{
    DownReason, Notification, Session, SessionConfig, SessionEvent, SessionInput, SessionState,
};

use proptest::prelude::*;

use crate::harness::*;

const STATES: [SessionState; 5] = [
    SessionState::Idle,
    SessionState::Active,
    SessionState::OpenSent,
    SessionState::OpenConfirm,
    SessionState::Established,
];

fn passive() -> SessionConfig {
    SessionConfig { passive: true, ..config() }
}

/// An identifier that is lower than that of [`config`].
const LOWER: Ipv4Addr = Ipv4Addr::new(9, 0, 0, 1);

fn with_graceful_restart(open: Open) -> Open {
    let mut capabilities = open.capabilities.clone();
    capabilities.push(Capability::GracefulRestart(GracefulRestart { time: 90, ..Default::default() }));
    Open { capabilities, ..open }
}

fn accept(solo: &mut Solo) {
    let (local, remote, next_hops) = ("192.0.2.1:179".parse().unwrap(), solo.remote, solo.next_hops);
    solo.session.handle_input(solo.now, SessionInput::Accepted { local, remote, next_hops });
}

fn second_receives(solo: &mut Solo, bytes: &[u8]) {
    solo.session.handle_input(solo.now, SessionInput::SecondReceived(bytes));
}

fn sent_on_second(solo: &mut Solo) -> Vec<Message> {
    let mut bytes = Vec::new();
    solo.session.poll_transmit_second(&mut bytes);
    decode_all(&bytes, solo.context)
}

/// Returns a passive session in a state whose peer sent this OPEN. In Idle it backs off after an error.
fn session_in(state: SessionState, open: &Open) -> Solo {
    let mut solo = Solo::new(passive());
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    if state != SessionState::Active {
        accept(&mut solo);
        solo.sent();
    }
    if matches!(state, SessionState::OpenConfirm | SessionState::Established | SessionState::Idle) {
        solo.receive(&open_bytes(open));
        solo.sent();
    }
    if state == SessionState::Established {
        solo.keepalive();
        solo.sent();
    }
    if state == SessionState::Idle {
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    }
    assert_eq!(solo.session.state(), state);
    while solo.session.poll_event().is_some() {}
    solo
}

/// The same with a second connection that waits for the OPEN of the peer.
fn with_second(state: SessionState, open: &Open) -> Solo {
    let mut solo = session_in(state, open);
    accept(&mut solo);
    assert!(matches!(sent_on_second(&mut solo)[..], [Message::Open(_)]));
    assert_eq!(solo.session.state(), state);
    solo
}

/// An event, and the states in which it can occur.
struct Row {
    event: &'static str,
    states: &'static [SessionState],
    perform: fn(SessionState) -> Solo,
    apply: fn(&mut Solo),
}

fn without_second(state: SessionState) -> Solo {
    session_in(state, &peer_open())
}

const ROWS: &[Row] = &[
    Row {
        event: "4 ManualStart_with_PassiveTcpEstablishment",
        states: &STATES,
        perform: |state| match state {
            SessionState::Idle => Solo::new(passive()),
            _ => without_second(state),
        },
        apply: |solo| solo.session.handle_input(solo.now, SessionInput::ManualStart),
    },
    Row { event: "2 ManualStop", states: &STATES, perform: without_second, apply: Solo::stop },
    Row {
        event: "9 ConnectRetryTimer_Expires",
        states: &[SessionState::Active],
        perform: |_| {
            let mut solo = without_second(SessionState::OpenSent);
            solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
            solo
        },
        apply: expire,
    },
    Row {
        event: "13 IdleHoldTimer_Expires",
        states: &[SessionState::Idle],
        perform: without_second,
        apply: expire,
    },
    Row {
        event: "17 TcpConnectionConfirmed",
        states: &STATES,
        perform: without_second,
        apply: |solo| {
            if solo.session.accepts() {
                accept(solo);
            }
        },
    },
    Row {
        event: "18 TcpConnectionFails",
        states: &STATES,
        perform: without_second,
        apply: |solo| {
            let reason = String::new();
            solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
        },
    },
    Row {
        event: "19 BGPOpen on the second connection, higher identifier of the peer",
        states: CONNECTED,
        perform: |state| with_second(state, &peer_open()),
        apply: |solo| second_receives(solo, &open_bytes(&peer_open())),
    },
    Row {
        event: "19 BGPOpen on the second connection, lower identifier of the peer",
        states: CONNECTED,
        perform: |state| with_second(state, &Open { router_id: LOWER, ..peer_open() }),
        apply: |solo| second_receives(solo, &open_bytes(&Open { router_id: LOWER, ..peer_open() })),
    },
    Row {
        event: "19 BGPOpen on the second connection, the peer offers graceful restart",
        states: &[SessionState::Established],
        perform: |state| with_second(state, &with_graceful_restart(peer_open())),
        apply: |solo| second_receives(solo, &open_bytes(&with_graceful_restart(peer_open()))),
    },
    Row {
        event: "22 BGPOpenMsgErr on the second connection",
        states: CONNECTED,
        perform: |state| with_second(state, &peer_open()),
        apply: |solo| second_receives(solo, &open_bytes(&Open { hold_time: 1, ..peer_open() })),
    },
    Row {
        event: "no OPEN on the second connection within 5 s",
        states: CONNECTED,
        perform: |state| with_second(state, &peer_open()),
        apply: |solo| solo.wait(secs(6)),
    },
];

fn text(message: &Message, on: &str) -> String {
    match message {
        Message::Notification(sent) => {
            format!("send NOTIFICATION {}/{}{on}", sent.code, sent.subcode)
        }
        _ => format!("send {}{on}", message.kind()),
    }
}

/// Performs an event and describes what it does.
fn outcome(row: &Row, state: SessionState) -> String {
    if !row.states.contains(&state) {
        return "–".to_owned();
    }
    let mut solo = (row.perform)(state);
    assert_eq!(solo.session.state(), state, "{}", row.event);
    while solo.session.poll_event().is_some() {}
    let accepted = solo.session.accepts();
    let had_timer = solo.session.poll_timeout().is_some();
    (row.apply)(&mut solo);
    let mut events = solo.events();
    let mut parts = Vec::new();
    if events.contains(&SessionEvent::SwitchConnections) {
        parts.push("switch".to_owned());
    }
    parts.extend(solo.sent().iter().map(|message| text(message, "")));
    parts.extend(sent_on_second(&mut solo).iter().map(|message| text(message, " on the second")));
    events.extend(solo.events());
    assert!(!events.contains(&SessionEvent::Connect), "a passive session never connects");
    if events.contains(&SessionEvent::CloseSecond) {
        parts.push("close the second".to_owned());
    }
    if events.contains(&SessionEvent::Close) {
        parts.push("close".to_owned());
    }
    if !accepted && solo.session.accepts() && solo.session.state() == SessionState::Active {
        parts.push("listen".to_owned());
    }
    let new = solo.session.state();
    if new != state {
        parts.push(format!("**{new}**"));
    } else if had_timer && solo.session.poll_timeout().is_none() {
        parts.push("stop IdleHoldTimer".to_owned());
    } else if parts.is_empty() {
        let waits = row.event.starts_with("17") && solo.session.is_listening();
        parts.push(if waits { "let the connection wait" } else { "ignore" }.to_owned());
    }
    parts.join(", ")
}

#[test]
fn documented_table_of_passive_sessions_holds() {
    let rows = ROWS.iter().map(|row| (row.event, STATES.iter().map(|state| outcome(row, *state)).collect()));
    assert_documented(&STATES, rows);
}

#[test]
fn connection_waits_while_the_session_backs_off() {
    let mut solo = session_in(SessionState::Idle, &peer_open());
    assert!(solo.session.is_listening() && !solo.session.accepts());
    // connectTime limits the wait.
    solo.wait(secs(2));
    assert!(solo.session.accepts());
    accept(&mut solo);
    assert_eq!(solo.session.state(), SessionState::OpenSent);
}

#[test]
fn stopped_session_accepts_nothing() {
    for state in STATES {
        let mut solo = session_in(state, &peer_open());
        solo.stop();
        assert!(!solo.session.is_listening() && !solo.session.accepts(), "{state}");
    }
}

#[test]
fn missing_connection_is_reported_once() {
    let mut solo = session_in(SessionState::Active, &peer_open());
    solo.wait(secs(14));
    assert_eq!(solo.events(), []);
    solo.wait(secs(3600));
    assert_eq!(solo.events(), [SessionEvent::Unconnected]);
    assert!(solo.session.accepts());
}

#[test]
fn older_connection_whose_open_comes_last_is_decided_by_identifiers() {
    for (router_id, switches) in [(LOWER, 1), (peer_open().router_id, 2)] {
        let open = Open { router_id, ..peer_open() };
        let mut solo = with_second(SessionState::OpenSent, &open);
        second_receives(&mut solo, &open_bytes(&open));
        assert_eq!(solo.session.state(), SessionState::OpenConfirm);
        assert_eq!(solo.sent(), [Message::Keepalive]);
        // The first connection is the second one now.
        second_receives(&mut solo, &open_bytes(&open));
        let events = solo.events();
        let seen = events.iter().filter(|event| **event == SessionEvent::SwitchConnections).count();
        assert_eq!(seen, switches, "{router_id}");
        assert_eq!(events.last(), Some(&SessionEvent::CloseSecond));
        let collision = Notification { code: 6, subcode: 7, data: Vec::new() };
        assert_eq!(sent_on_second(&mut solo), [Message::Notification(collision)]);
        solo.keepalive();
        assert_eq!(solo.session.state(), SessionState::Established);
    }
}

#[test]
fn restarted_peer_replaces_its_session_and_gets_all_routes() {
    let open = with_graceful_restart(peer_open());
    let mut solo = session_in(SessionState::Established, &open);
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    solo.sent();
    assert_eq!(solo.session.announced(), 1);
    accept(&mut solo);
    sent_on_second(&mut solo);
    // The OPEN and the KEEPALIVE arrive together.
    let mut bytes = open_bytes(&open);
    encode_keepalive(&mut bytes);
    second_receives(&mut solo, &bytes);
    assert_eq!(solo.session.state(), SessionState::Established);
    let events = solo.events();
    assert!(
        matches!(
            events[..],
            [
                SessionEvent::Down { from: SessionState::Established, reason: DownReason::Replaced },
                SessionEvent::SwitchConnections,
                SessionEvent::CloseSecond,
                SessionEvent::Established(_),
            ]
        ),
        "{events:?}"
    );
    assert_eq!(sent_on_second(&mut solo), [], "the earlier connection gets no NOTIFICATION");
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    assert_eq!(learned.prefixes(), ["192.0.2.0/24"]);
}

#[test]
fn second_connection_continues_when_the_first_one_ends() {
    for state in CONNECTED {
        let mut solo = with_second(*state, &peer_open());
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
        assert!(!solo.session.reads_second(), "the session backs off");
        solo.wait(secs(2));
        assert_eq!(solo.session.state(), SessionState::OpenSent, "{state}");
        assert!(solo.events().contains(&SessionEvent::SwitchConnections));
        solo.receive(&open_bytes(&peer_open()));
        solo.keepalive();
        assert_eq!(solo.session.state(), SessionState::Established);
    }
}

#[test]
fn second_connections_follow_each_other_slowly() {
    let mut solo = with_second(SessionState::Established, &peer_open());
    assert!(!solo.session.accepts(), "there is one already");
    second_receives(&mut solo, &open_bytes(&peer_open()));
    assert!(!solo.session.accepts());
    solo.wait(secs(1));
    assert!(solo.session.accepts());
}

#[test]
fn stop_and_new_parameters_close_both_connections() {
    let end = |action: fn(&mut Session, std::time::Instant)| {
        let mut solo = with_second(SessionState::OpenSent, &peer_open());
        action(&mut solo.session, solo.now);
        let second = sent_on_second(&mut solo);
        let first = solo.sent();
        assert!(matches!(first[..], [Message::Notification(_)]), "{first:?}");
        assert!(matches!(second[..], [Message::Notification(_)]), "{second:?}");
        let events = solo.events();
        assert!(events.contains(&SessionEvent::Close) && events.contains(&SessionEvent::CloseSecond));
        solo.session.state()
    };
    let active = end(|session, now| session.reconfigure(now, passive(), true).unwrap());
    assert_eq!(active, SessionState::Active);
    let idle = end(|session, now| {
        let subcode = fairlead_bgp::CeaseSubcode::AdministrativeShutdown;
        let (text, drain) = (String::new(), secs(0));
        session.handle_input(now, SessionInput::ManualStop { subcode, text, restart: false, drain });
    });
    assert_eq!(idle, SessionState::Idle);
}

#[test]
fn damaged_octets_on_the_second_connection_cost_only_it() {
    for state in CONNECTED {
        for bytes in [vec![0; 19], message(3, &[6, 2]), message(4, &[])] {
            let mut solo = with_second(*state, &peer_open());
            second_receives(&mut solo, &bytes);
            assert_eq!(solo.events(), [SessionEvent::CloseSecond]);
            assert_eq!(solo.session.state(), *state);
        }
    }
}

/// A step of [`connections_of_the_shell_and_the_session_agree`].
#[derive(Clone, Debug)]
enum Step {
    Accept,
    FirstCloses,
    SecondCloses,
    FirstReceives(Vec<u8>),
    SecondReceives(Vec<u8>),
    Wait(u64),
    BfdUp,
    BfdDown,
    Stop,
    Start,
    Reconfigure,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keepalive = || {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        bytes
    };
    let higher = || open_bytes(&peer_open());
    let octets = move || {
        prop_oneof![
            3 => Just(higher()),
            1 => Just(open_bytes(&Open { router_id: LOWER, ..peer_open() })),
            1 => Just(open_bytes(&with_graceful_restart(peer_open()))),
            3 => Just(keepalive()),
            1 => Just([higher(), keepalive()].concat()),
            1 => Just(message(3, &[6, 2])),
            1 => Just(vec![0; 19]),
        ]
    };
    let step = prop_oneof![
        6 => Just(Step::Accept),
        1 => Just(Step::FirstCloses),
        1 => Just(Step::SecondCloses),
        6 => octets().prop_map(Step::FirstReceives),
        6 => octets().prop_map(Step::SecondReceives),
        3 => (0..7_u64).prop_map(Step::Wait),
        1 => Just(Step::BfdUp),
        1 => Just(Step::BfdDown),
        1 => Just(Step::Stop),
        2 => Just(Step::Start),
        1 => Just(Step::Reconfigure),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connections_of_the_shell_and_the_session_agree(steps in steps()) {
        let mut solo = Solo::new(passive());
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        // The connections that a shell has open.
        let (mut first, mut second) = (false, false);
        for step in steps {
            match step {
                Step::Accept if solo.session.accepts() => {
                    match solo.session.state() {
                        SessionState::Active => first = true,
                        _ => second = true,
                    }
                    accept(&mut solo);
                }
                Step::FirstCloses if std::mem::take(&mut first) => {
                    let reason = String::new();
                    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
                }
                Step::SecondCloses if solo.session.reads_second() => {
                    second = false;
                    solo.session.handle_input(solo.now, SessionInput::SecondClosed);
                }
                Step::FirstReceives(octets) if first => solo.receive(&octets),
                Step::SecondReceives(octets) if solo.session.reads_second() => {
                    second_receives(&mut solo, &octets);
                }
                Step::Wait(seconds) => solo.wait(secs(seconds)),
                Step::BfdUp => solo.session.handle_input(solo.now, SessionInput::BfdUp),
                Step::BfdDown => {
                    let reason = String::new();
                    solo.session.handle_input(solo.now, SessionInput::BfdDown { reason });
                }
                Step::Stop => solo.stop(),
                Step::Start => solo.session.handle_input(solo.now, SessionInput::ManualStart),
                Step::Reconfigure => solo.session.reconfigure(solo.now, passive(), true).unwrap(),
                _ => {}
            }
            // A session that is being stopped ends when its withdrawals are written.
            loop {
                let events = solo.events();
                let sent = solo.sent_bytes();
                sent_on_second(&mut solo);
                for event in &events {
                    match event {
                        SessionEvent::Connect => panic!("a passive session never connects"),
                        SessionEvent::Close | SessionEvent::CloseForRestart => first = false,
                        SessionEvent::SwitchConnections => std::mem::swap(&mut first, &mut second),
                        SessionEvent::CloseSecond => second = false,
                        _ => {}
                    }
                }
                if events.is_empty() && sent.is_empty() {
                    break;
                }
            }
            let state = solo.session.state();
            prop_assert_eq!(first, state >= SessionState::OpenSent, "{}", state);
            prop_assert!(second || !solo.session.reads_second());
            prop_assert_eq!(second && state >= SessionState::OpenSent, solo.session.reads_second());
            prop_assert!(state != SessionState::Connect);
        }
    }
}
