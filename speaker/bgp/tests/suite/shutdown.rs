//! The end of a session: withdrawals and a Cease, or a close that leaves the routes to graceful restart.

use std::time::Duration;

use fairlead_bgp::message::Message;
use fairlead_bgp::{
    CeaseSubcode, DownReason, NextHops, Notification, SessionConfig, SessionEvent, SessionInput, SessionState,
};

use crate::harness::*;

const SHUTDOWN: CeaseSubcode = CeaseSubcode::AdministrativeShutdown;

fn stopped_from(from: SessionState) -> SessionEvent {
    SessionEvent::Down { from, reason: DownReason::Stopped }
}

#[test]
fn routes_left_only_to_negotiated_graceful_restart() {
    // (graceful restart here, at the peer, the process restarts) → the peer retains the routes
    for (ours, theirs, restart, leaves) in [
        (true, true, true, true),
        (true, false, true, false),
        (false, true, true, false),
        (false, false, true, false),
        (true, true, false, false),
    ] {
        let case = format!("ours {ours}, theirs {theirs}, restart {restart}");
        let mut solo = established_with_restart(ours, theirs);
        match restart {
            true => solo.stop_for_restart(),
            false => solo.stop(),
        }
        let sent = solo.sent();
        assert_eq!(solo.session.state(), SessionState::Idle, "{case}");
        assert_eq!(solo.session.announced(), 0, "{case}");
        let close = if leaves { SessionEvent::CloseForRestart } else { SessionEvent::Close };
        assert_eq!(solo.events(), [close, stopped_from(SessionState::Established)], "{case}");
        match &sent[..] {
            [] => assert!(leaves, "{case}"),
            [Message::Update(withdrawal), Message::Notification(cease)] => {
                assert!(!leaves, "{case}");
                assert_eq!(withdrawal.update.withdrawn, [net("192.0.2.0/24")], "{case}");
                assert_eq!(*cease, Notification::cease(SHUTDOWN, ""), "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(solo.session.poll_timeout(), None, "{case}: a stopped session stays down");
    }
}

#[test]
fn graceful_restart_discards_unsent_updates() {
    let mut solo = established_with_restart(true, true);
    solo.session.announce(net("198.51.100.0/24"), attributes(1)).unwrap();
    solo.stop_for_restart();
    assert_eq!(solo.sent(), []);
}

#[test]
fn unestablished_session_with_restart_sends_cease() {
    let config = SessionConfig { graceful_restart: Some(secs(120)), ..config() };
    let mut solo = Solo::new(config).open_confirm();
    solo.stop_for_restart();
    assert_eq!(solo.session.state(), SessionState::Idle);
    assert_eq!(solo.sent(), [Message::Notification(Notification::cease(SHUTDOWN, ""))]);
}

#[test]
fn blocked_peer_gets_cease_after_withdraw_time() {
    let mut solo = established_with_restart(false, false);
    solo.stop();
    assert_eq!(solo.session.state(), SessionState::Established, "the peer has not read the withdrawal");
    solo.wait(Duration::from_millis(799));
    assert_eq!((solo.session.state(), solo.session.pending()), (SessionState::Established, 1));
    solo.wait(Duration::from_millis(1));
    assert_eq!(solo.session.state(), SessionState::Idle);
    assert_eq!(solo.events(), [SessionEvent::Close, stopped_from(SessionState::Established)]);
    assert_eq!(solo.sent(), [Message::Notification(Notification::cease(SHUTDOWN, ""))]);
    assert_eq!(solo.session.poll_timeout(), None);
}

#[test]
fn stopping_session_announces_nothing() {
    let mut solo = established_with_restart(false, false);
    solo.session.announce(net("198.51.100.0/24"), attributes(1)).unwrap();
    solo.stop();
    solo.session.announce(net("203.0.113.0/24"), attributes(1)).unwrap();
    solo.session.set_next_hops(NextHops { v4: Some([192, 0, 2, 99].into()), ..next_hops() });
    let mut learned = LearnedRoutes::default();
    learned.routes.insert(net("192.0.2.0/24"), (NextHop::Classic([192, 0, 2, 1].into()), Default::default()));
    learned.learn(solo.sent());
    assert!(learned.routes.is_empty(), "{:?}", learned.prefixes());
    assert_eq!(learned.updates, 1);
}

#[test]
fn connection_lost_while_stopping_is_not_replaced() {
    let close: fn(&mut Solo) = |solo| {
        let reason = "connection reset by peer".to_owned();
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
    };
    let notify: fn(&mut Solo) = |solo| solo.receive(&message(3, &[6, 2]));
    let garbage: fn(&mut Solo) = |solo| solo.receive(&[0; 19]);
    for end in [close, notify, garbage] {
        let mut solo = established_with_restart(false, false);
        solo.stop();
        end(&mut solo);
        assert_eq!(solo.session.state(), SessionState::Idle);
        assert_eq!(solo.events().pop(), Some(stopped_from(SessionState::Established)));
        assert_eq!(solo.session.poll_timeout(), None);
    }
}

#[test]
fn stopped_session_announces_its_routes_after_restart() {
    let mut solo = established_with_restart(false, false);
    solo.stop();
    // A start while the session still withdraws is ignored, as in every state but Idle.
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(solo.session.state(), SessionState::Established);
    solo.sent();
    solo.events();
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    solo.reestablish();
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    assert_eq!(learned.prefixes(), ["192.0.2.0/24"]);
}

#[test]
fn peer_sees_withdrawal_before_cease() {
    let mut pair = Pair::ebgp();
    pair.ends[0].session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    pair.start();
    pair.run(secs(1));
    pair.stop(0, "node n1 is drained", false);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.ends[0].session.state(), SessionState::Idle);
    let expected = "peer sent NOTIFICATION 6/2 (Cease: Administrative Shutdown) \"node n1 is drained\"";
    assert_eq!(pair.ends[1].downs()[0], expected);
    assert_eq!(pair.ends[1].withdrawals(), 1);
}

#[test]
fn peer_sees_plain_close_under_graceful_restart() {
    let config = SessionConfig { graceful_restart: Some(secs(120)), ..config() };
    let mut pair = Pair::new(config.clone(), counterpart(config));
    pair.ends[0].session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    pair.start();
    pair.run(secs(1));
    pair.stop(0, "node n1 restarts", true);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.ends[0].downs(), ["stopped"]);
    assert_eq!(pair.ends[1].downs()[0], "connection closed by the peer");
    let notifications = pair.ends[1].session.statistics().notifications_received;
    assert_eq!((pair.ends[1].withdrawals(), notifications), (0, 0));
}
