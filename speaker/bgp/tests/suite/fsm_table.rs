//! The table of docs/bgp.md: what each event does in each state (RFC 4271 §8.2.2). The test performs every
//! combination and compares the result with the table.

use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::message::{Message, MessageType};
use fairlead_bgp::{Family, SessionEvent, SessionInput, SessionState};

use crate::harness::*;

const STATES: [SessionState; 6] = [
    SessionState::Idle,
    SessionState::Connect,
    SessionState::Active,
    SessionState::OpenSent,
    SessionState::OpenConfirm,
    SessionState::Established,
];

/// An event, and the states in which it can occur. The timer of an event runs only there, or a message can
/// arrive only there.
struct Row {
    event: &'static str,
    states: &'static [SessionState],
    apply: fn(&mut Solo),
}

const ROWS: &[Row] = &[
    Row {
        event: "1 ManualStart",
        states: &STATES,
        apply: |solo| {
            if solo.session.state() == SessionState::Idle {
                // The event is for a session that is stopped, not for one that backs off.
                *solo = Solo::new(config());
            }
            solo.session.handle_input(solo.now, SessionInput::ManualStart);
        },
    },
    Row { event: "2 ManualStop", states: &STATES, apply: Solo::stop },
    Row {
        event: "9 ConnectRetryTimer_Expires",
        states: &[SessionState::Connect, SessionState::Active],
        apply: expire,
    },
    Row { event: "10 HoldTimer_Expires", states: CONNECTED, apply: hold_timer_expires },
    Row {
        event: "11 KeepaliveTimer_Expires",
        states: &[SessionState::OpenConfirm, SessionState::Established],
        apply: expire,
    },
    Row { event: "13 IdleHoldTimer_Expires", states: &[SessionState::Idle], apply: expire },
    Row {
        event: "16, 17 Tcp_CR_Acked, TcpConnectionConfirmed",
        states: &[SessionState::Idle, SessionState::Connect, SessionState::Active],
        apply: connected,
    },
    Row {
        event: "18 TcpConnectionFails",
        states: &STATES,
        apply: |solo| {
            let reason = String::new();
            solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
        },
    },
    Row { event: "19 BGPOpen", states: CONNECTED, apply: open },
    Row { event: "21 BGPHeaderErr", states: CONNECTED, apply: |solo| solo.receive(&[0; 19]) },
    Row {
        event: "22 BGPOpenMsgErr",
        states: CONNECTED,
        // Version 3.
        apply: |solo| solo.receive(&message(1, &[3, 0xFC, 1, 0, 90, 10, 0, 0, 2, 0])),
    },
    Row { event: "24 NotifMsgVerErr", states: CONNECTED, apply: |solo| solo.receive(&message(3, &[2, 1])) },
    Row { event: "25 NotifMsg", states: CONNECTED, apply: |solo| solo.receive(&message(3, &[6, 2])) },
    Row { event: "26 KeepAliveMsg", states: CONNECTED, apply: Solo::keepalive },
    Row { event: "27 UpdateMsg", states: CONNECTED, apply: |solo| solo.receive(&update(&[], &[])) },
    Row {
        event: "28 UpdateMsgErr",
        states: CONNECTED,
        // The attributes are longer than the message.
        apply: |solo| solo.receive(&message(2, &[0, 0, 0xFF, 0xFF])),
    },
    Row {
        event: "29 SendHoldTimer_Expires",
        states: &[SessionState::Established],
        apply: |solo| {
            solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
            while solo.session.state() == SessionState::Established {
                solo.wait(secs(10));
                solo.keepalive();
            }
        },
    },
    Row { event: "ROUTE-REFRESH (RFC 2918)", states: CONNECTED, apply: route_refresh },
    Row { event: "BFD Up", states: &STATES, apply: |solo| bfd(solo, SessionInput::BfdUp) },
    Row {
        event: "BFD Down",
        states: &STATES,
        apply: |solo| bfd(solo, SessionInput::BfdDown { reason: String::new() }),
    },
    Row { event: "BFD AdminDown", states: &STATES, apply: |solo| bfd(solo, SessionInput::BfdDisabled) },
];

