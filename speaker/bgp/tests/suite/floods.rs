//! Peers that send too fast, or ask for too much.

use std::time::Duration;

use fairlead_bgp::message::encode_keepalive;
use fairlead_bgp::message::route_refresh::RouteRefresh;
use fairlead_bgp::{Family, MAX_MESSAGES_PER_SECOND, SessionState};

use crate::harness::*;

/// Octets that a shell reads per turn.
const TURN: usize = 64 * 1024;

fn keepalives(octets: usize) -> Vec<u8> {
    let mut keepalive = Vec::new();
    encode_keepalive(&mut keepalive);
    keepalive.repeat(octets / keepalive.len())
}

/// Reads a flood of `turn` for a simulated time, as soon as the session permits it. Returns the messages
/// read, and the longest time between two messages of the session.
fn flood(solo: &mut Solo, turn: &[u8], seconds: u64) -> (u64, Duration) {
    let before = solo.session.statistics().messages_received;
    let end = solo.now + secs(seconds);
    let (mut silent_since, mut longest) = (solo.now, secs(0));
    while solo.now < end {
        solo.receive(turn);
        // A turn takes at least a tenth of a millisecond.
        let next = solo.now + Duration::from_micros(100);
        let next = next.max(solo.session.read_after().unwrap_or(next));
        solo.wait(next - solo.now);
        assert_eq!(solo.session.state(), SessionState::Established);
        if !solo.sent_bytes().is_empty() {
            longest = longest.max(solo.now - silent_since);
            silent_since = solo.now;
        }
    }
    (solo.session.statistics().messages_received - before, longest)
}

#[test]
fn keepalive_flood_is_slowed_down_and_session_stays() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    let (read, longest) = flood(&mut solo, &keepalives(TURN), 300);
    // The first window may be read at once.
    let limit = u64::from(MAX_MESSAGES_PER_SECOND) * 305;
    assert!((limit * 9 / 10..limit).contains(&read), "{read} of {limit}");
    assert!(longest <= secs(31), "no KEEPALIVE to the peer for {longest:?}");
    assert!(solo.session.exceeds_receive_rate());
    // The peer sends one KEEPALIVE per interval again.
    for _ in 0..3 {
        solo.wait(secs(30));
        solo.keepalive();
    }
    assert!(!solo.session.exceeds_receive_rate());
    assert_eq!(solo.session.read_after(), None);
}

#[test]
fn received_octets_and_messages_are_counted() {
    let mut solo = Solo::new(config()).established();
    let before = *solo.session.statistics();
    assert_eq!(before.messages_received, 2, "an OPEN and a KEEPALIVE");
    let mut bytes = keepalives(19 * 5);
    bytes.truncate(19 * 5 - 1);
    solo.receive(&bytes);
    let after = solo.session.statistics();
    assert_eq!(after.octets_received - before.octets_received, 19 * 5 - 1);
    assert_eq!(after.messages_received - before.messages_received, 4);
}

#[test]
fn route_refresh_is_answered_once_per_second() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    for number in 0..1_000 {
        solo.session
            .announce(net(&format!("10.{}.{}.0/24", number / 250, number % 250)), attributes(1))
            .unwrap();
    }
    learned.learn(solo.sent());
    let mut request = Vec::new();
    RouteRefresh::request(Family::Ipv4Unicast).encode(&mut request);
    // A request every millisecond for ten seconds; the peer reads everything.
    for _ in 0..10_000 {
        solo.receive(&request);
        learned.learn(solo.sent());
        solo.wait(Duration::from_millis(1));
    }
    assert_eq!(learned.announced, 11_000, "the first time and ten refreshes");
    // The request that came last is answered although nothing else happens.
    solo.wait(secs(1));
    learned.learn(solo.sent());
    assert_eq!(learned.announced, 12_000);
    solo.wait(secs(1));
    assert_eq!(solo.sent(), []);
}

#[test]
fn refresh_flood_of_slow_reader_reaches_end_of_table() {
    let mut solo = Solo::new(config()).established();
    for number in 0..10_000 {
        solo.session
            .announce(net(&format!("10.{}.{}.0/24", number / 250, number % 250)), attributes(1))
            .unwrap();
    }
    let mut request = Vec::new();
    RouteRefresh::request(Family::Ipv4Unicast).encode(&mut request);
    let mut learned = LearnedRoutes::default();
    // The peer reads one message every two seconds, and requests a refresh each time.
    for _ in 0..30 {
        solo.receive(&request);
        let mut bytes = Vec::new();
        solo.session.poll_transmit(solo.now, 1, &mut bytes);
        learned.learn(decode_all(&bytes, solo.context));
        solo.wait(secs(2));
    }
    assert_eq!(learned.routes.len(), 10_000);
}
