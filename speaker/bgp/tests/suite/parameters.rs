//! Changes of the parameters of a session.

use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::{
    CeaseSubcode, ConfigError, DownReason, Notification, SessionConfig, SessionEvent, SessionInput,
    SessionState,
};

use crate::harness::*;

/// Parameters with another hold time.
fn edited(graceful_restart: bool) -> SessionConfig {
    let graceful_restart = graceful_restart.then(|| secs(120));
    SessionConfig { hold_time: secs(30), graceful_restart, ..config() }
}

/// Connects and returns the OPEN that the session sends.
fn connect(solo: &mut Solo) -> Open {
    let (local, remote, next_hops) = ("192.0.2.1:1".parse().unwrap(), solo.remote, solo.next_hops);
    solo.session.handle_input(solo.now, SessionInput::Connected { local, remote, next_hops });
    match solo.sent().pop() {
        Some(Message::Open(open)) => open,
        other => panic!("{other:?}"),
    }
}

/// Returns the Restart State bit; `None` without the capability.
fn restart_state(open: &Open) -> Option<bool> {
    open.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart(restart) => Some(restart.restarting),
        _ => None,
    })
}

#[test]
fn edit_leaves_routes_only_to_graceful_restart_with_the_same_peer() {
    // (graceful restart here, after the edit, at the peer, same peer) → the peer retains the routes
    for (before, after, theirs, same_peer, retained) in [
        (true, true, true, true, true),
        (true, true, true, false, false),
        (true, true, false, true, false),
        (true, false, true, true, false),
        (false, true, true, true, false),
        (false, false, false, true, false),
    ] {
        let case = format!("{before}, {after}, {theirs}, {same_peer}");
        let mut solo = established_with_restart(before, theirs);
        solo.session.reconfigure(solo.now, edited(after), same_peer).unwrap();
        let down = SessionEvent::Down { from: SessionState::Established, reason: DownReason::Reconfigured };
        let close = if retained { SessionEvent::CloseForRestart } else { SessionEvent::Close };
        assert_eq!(solo.events(), [close, down, SessionEvent::Connect], "{case}");
        let cease = Notification::cease(CeaseSubcode::OtherConfigurationChange, "");
        let expected = if retained { vec![] } else { vec![Message::Notification(cease)] };
        assert_eq!(solo.sent(), expected, "{case}");

        let open = connect(&mut solo);
        assert_eq!(open.hold_time, 30, "{case}");
        assert_eq!(restart_state(&open), after.then_some(retained), "{case}");
    }
}

#[test]
fn restart_state_bit_is_set_until_established() {
    let mut solo = established_with_restart(true, true);
    solo.session.reconfigure(solo.now, edited(true), true).unwrap();
    connect(&mut solo);
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    assert_eq!(solo.session.state(), SessionState::Active);
    let wait = solo.session.poll_timeout().unwrap() - solo.now;
    assert!(wait.as_millis() >= 50 && wait.as_millis() <= 100, "{wait:?}");
    solo.wait(wait);
    assert_eq!(solo.session.state(), SessionState::Connect);
    assert_eq!(restart_state(&connect(&mut solo)), Some(true));
    let mut open = Vec::new();
    peer_open().encode(&mut open);
    solo.receive(&open);
    solo.keepalive();
    let sent = solo.sent();
    let announces = |message: &&Message| match message {
        Message::Update(decoded) => decoded.update.nlri == [net("192.0.2.0/24")],
        _ => false,
    };
    assert_eq!(sent.iter().filter(announces).count(), 1, "the route is announced again: {sent:?}");
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    solo.wait(secs(1));
    assert_eq!(restart_state(&connect(&mut solo)), Some(false));
}