fn bfd(solo: &mut Solo, input: SessionInput<'_>) {
    solo.session.handle_input(solo.now, input);
}

fn route_refresh(solo: &mut Solo) {
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    solo.sent();
    let mut bytes = Vec::new();
    RouteRefresh::request(Family::Ipv4Unicast).encode(&mut bytes);
    solo.receive(&bytes);
}

fn hold_timer_expires(solo: &mut Solo) {
    let state = solo.session.state();
    while solo.session.state() == state {
        expire(solo);
        // Without the KEEPALIVEs that are due.
        if solo.session.state() == state {
            solo.sent();
        }
    }
}

fn connected(solo: &mut Solo) {
    let (local, remote, next_hops) = ("192.0.2.1:1".parse().unwrap(), solo.remote, solo.next_hops);
    solo.session.handle_input(solo.now, SessionInput::Connected { local, remote, next_hops });
}

fn open(solo: &mut Solo) {
    solo.receive(&open_bytes(&peer_open()));
}

/// Returns a session in a state. In Idle it backs off after an error.
fn session_in(state: SessionState) -> Solo {
    let mut solo = Solo::new(config());
    let solo = match state {
        SessionState::Idle => {
            solo = solo.established();
            solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
            solo
        }
        SessionState::Connect | SessionState::Active => {
            solo.session.handle_input(solo.now, SessionInput::ManualStart);
            if state == SessionState::Active {
                let reason = String::new();
                solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason });
            }
            solo
        }
        SessionState::OpenSent => solo.open_sent(),
        SessionState::OpenConfirm => solo.open_confirm(),
        SessionState::Established => {
            let mut solo = solo.established();
            solo.sent();
            solo
        }
    };
    assert_eq!(solo.session.state(), state);
    solo
}

/// Performs an event and describes what it does.
fn outcome(row: &Row, state: SessionState) -> String {
    if !row.states.contains(&state) {
        return "–".to_owned();
    }
    let mut solo = session_in(state);
    while solo.session.poll_event().is_some() {}
    let had_timer = solo.session.poll_timeout().is_some();
    (row.apply)(&mut solo);
    let mut parts: Vec<String> = Vec::new();
    let events: Vec<_> = std::iter::from_fn(|| solo.session.poll_event()).collect();
    if events.contains(&SessionEvent::Connect) {
        parts.push("connect".to_owned());
    }
    for message in solo.sent() {
        let text = match &message {
            Message::Notification(sent) => format!("send {} {}/{}", message.kind(), sent.code, sent.subcode),
            // The End-of-RIB markers of both families, or routes.
            Message::Update(_) => "send routes".to_owned(),
            _ => format!("send {}", message.kind()),
        };
        // The UPDATEs of one table are one action.
        if message.kind() != MessageType::Update || !parts.contains(&text) {
            parts.push(text);
        }
    }
    // Sending the Cease closes the connection.
    let later: Vec<_> = std::iter::from_fn(|| solo.session.poll_event()).collect();
    if events.iter().chain(&later).any(|event| *event == SessionEvent::Close) {
        parts.push("close".to_owned());
    }
    let new = solo.session.state();
    if new != state {
        parts.push(format!("**{new}**"));
    } else if had_timer && solo.session.poll_timeout().is_none() {
        parts.push("stop IdleHoldTimer".to_owned());
    } else if parts.is_empty() && restarts_hold_timer(row, state) {
        parts.push("restart HoldTimer".to_owned());
    } else if parts.is_empty() {
        parts.push("ignore".to_owned());
    }
    parts.join(", ")
}

/// Returns true if the event postpones the expiry of the HoldTimer, which is 90 s here.
fn restarts_hold_timer(row: &Row, state: SessionState) -> bool {
    if state != SessionState::Established {
        return false;
    }
    let mut solo = session_in(state);
    solo.wait(secs(60));
    (row.apply)(&mut solo);
    solo.wait(secs(40));
    solo.session.state() == state
}

#[test]
fn documented_table_of_states_and_events_holds() {
    let rows = ROWS.iter().map(|row| (row.event, STATES.iter().map(|state| outcome(row, *state)).collect()));
    assert_documented(&STATES, rows);
}
