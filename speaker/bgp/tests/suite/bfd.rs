//! BFD and the session (RFC 5882).

use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::{DownReason, Notification, SessionConfig, SessionEvent, SessionInput, SessionState};

use crate::harness::*;

fn down(solo: &mut Solo) {
    let reason = "Control Detection Time Expired".to_owned();
    solo.session.handle_input(solo.now, SessionInput::BfdDown { reason });
}

fn up(solo: &mut Solo) {
    solo.session.handle_input(solo.now, SessionInput::BfdUp);
}

fn release(solo: &mut Solo) {
    solo.session.handle_input(solo.now, SessionInput::BfdReleased);
}

fn events(solo: &mut Solo) -> Vec<SessionEvent> {
    std::iter::from_fn(|| solo.session.poll_event()).collect()
}

const BFD_DOWN: Notification = Notification { code: 6, subcode: 10, data: Vec::new() };

#[test]
fn bfd_down_ends_session_at_once_and_until_bfd_is_up() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    down(&mut solo);
    assert_eq!(solo.session.state(), SessionState::Idle);
    assert_eq!(solo.sent(), [Message::Notification(BFD_DOWN)]);
    let [SessionEvent::Close, SessionEvent::Down { from, reason }] = &events(&mut solo)[..] else {
        panic!("a close and an end")
    };
    assert_eq!(*from, SessionState::Established);
    assert_eq!(
        reason.to_string(),
        "sent NOTIFICATION 6/10 (Cease: BFD Down): BFD session down: Control Detection Time Expired"
    );
    // No attempt in an hour: the path is dead, and BFD reports when it works again.
    solo.wait(secs(3600));
    assert_eq!(events(&mut solo), []);
    assert!(solo.session.waits_for_bfd());
    up(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    solo.reestablish();
}

#[test]
fn bfd_down_with_graceful_restart_ends_session_with_notification() {
    let restart = GracefulRestart { restarting: false, notification: false, time: 120, families: vec![] };
    let mut open = peer_open();
    open.capabilities.push(Capability::GracefulRestart(restart));
    let config = SessionConfig { graceful_restart: Some(secs(120)), ..config() };
    let mut solo = Solo::new(config).established_with(&open);
    solo.sent();
    down(&mut solo);
    assert_eq!(solo.sent(), [Message::Notification(BFD_DOWN)]);
    assert!(events(&mut solo).contains(&SessionEvent::Close));
}

#[test]
fn bfd_up_ends_any_wait_between_attempts() {
    // Active, after many failures.
    let mut solo = Solo::new(config());
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    for _ in 0..8 {
        solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: String::new() });
        solo.wait(solo.session.poll_timeout().unwrap() - solo.now);
    }
    solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason: String::new() });
    events(&mut solo);
    up(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    // Idle, after an error.
    solo.reestablish();
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    events(&mut solo);
    up(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
}

#[test]
fn bfd_up_leaves_established_session_alone() {
    let mut solo = Solo::new(config()).established();
    up(&mut solo);
    assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Established, vec![]));
}

#[test]
fn release_keeps_session_and_ends_the_wait() {
    let mut solo = Solo::new(config()).established();
    up(&mut solo);
    release(&mut solo);
    assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Established, vec![]));
    up(&mut solo);
    down(&mut solo);
    events(&mut solo);
    release(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect], "BFD does not hold the session any more");
}

#[test]
fn release_does_not_shorten_back_off() {
    let mut solo = Solo::new(config()).established();
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    events(&mut solo);
    release(&mut solo);
    assert_eq!(events(&mut solo), []);
    assert!(solo.session.poll_timeout().is_some());
}

#[test]
fn bfd_down_cancels_an_attempt() {
    let mut solo = Solo::new(config());
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    down(&mut solo);
    assert_eq!(events(&mut solo)[0], SessionEvent::Close);
    assert_eq!((solo.session.state(), solo.session.poll_timeout()), (SessionState::Idle, None));
}

#[test]
fn strict_session_connects_only_while_bfd_is_up() {
    let mut solo = Solo::new(config());
    solo.session.set_bfd_strict(solo.now, true);
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    solo.wait(secs(3600));
    assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Idle, vec![]));
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    release(&mut solo);
    assert_eq!(events(&mut solo), [], "only Up starts the session");
    up(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    solo.reestablish();
    release(&mut solo);
    assert_eq!(solo.session.state(), SessionState::Established);
    // The next connection needs BFD again.
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    events(&mut solo);
    solo.wait(secs(3600));
    assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Idle, vec![]));
    solo.session.set_bfd_strict(solo.now, false);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
}

#[test]
fn strict_session_connects_while_the_peer_has_disabled_bfd() {
    let disable = |solo: &mut Solo| solo.session.handle_input(solo.now, SessionInput::BfdDisabled);
    let close = |solo: &mut Solo| {
        let closed = SessionInput::ConnectionClosed { reason: String::new() };
        solo.session.handle_input(solo.now, closed);
        events(solo);
    };
    let mut solo = Solo::new(config());
    solo.session.set_bfd_strict(solo.now, true);
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert!(solo.session.waits_for_bfd());
    disable(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    solo.reestablish();
    disable(&mut solo);
    assert_eq!(solo.session.state(), SessionState::Established);
    // The peer enables BFD again: the session remains, and the next connection needs BFD.
    release(&mut solo);
    assert_eq!(solo.session.state(), SessionState::Established);
    close(&mut solo);
    solo.wait(secs(3600));
    assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Idle, vec![]));
    // A failure of the path while BFD is enabled.
    disable(&mut solo);
    solo.reestablish();
    up(&mut solo);
    down(&mut solo);
    events(&mut solo);
    assert!(solo.session.waits_for_bfd());
}

#[test]
fn strict_session_whose_bfd_is_up_before_the_start_connects() {
    let mut solo = Solo::new(config());
    solo.session.set_bfd_strict(solo.now, true);
    up(&mut solo);
    assert_eq!(events(&mut solo), [], "the session is not started");
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
}

#[test]
fn stopped_session_ignores_bfd() {
    let mut solo = Solo::new(config()).established();
    solo.stop();
    solo.sent();
    events(&mut solo);
    for change in [down, up, release] {
        change(&mut solo);
        assert_eq!((solo.session.state(), events(&mut solo)), (SessionState::Idle, vec![]));
    }
}

#[test]
fn waiting_session_can_be_stopped_and_started() {
    let mut solo = Solo::new(config()).established();
    down(&mut solo);
    events(&mut solo);
    solo.stop();
    assert_eq!(solo.down_reason(), DownReason::Stopped);
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(events(&mut solo), [], "BFD is still Down");
    up(&mut solo);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
}
