//! Timer manipulation (RFC 5880 §6.8.3) and Poll Sequences (§6.5).

use std::time::Duration;

use fairlead_bfd::{ConfigError, ControlPacket, SessionConfig, State};

use crate::harness::{Solo, config, fin, gaps, ms, packet, poll};

fn with_tx(milliseconds: u64) -> SessionConfig {
    SessionConfig { desired_min_tx: ms(milliseconds), ..config() }
}

fn with_rx(milliseconds: u64) -> SessionConfig {
    SessionConfig { required_min_rx: ms(milliseconds), ..config() }
}

fn polls(sent: &[(Duration, ControlPacket)]) -> usize {
    sent.iter().filter(|(_, packet)| packet.poll).count()
}

#[test]
fn changed_intervals_are_announced_by_a_poll_sequence() {
    for changed in [with_tx(50), with_tx(200), with_rx(50), with_rx(200)] {
        let mut solo = Solo::up(config());
        solo.session.set_config(solo.now, changed).unwrap();
        let sent = solo.run_with(ms(1000), packet(State::Up));
        assert_eq!(polls(&sent), sent.len(), "every packet has the P bit until the Final");
        assert_eq!(sent[0].1.desired_min_tx, changed.desired_min_tx);
        assert_eq!(sent[0].1.required_min_rx, changed.required_min_rx);
        solo.receive(fin(packet(State::Up)));
        assert_eq!(polls(&solo.run_with(ms(1000), packet(State::Up))), 0);
        assert_eq!(solo.view().counters.polls, 2);
        assert_eq!(solo.changes(), [], "the session stays Up");
    }
}

#[test]
fn poll_sequence_sends_no_additional_packets() {
    let mut solo = Solo::up(config());
    solo.run_with(ms(500), packet(State::Up));
    solo.session.set_config(solo.now, with_rx(200)).unwrap();
    assert_eq!(solo.transmit(), []);
    let gaps = gaps(&solo.run_with(ms(2000), packet(State::Up)));
    assert!(gaps.iter().all(|gap| *gap >= ms(75)), "{gaps:?}");
}

#[test]
fn changed_multiplier_needs_no_poll_sequence() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, SessionConfig { detect_multiplier: 5, ..config() }).unwrap();
    let sent = solo.run_with(ms(1000), packet(State::Up));
    assert_eq!((sent[0].1.detect_multiplier, polls(&sent)), (5, 0));
}

#[test]
fn longer_transmit_interval_waits_for_the_final() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_tx(400)).unwrap();
    let before = gaps(&solo.run_with(ms(2000), packet(State::Up)));
    assert!(before.iter().all(|gap| *gap <= ms(100)), "{before:?}");
    assert_eq!(solo.view().desired_min_tx, ms(400));
    solo.receive(fin(packet(State::Up)));
    let after = gaps(&solo.run_with(ms(4000), packet(State::Up)));
    assert!(after.iter().all(|gap| *gap >= ms(300)), "{after:?}");
}

#[test]
fn shorter_transmit_interval_takes_effect_at_once() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_tx(20)).unwrap();
    let quick = ControlPacket { required_min_rx: ms(10), ..packet(State::Up) };
    let gaps = gaps(&solo.run_with(ms(2000), quick));
    assert!(gaps.iter().all(|gap| *gap <= ms(20)), "{gaps:?}");
}

#[test]
fn shorter_receive_interval_waits_for_the_final() {
    let mut solo = Solo::up(config());
    let peer = ControlPacket { desired_min_tx: ms(10), ..packet(State::Up) };
    solo.session.set_config(solo.now, with_rx(20)).unwrap();
    solo.receive(peer);
    assert_eq!(solo.view().detection_time, Some(ms(300)));
    solo.receive(fin(peer));
    assert_eq!(solo.view().detection_time, Some(ms(60)));
}

#[test]
fn longer_receive_interval_takes_effect_at_once() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_rx(500)).unwrap();
    assert_eq!(solo.view().detection_time, Some(ms(1500)));
}

