//! Graceful restart (RFC 4724) and its extension to NOTIFICATIONs (RFC 8538): what our OPEN says, and how
//! sessions end.

use std::time::Duration;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::{
    CeaseSubcode, NextHops, Notification, SessionConfig, SessionEvent, SessionInput, SessionState,
};

use crate::harness::*;

const SHUTDOWN: CeaseSubcode = CeaseSubcode::AdministrativeShutdown;

/// Parameters of a process that has restarted just now.
fn restarted(solo_start: std::time::Instant) -> SessionConfig {
    SessionConfig {
        graceful_restart: Some(secs(120)),
        restarting_until: Some(solo_start + secs(120)),
        ..config()
    }
}

/// Connects, and returns the graceful restart capability in our OPEN.
fn connect(solo: &mut Solo) -> GracefulRestart {
    let (local, remote, next_hops) = ("192.0.2.1:1".parse().unwrap(), solo.remote, solo.next_hops);
    solo.session.handle_input(solo.now, SessionInput::Connected { local, remote, next_hops });
    let sent = solo.sent();
    let [Message::Open(open)] = &sent[..] else { panic!("{sent:?}") };
    let restart = open.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart(restart) => Some(restart.clone()),
        _ => None,
    });
    restart.unwrap()
}

fn fail(solo: &mut Solo) {
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    while solo.session.poll_event().is_some() {}
}

fn establish(solo: &mut Solo) {
    let mut open = Vec::new();
    peer_open().encode(&mut open);
    solo.receive(&open);
    solo.keepalive();
    assert_eq!(solo.session.state(), SessionState::Established);
}

#[test]
fn restart_state_bit_is_set_until_first_establishment() {
    let mut solo = Solo::new(restarted(std::time::Instant::now()));
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    let families = vec![(1, 1, true), (2, 1, true)];
    let expected = GracefulRestart { restarting: true, notification: true, time: 120, families };
    assert_eq!(connect(&mut solo), expected);
    fail(&mut solo);
    solo.wait(secs(1));
    assert_eq!(connect(&mut solo), expected);
    establish(&mut solo);
    fail(&mut solo);
    solo.wait(secs(1));
    assert_eq!(connect(&mut solo), GracefulRestart { restarting: false, ..expected });
}

#[test]
fn restart_state_bit_is_set_only_within_restart_time() {
    let start = std::time::Instant::now();
    let connect_at = |config: SessionConfig, second: u64| {
        let mut solo = Solo::new(config);
        solo.now = start + secs(second);
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        connect(&mut solo).restarting
    };
    assert!(connect_at(restarted(start), 119));
    assert!(!connect_at(restarted(start), 120), "the peer has deleted the routes");
    let new = SessionConfig { restarting_until: None, ..restarted(start) };
    assert!(!connect_at(new, 0), "the process did not restart");

    // After an edit, from the end of the session.
    let mut solo = established_with_notification();
    let config = SessionConfig { graceful_restart: Some(secs(30)), ..config() };
    solo.session.reconfigure(solo.now, config, true).unwrap();
    assert!(connect(&mut solo).restarting);
    fail(&mut solo);
    solo.wait(secs(30));
    assert!(!connect(&mut solo).restarting);
}

#[test]
fn forwarding_state_bit_is_set_for_families_with_next_hop() {
    let (v4, v6) = (next_hops().v4, next_hops().v6);
    let link_local = Some("fe80::1".parse().unwrap());
    let none = NextHops::default();
    for (preserved, next_hops, expected) in [
        (true, next_hops(), (true, true)),
        (false, next_hops(), (false, false)),
        (true, NextHops { v4, ..none }, (true, false)),
        (true, NextHops { v6, ..none }, (true, true)),
        (true, NextHops { link_local, ..none }, (true, true)),
        (true, none, (false, false)),
    ] {
        let config =
            SessionConfig { graceful_restart: Some(secs(120)), forwarding_preserved: preserved, ..config() };
        let mut solo = Solo::new(config);
        solo.next_hops = next_hops;
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        let expected = vec![(1, 1, expected.0), (2, 1, expected.1)];
        assert_eq!(connect(&mut solo).families, expected, "{preserved} {next_hops:?}");
    }
}