#[test]
fn edit_takes_effect_in_every_state() {
    type Prepare = fn(Solo) -> Solo;
    let connecting: Prepare = |mut solo| {
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        solo
    };
    let waiting: Prepare = |mut solo| {
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: String::new() });
        solo
    };
    let backing_off: Prepare = |solo| {
        let mut solo = solo.established();
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
        solo
    };
    let table: [(Prepare, &[SessionEvent]); 5] = [
        (connecting, &[SessionEvent::Close]),
        (waiting, &[]),
        (backing_off, &[]),
        (Solo::open_sent, &[SessionEvent::Close]),
        (Solo::open_confirm, &[SessionEvent::Close]),
    ];
    for (prepare, closes) in table {
        let mut solo = prepare(Solo::new(config()));
        solo.events();
        let from = solo.session.state();
        solo.session.reconfigure(solo.now, edited(false), true).unwrap();
        let down = SessionEvent::Down { from, reason: DownReason::Reconfigured };
        let expected = [closes, &[down, SessionEvent::Connect]].concat();
        assert_eq!(solo.events(), expected, "{from}");
        solo.sent();
        assert_eq!(connect(&mut solo).hold_time, 30, "{from}");
    }
}

#[test]
fn stopped_session_adopts_the_parameters_at_its_start() {
    let mut solo = Solo::new(config());
    solo.session.reconfigure(solo.now, edited(false), true).unwrap();
    assert_eq!(solo.events(), []);
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(connect(&mut solo).hold_time, 30);
}

#[test]
fn invalid_parameters_change_nothing() {
    let mut solo = established_with_restart(false, false);
    let invalid = SessionConfig { hold_time: secs(1), ..config() };
    assert_eq!(solo.session.reconfigure(solo.now, invalid, true), Err(ConfigError::HoldTime));
    assert_eq!((solo.events(), solo.session.state()), (vec![], SessionState::Established));
}

#[test]
fn both_ends_are_established_within_milliseconds_of_an_edit() {
    let mut pair = Pair::ebgp();
    pair.start();
    pair.run(secs(100));
    let now = pair.now;
    pair.ends[0].session.reconfigure(now, SessionConfig { hold_time: secs(30), ..config() }, true).unwrap();
    pair.run(secs(2));
    assert_eq!(pair.states(), [SessionState::Established; 2]);
    let hold_time = |end: usize| pair.ends[end].session.negotiated().unwrap().hold_time;
    assert_eq!((hold_time(0), hold_time(1)), (secs(30), secs(30)));
}

#[test]
fn changed_keepalive_time_applies_to_established_session() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    let keepalives_in_a_minute = |solo: &mut Solo| {
        let mut count = 0;
        for _ in 0..60 {
            solo.wait(secs(1));
            count += solo.sent().len();
            solo.keepalive();
        }
        count
    };
    solo.session.set_keepalive_time(solo.now, Some(secs(2)));
    assert_eq!(solo.session.negotiated().unwrap().keepalive_time, secs(2));
    assert!((30..=40).contains(&keepalives_in_a_minute(&mut solo)));
    // More than a third of the hold time is that third.
    solo.session.set_keepalive_time(solo.now, Some(secs(60)));
    assert_eq!(solo.session.negotiated().unwrap().keepalive_time, secs(30));
    assert!(keepalives_in_a_minute(&mut solo) <= 4);
    assert_eq!(solo.session.state(), SessionState::Established);
}

#[test]
fn repeated_changes_do_not_delay_the_keepalive() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    for second in 0..31_u64 {
        solo.session.set_keepalive_time(solo.now, Some(secs(29 + second % 2)));
        solo.wait(secs(1));
    }
    assert!(solo.sent().contains(&Message::Keepalive));
}

#[test]
fn shorter_connect_retry_ends_the_wait_in_progress() {
    let mut solo = Solo::new(SessionConfig { connect_retry: secs(120), ..config() });
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    for _ in 0..12 {
        solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: "refused".to_owned() });
        solo.now = solo.session.poll_timeout().unwrap();
        solo.session.handle_timeout(solo.now);
    }
    solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: "refused".to_owned() });
    let wait = solo.session.poll_timeout().unwrap() - solo.now;
    assert!(wait >= secs(90), "{wait:?}");
    solo.session.set_connect_retry(solo.now, secs(2));
    assert_eq!(solo.session.poll_timeout(), Some(solo.now + secs(2)));
    solo.wait(secs(2));
    assert_eq!(solo.session.state(), SessionState::Connect);
}