#[test]
fn intervals_take_effect_at_once_unless_up() {
    let mut solo = Solo::new(config());
    solo.receive(ControlPacket { desired_min_tx: ms(10), ..packet(State::Down) });
    assert_eq!((solo.state(), solo.view().detection_time), (State::Init, Some(ms(300))));
    solo.session.set_config(solo.now, SessionConfig { desired_min_tx: ms(3000), ..with_rx(20) }).unwrap();
    assert_eq!(solo.view().detection_time, Some(ms(60)));
    assert_eq!(solo.view().transmit_interval, Some(ms(3000)));
}

#[test]
fn interval_after_up_is_announced_by_a_poll_sequence() {
    let mut solo = Solo::new(config());
    solo.receive(packet(State::Down));
    let [up] = solo.receive(packet(State::Up))[..] else { panic!("the session sends its new state") };
    assert_eq!((up.state, up.poll, up.desired_min_tx), (State::Up, true, ms(100)));
}

#[test]
fn change_during_a_poll_sequence_starts_another_one() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_tx(200)).unwrap();
    assert!(polls(&solo.run_with(ms(200), packet(State::Up))) > 0);
    solo.session.set_config(solo.now, with_tx(400)).unwrap();
    // This Final may answer a packet with 200 ms, so that neither interval is in force.
    solo.receive(fin(packet(State::Up)));
    assert_eq!(solo.view().transmit_interval, Some(ms(100)));
    assert_eq!(polls(&solo.run(ms(200))), 0, "a packet without the F bit must arrive first");
    // A duplicate of the Final does not count.
    solo.receive(fin(packet(State::Up)));
    assert!(!solo.view().polling);
    solo.receive(packet(State::Up));
    assert!(solo.view().polling);
    assert_eq!(solo.view().transmit_interval, Some(ms(100)));
    solo.receive(fin(packet(State::Up)));
    assert_eq!(solo.view().transmit_interval, Some(ms(400)));
}

#[test]
fn final_carries_intervals_that_no_poll_has_announced() {
    let mut solo = Solo::up(config());
    solo.run_with(ms(500), packet(State::Up));
    solo.session.set_config(solo.now, SessionConfig { desired_min_tx: ms(200), ..with_rx(300) }).unwrap();
    let [answer] = solo.receive(poll(packet(State::Up)))[..] else { panic!("a Poll is answered once") };
    assert!(answer.is_final && !answer.poll);
    assert_eq!((answer.desired_min_tx, answer.required_min_rx), (ms(200), ms(300)));
    assert!(solo.view().polling, "the Poll Sequence follows");
}

#[test]
fn poll_sequence_ends_with_the_peer() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_tx(200)).unwrap();
    let sent = solo.run(ms(3000));
    let down: Vec<_> = sent.iter().filter(|(_, packet)| packet.state == State::Down).collect();
    assert!(!down.is_empty() && down.iter().all(|(_, packet)| !packet.poll));
}

#[test]
fn change_without_a_peer_needs_no_poll_sequence() {
    let mut solo = Solo::new(config());
    solo.session.set_config(solo.now, SessionConfig { desired_min_tx: ms(2000), ..with_rx(20) }).unwrap();
    let sent = solo.run(ms(5000));
    assert_eq!(polls(&sent), 0);
    assert_eq!(sent.last().unwrap().1.desired_min_tx, ms(2000));
}

#[test]
fn poll_sequences_of_both_sides_do_not_disturb_each_other() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, with_rx(200)).unwrap();
    let sent = solo.run_with(ms(500), poll(packet(State::Up)));
    assert!(sent.iter().any(|(_, packet)| packet.is_final) && polls(&sent) > 0);
    assert!(solo.view().polling, "a Poll is no answer to a Poll");
}

#[test]
fn invalid_configuration_is_rejected() {
    let table = [
        (with_tx(0), ConfigError::TransmitIntervalZero),
        (with_rx(0), ConfigError::ReceiveIntervalZero),
        (with_rx(5_000_000), ConfigError::IntervalTooLong),
        (SessionConfig { detect_multiplier: 0, ..config() }, ConfigError::DetectMultiplierZero),
    ];
    for (invalid, error) in table {
        let mut solo = Solo::up(config());
        assert_eq!(solo.session.set_config(solo.now, invalid), Err(error));
        assert_eq!(*solo.session.config(), config(), "the previous one stays in force");
    }
}