#[test]
fn last_instance_of_repeated_capability_counts() {
    let mut open = peer_open();
    open.capabilities.insert(0, Capability::FourOctetAs(4_200_000_000));
    for (time, notification) in [(30, true), (60, false)] {
        let restart = GracefulRestart { time, notification, ..GracefulRestart::default() };
        open.capabilities.push(Capability::GracefulRestart(restart));
    }
    let config = SessionConfig { graceful_restart: Some(secs(120)), ..config() };
    let solo = Solo::new(config).established_with(&open);
    let negotiated = solo.session.negotiated().unwrap();
    assert_eq!(negotiated.peer_asn, PEER_AS);
    assert_eq!(negotiated.graceful_restart, Some(Duration::from_secs(60)));
    assert!(!negotiated.graceful_notification);
}

/// An established session with graceful restart after NOTIFICATIONs (RFC 8538) and one route.
fn established_with_notification() -> Solo {
    let mut solo = Solo::new(SessionConfig { graceful_restart: Some(secs(120)), ..config() });
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    let restart = GracefulRestart { time: 90, notification: true, ..Default::default() };
    let mut open = peer_open();
    open.capabilities.push(Capability::GracefulRestart(restart));
    let mut solo = solo.established_with(&open);
    assert!(solo.session.negotiated().unwrap().graceful_notification);
    solo.sent();
    solo
}

#[test]
fn leave_under_rfc_8538_sends_hard_reset() {
    let mut solo = established_with_notification();
    let (text, drain) = ("bye".to_owned(), Duration::ZERO);
    let stop = SessionInput::ManualStop { subcode: SHUTDOWN, text, restart: false, drain };
    solo.session.handle_input(solo.now, stop);
    let sent = solo.sent();
    let [Message::Update(_), Message::Notification(reset)] = &sent[..] else { panic!("{sent:?}") };
    // Cease, Hard Reset; Cease, Administrative Shutdown; the length of the text and the text.
    assert_eq!((reset.code, reset.subcode, &reset.data[..]), (6, 9, &b"\x06\x02\x03bye"[..]));
    let text = "6/9 (Cease: Hard Reset) for 6/2 (Cease: Administrative Shutdown) \"bye\"";
    assert_eq!(reset.to_string(), text);
    // Without the reason, and with another Hard Reset as the reason.
    for data in [vec![], vec![6], vec![6, 9, 6, 2]] {
        let reset = Notification { code: 6, subcode: 9, data };
        assert_eq!(reset.to_string(), "6/9 (Cease: Hard Reset)");
    }

    // BFD: a peer that still receives must not retain the routes.
    let mut solo = established_with_notification();
    solo.session.handle_input(solo.now, SessionInput::BfdUp);
    solo.session.handle_input(solo.now, SessionInput::BfdDown { reason: String::new() });
    let reset = Notification::cease(CeaseSubcode::BfdDown, "").into_hard_reset();
    assert_eq!(solo.sent(), [Message::Notification(reset)]);
}

#[test]
fn loss_under_rfc_8538_sends_plain_notification_and_no_restart_state() {
    let mut solo = established_with_notification();
    solo.wait(secs(91));
    let expired = Notification { code: 4, subcode: 0, data: vec![] };
    assert_eq!(solo.sent().pop(), Some(Message::Notification(expired)), "the peer retains the routes");
    assert!(std::iter::from_fn(|| solo.session.poll_event()).any(|event| event == SessionEvent::Connect));
    let restart = connect(&mut solo);
    assert!(!restart.restarting, "the process did not restart");
    assert!(restart.families.iter().all(|(_, _, preserved)| *preserved), "{restart:?}");
}
