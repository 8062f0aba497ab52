//! Graceful shutdown of sessions (RFC 8326): before a planned end, and while a node is drained.

use std::time::Duration;

use fairlead_bgp::message::Message;
use fairlead_bgp::{
    CeaseSubcode, Community, NextHops, Notification, SessionConfig, SessionEvent, SessionInput, SessionState,
};

use crate::harness::*;

const SHUTDOWN: CeaseSubcode = CeaseSubcode::AdministrativeShutdown;
/// Time for the peer to prefer other paths.
const DRAIN: Duration = Duration::from_secs(2);

/// An established session with a route of each family that the peer has. An iBGP peer if `internal`.
fn established(internal: bool) -> (Solo, LearnedRoutes) {
    let mut open = peer_open();
    let mut config = config();
    if internal {
        config.peer_asn = fairlead_bgp::PeerAs::Internal;
        open.my_as = 64512;
        open.capabilities.pop();
        open.capabilities.push(fairlead_bgp::message::capability::Capability::FourOctetAs(LOCAL_AS));
    }
    let mut solo = Solo::new(config);
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    solo.session.announce(net("2001:db8:1::/64"), attributes(2)).unwrap();
    let mut solo = solo.established_with(&open);
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    assert_eq!(learned.routes.len(), 2);
    (solo, learned)
}

fn stop(solo: &mut Solo) {
    let stop =
        SessionInput::ManualStop { subcode: SHUTDOWN, text: "bye".to_owned(), restart: false, drain: DRAIN };
    solo.session.handle_input(solo.now, stop);
}

/// Returns whether all routes of the peer have GRACEFUL_SHUTDOWN, and their LOCAL_PREF.
fn graceful(learned: &LearnedRoutes) -> Vec<(bool, Option<u32>)> {
    let state = |(_, attributes): &(NextHop, fairlead_bgp::message::attribute::PathAttributes)| {
        (attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN), attributes.local_pref)
    };
    learned.routes.values().map(state).collect()
}

#[test]
fn stopped_session_asks_for_other_paths_then_withdraws_then_sends_cease() {
    let (mut solo, mut learned) = established(false);
    stop(&mut solo);
    learned.learn(solo.sent());
    assert_eq!(graceful(&learned), [(true, None); 2]);
    assert_eq!(learned.routes.len(), 2);
    // Routes that end meanwhile are withdrawn at once, and new ones are announced with the community.
    solo.session.withdraw(&net("192.0.2.0/24"));
    solo.session.announce(net("198.51.100.0/24"), attributes(1)).unwrap();
    learned.learn(solo.sent());
    assert_eq!(learned.prefixes(), ["198.51.100.0/24", "2001:db8:1::/64"]);
    assert_eq!(graceful(&learned), [(true, None); 2]);
    solo.wait(DRAIN - Duration::from_millis(1));
    assert_eq!((solo.sent(), solo.session.state()), (vec![], SessionState::Established));
    solo.wait(Duration::from_millis(1));
    let mut sent = solo.sent();
    assert_eq!(sent.pop(), Some(Message::Notification(Notification::cease(SHUTDOWN, "bye"))));
    learned.learn(sent);
    assert!(learned.routes.is_empty(), "{:?}", learned.prefixes());
    assert_eq!(solo.session.state(), SessionState::Idle);
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(solo.session.state(), SessionState::Connect, "the session can start again");
}

#[test]
fn ibgp_peer_gets_local_pref_zero() {
    let (mut solo, mut learned) = established(true);
    assert_eq!(graceful(&learned), [(false, Some(100)); 2]);
    stop(&mut solo);
    learned.learn(solo.sent());
    assert_eq!(graceful(&learned), [(true, Some(0)); 2]);
}

#[test]
fn session_stays_alive_during_drain() {
    let hold = SessionConfig { hold_time: secs(3), ..config() };
    let mut solo = Solo::new(hold);
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    let mut solo = solo.established();
    solo.sent();
    let stop =
        SessionInput::ManualStop { subcode: SHUTDOWN, text: String::new(), restart: false, drain: secs(20) };
    solo.session.handle_input(solo.now, stop);
    let mut keepalives = 0;
    for _ in 0..19 {
        solo.wait(secs(1));
        solo.keepalive();
        keepalives += solo.sent().iter().filter(|message| **message == Message::Keepalive).count();
        assert_eq!(solo.session.state(), SessionState::Established);
    }
    assert!(keepalives >= 19, "{keepalives}");
    // The peer is gone: there is nothing to wait for.
    solo.wait(Duration::from_millis(2900));
    assert_eq!(solo.session.state(), SessionState::Idle);
    let events: Vec<_> = std::iter::from_fn(|| solo.session.poll_event()).collect();
    assert!(!events.contains(&SessionEvent::Connect), "{events:?}");
}

#[test]
fn session_without_routes_ends_at_once() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    stop(&mut solo);
    assert_eq!(solo.sent(), [Message::Notification(Notification::cease(SHUTDOWN, "bye"))]);
}

#[test]
fn drained_node_changes_attributes_and_back() {
    let (mut solo, mut learned) = established(false);
    solo.session.set_graceful_shutdown(true);
    learned.learn(solo.sent());
    assert_eq!(graceful(&learned), [(true, None); 2]);
    solo.session.set_graceful_shutdown(true);
    assert_eq!(solo.sent(), [], "no change");
    // A next hop that changes meanwhile is sent.
    let v4 = Some([192, 0, 2, 99].into());
    solo.session.set_next_hops(NextHops { v4, ..next_hops() });
    learned.learn(solo.sent());
    assert_eq!(learned.routes[&net("192.0.2.0/24")].0, NextHop::Classic([192, 0, 2, 99].into()));
    solo.session.set_graceful_shutdown(false);
    learned.learn(solo.sent());
    assert_eq!(graceful(&learned), [(false, None); 2]);
    // The next connection of a drained node begins so.
    solo.session.set_graceful_shutdown(true);
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    solo.wait(secs(1));
    solo.reestablish();
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    assert_eq!(graceful(&learned), [(true, None); 2]);
}
