//! The Detection Time (RFC 5880 §6.8.4), arrival times, and this process's own lateness.

use fairlead_bfd::{ControlPacket, Event, SessionConfig, State};

use crate::harness::{Solo, config, ms, packet};

#[test]
fn silence_for_the_detection_time_takes_the_session_down() {
    for state in [State::Init, State::Up] {
        let mut solo = if state == State::Up { Solo::up(config()) } else { Solo::new(config()) };
        if state == State::Init {
            solo.receive(packet(State::Down));
        }
        solo.events.clear();
        solo.run(ms(299));
        assert_eq!(solo.state(), state);
        solo.run(ms(1));
        assert_eq!(solo.changes(), [(State::Down, 1)]);
        let view = solo.view();
        assert_eq!(view.remote_discriminator, None);
        assert_eq!(view.counters.detection_time_expired, u64::from(state == State::Up));
    }
}

#[test]
fn failure_is_sent_at_once() {
    let mut solo = Solo::up(config());
    let sent = solo.run(ms(300));
    let (at, last) = sent.last().unwrap();
    assert_eq!((*at, last.state, last.diagnostic.code()), (ms(300), State::Down, 1));
}

#[test]
fn detection_time_is_that_of_the_peers_multiplier_and_the_slower_interval() {
    for (their_tx, our_rx, their_multiplier, expected) in
        [(100, 100, 3, 300), (50, 100, 3, 300), (400, 100, 5, 2000), (10, 20, 1, 20)]
    {
        let mut solo = Solo::up(SessionConfig {
            required_min_rx: ms(our_rx),
            // The own multiplier and transmit interval do not matter.
            detect_multiplier: 50,
            desired_min_tx: ms(900),
            ..config()
        });
        solo.receive(ControlPacket {
            desired_min_tx: ms(their_tx),
            detect_multiplier: their_multiplier,
            ..packet(State::Up)
        });
        assert_eq!(solo.view().detection_time, Some(ms(expected)));
        solo.run(ms(expected - 1));
        assert_eq!(solo.state(), State::Up);
        solo.run(ms(1));
        assert_eq!(solo.state(), State::Down);
    }
}

#[test]
fn each_packet_restarts_the_detection_time() {
    let mut solo = Solo::up(config());
    for _ in 0..20 {
        solo.run(ms(299));
        solo.receive(packet(State::Up));
    }
    assert_eq!(solo.changes(), []);
}

#[test]
fn detection_time_starts_at_the_arrival_of_the_packet() {
    let mut solo = Solo::up(config());
    let arrived = solo.now + ms(100);
    solo.stall(ms(200));
    solo.session.handle_packet(arrived, &packet(State::Up)).unwrap();
    assert_eq!(solo.view().last_received, Some(arrived));
    solo.run(ms(199));
    assert_eq!(solo.state(), State::Up);
    solo.run(ms(1));
    assert_eq!(solo.state(), State::Down);
}

#[test]
fn packets_out_of_order_never_shorten_the_detection_time() {
    let mut solo = Solo::up(config());
    solo.stall(ms(100));
    solo.receive(packet(State::Up));
    solo.session.handle_packet(solo.now - ms(90), &packet(State::Up)).unwrap();
    solo.run(ms(299));
    assert_eq!(solo.state(), State::Up);
}

#[test]
fn packets_that_arrived_in_time_prevent_a_detection_after_a_stall() {
    let mut solo = Solo::up(config());
    let stalled = solo.now;
    solo.stall(ms(5000));
    // The socket holds what arrived meanwhile.
    for at in (100..5000).step_by(100) {
        solo.session.handle_packet(stalled + ms(at), &packet(State::Up)).unwrap();
    }
    solo.session.handle_timeout(solo.now);
    solo.transmit();
    assert_eq!(solo.events, []);
    assert_eq!(solo.state(), State::Up);
}

#[test]
fn own_lateness_extends_the_detection_time_by_one_interval() {
    let mut solo = Solo::up(config());
    solo.stall(ms(351));
    solo.session.handle_timeout(solo.now);
    let late = Event::OwnLateness { at: solo.now, late_by: ms(51), extended_by: ms(100) };
    solo.transmit();
    assert_eq!(solo.events, [late]);
    assert_eq!((solo.state(), solo.view().counters.own_lateness), (State::Up, 1));
    solo.run(ms(99));
    assert_eq!(solo.state(), State::Up);
    solo.run(ms(1));
    assert_eq!(solo.state(), State::Down);
}

#[test]
fn own_lateness_extends_the_detection_time_once() {
    let mut solo = Solo::up(config());
    for _ in 0..2 {
        solo.stall(ms(1000));
        solo.session.handle_timeout(solo.now);
    }
    assert_eq!((solo.state(), solo.view().counters.own_lateness), (State::Down, 1));

    // A packet ends the extension; the next stall is extended again.
    let mut solo = Solo::up(config());
    for stalls in 1..4 {
        solo.stall(ms(1000));
        solo.session.handle_timeout(solo.now);
        assert_eq!((solo.state(), solo.view().counters.own_lateness), (State::Up, stalls));
        solo.receive(packet(State::Up));
    }
}

#[test]
fn small_lateness_is_no_excuse() {
    let mut solo = Solo::up(config());
    solo.stall(ms(350));
    solo.session.handle_timeout(solo.now);
    assert_eq!((solo.state(), solo.view().counters.own_lateness), (State::Down, 0));
}

#[test]
fn own_lateness_keeps_no_peer_that_is_down() {
    let mut solo = Solo::up(config());
    solo.receive(packet(State::Down));
    solo.stall(ms(5000));
    solo.session.handle_timeout(solo.now);
    assert_eq!((solo.view().remote_discriminator, solo.view().counters.own_lateness), (None, 0));
}
