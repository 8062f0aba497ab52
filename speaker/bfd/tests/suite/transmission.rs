//! Transmission of Control packets (RFC 5880 §6.8.7), the P and F bits (§6.5), and Demand mode of the peer
//! (§6.6).

use std::time::Duration;

use fairlead_bfd::{ControlPacket, Diagnostic, Role, SessionConfig, State};

use crate::harness::{LOCAL, PEER, Solo, config, fin, gaps, ms, packet, poll};

/// Intervals of a session that is Up for 60 s, in milliseconds of 100 ms.
fn intervals_up(detect_multiplier: u8) -> Vec<Duration> {
    let mut solo = Solo::up(SessionConfig { detect_multiplier, ..config() });
    gaps(&solo.run_with(ms(60_000), packet(State::Up)))
}

/// Asserts that random values lie within a range and fill it.
fn assert_fill(values: &[Duration], min: Duration, max: Duration) {
    assert!(values.len() > 400, "{} packets", values.len());
    let (least, greatest) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
    assert!(least >= min && greatest <= max, "{least:?} to {greatest:?}");
    assert!(least < min + ms(2) && greatest > max - ms(2), "{least:?} to {greatest:?}");
}

#[test]
fn interval_is_jittered_by_up_to_25_percent() {
    assert_fill(&intervals_up(3), ms(75), ms(100));
}

#[test]
fn interval_is_at_most_90_percent_with_multiplier_1() {
    assert_fill(&intervals_up(1), ms(75), ms(90));
}

#[test]
fn sessions_jitter_differently() {
    let sent = |seed| gaps(&Solo::seeded(config(), seed).run(ms(10_000)));
    assert_ne!(sent(1), sent(2));
}

#[test]
fn interval_is_one_second_until_the_session_is_up() {
    let mut solo = Solo::new(config());
    let mut sent = solo.run(ms(10_000));
    assert!(gaps(&sent).iter().all(|gap| *gap >= ms(750) && *gap <= ms(1000)), "{:?}", gaps(&sent));
    sent.extend(solo.receive(packet(State::Down)).into_iter().map(|packet| (ms(0), packet)));
    assert_eq!(solo.state(), State::Init);
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == ms(1000)));

    let [up] = solo.receive(packet(State::Up))[..] else { panic!("the session sends its new state") };
    assert_eq!((up.state, up.desired_min_tx), (State::Up, ms(100)));
    let [down] = solo.receive(packet(State::Down))[..] else { panic!("the session sends its new state") };
    assert_eq!((down.state, down.desired_min_tx), (State::Down, ms(1000)));
}

#[test]
fn interval_above_one_second_is_kept_while_down() {
    let mut solo = Solo::new(SessionConfig { desired_min_tx: ms(5000), ..config() });
    let sent = solo.run(ms(30_000));
    assert!(gaps(&sent).iter().all(|gap| *gap >= ms(3750)));
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == ms(5000)));
}

#[test]
fn interval_is_the_greater_of_ours_and_that_of_the_peer() {
    for (ours, theirs, interval) in [(100, 100, 100), (100, 400, 400), (400, 100, 400)] {
        let mut solo = Solo::up(SessionConfig { desired_min_tx: ms(ours), ..config() });
        let peer = ControlPacket { required_min_rx: ms(theirs), ..packet(State::Up) };
        let gaps = gaps(&solo.run_with(ms(5000), peer));
        let within = |gap: &Duration| *gap >= ms(interval * 3 / 4) && *gap <= ms(interval);
        assert!(gaps.iter().skip(1).all(within), "{ours} and {theirs}: {gaps:?}");
        assert_eq!(solo.view().transmit_interval, Some(ms(interval)));
    }
}

#[test]
fn reduced_interval_of_the_peer_counts_from_the_last_packet() {
    let mut solo = Solo::up(config());
    solo.run_with(ms(2000), ControlPacket { required_min_rx: ms(2000), ..packet(State::Up) });
    let sent = solo.run_with(ms(2000), ControlPacket { required_min_rx: ms(2000), ..packet(State::Up) });
    assert!(!sent.is_empty());
    // The last packet is at most 2 s old. With the new interval, the next one is overdue or due within 100
    // ms.
    let sent = solo.run_with(ms(100), packet(State::Up));
    assert!(!sent.is_empty(), "a reduced interval is honored at once");
}

#[test]
fn packet_that_a_reduced_interval_makes_overdue_is_sent_at_once() {
    let slow = ControlPacket { desired_min_tx: ms(1000), required_min_rx: ms(2000), ..packet(State::Up) };
    let mut solo = Solo::up(config());
    solo.receive(slow);
    while solo.run(ms(10)).is_empty() {}
    assert_eq!(solo.run(ms(500)), [], "the next packet is due after 1500 ms");
    let sent = solo.receive(ControlPacket { required_min_rx: ms(100), ..slow });
    assert_eq!(sent.len(), 1);
}

#[test]
fn peer_that_holds_the_session_down_determines_the_interval() {
    let hold =
        ControlPacket { desired_min_tx: ms(5000), required_min_rx: ms(10_000), ..packet(State::AdminDown) };
    let mut solo = Solo::up(config());
    solo.receive(hold);
    // The peer sends one packet within the Detection Time of 15 s.
    for _ in 0..10 {
        let sent = solo.run(ms(7400));
        assert!(sent.len() <= 1, "{sent:?}");
        solo.receive(hold);
        assert_eq!((solo.state(), solo.view().transmit_interval), (State::Down, Some(ms(10_000))));
    }
    let gaps = gaps(&solo.run(ms(14_999)));
    assert!(gaps.iter().all(|gap| *gap >= ms(7500)), "{gaps:?}");
    // Without packets of the peer, the session sends at its own rate again.
    solo.run(ms(1));
    assert_eq!(solo.view().transmit_interval, Some(ms(1000)));
}

#[test]
fn peer_that_requires_no_packets_receives_no_periodic_ones() {
    let silent = ControlPacket { required_min_rx: ms(0), ..packet(State::Up) };
    let mut solo = Solo::up(config());
    assert_eq!(solo.run_with(ms(5000), silent), []);
    assert_eq!(solo.view().transmit_interval, None);

    // Other packets are sent: an answer to a Poll, a change of state, a change of the contents.
    let [answer] = solo.receive(poll(silent))[..] else { panic!("a Poll is answered") };
    assert!(answer.is_final);
    solo.session.set_config(solo.now, SessionConfig { required_min_rx: ms(200), ..config() }).unwrap();
    let [change] = solo.transmit()[..] else { panic!("a change is sent once") };
    assert_eq!((change.required_min_rx, change.poll), (ms(200), true));
    let sent = solo.run(ms(10_000));
    let states: Vec<State> = sent.iter().map(|(_, packet)| packet.state).collect();
    assert_eq!(states[0], State::Down);

    let mut solo = Solo::up(config());
    solo.run_with(ms(1000), silent);
    assert!(!solo.run_with(ms(500), packet(State::Up)).is_empty(), "periodic packets resume");
}

#[test]
fn poll_is_answered_at_once_with_final() {
    let mut solo = Solo::up(config());
    solo.run(ms(1));
    for _ in 0..5 {
        let [answer] = solo.receive(poll(packet(State::Up)))[..] else { panic!("a Poll is answered once") };
        assert!(answer.is_final && !answer.poll);
    }
    let mut solo = Solo::new(config());
    let sent = solo.receive(poll(packet(State::Down)));
    assert_eq!((sent[0].is_final, sent[0].state, sent.len()), (true, State::Init, 1));
}

#[test]
fn poll_is_answered_in_every_state_and_mode() {
    let passive = SessionConfig { role: Role::Passive, ..config() };
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    let silent = ControlPacket { required_min_rx: ms(0), ..packet(State::Up) };
    for (mut solo, peer, state) in [
        // A peer in AdminDown leaves the session Down.
        (Solo::new(config()), packet(State::AdminDown), State::Down),
        (Solo::new(passive), packet(State::AdminDown), State::Down),
        (Solo::new(config()), packet(State::Down), State::Init),
        (Solo::up(config()), packet(State::Up), State::Up),
        (Solo::up(config()), demand, State::Up),
        (Solo::up(config()), silent, State::Up),
    ] {
        solo.run(ms(10));
        let finals = solo.receive(poll(peer)).iter().filter(|packet| packet.is_final).count();
        assert_eq!((finals, solo.state()), (1, state), "{peer:?}");
        // Whatever the timers say.
        let finals = solo.receive(poll(peer)).iter().filter(|packet| packet.is_final).count();
        assert_eq!(finals, 1, "{peer:?}");
    }
}

#[test]
fn packets_without_poll_are_not_answered() {
    let mut solo = Solo::up(config());
    solo.transmit();
    assert_eq!(solo.receive(packet(State::Up)), []);
}

#[test]
fn no_packet_has_both_poll_and_final() {
    let mut solo = Solo::up(config());
    solo.session.set_config(solo.now, SessionConfig { required_min_rx: ms(200), ..config() }).unwrap();
    let sent = solo.run_with(ms(2000), poll(packet(State::Up)));
    assert!(sent.iter().any(|(_, packet)| packet.poll), "answers do not suppress our own Poll");
    assert!(sent.iter().any(|(_, packet)| packet.is_final));
    assert!(sent.iter().all(|(_, packet)| !(packet.poll && packet.is_final)));
}

#[test]
fn state_change_is_sent_at_once() {
    let mut solo = Solo::new(config());
    solo.run(ms(10));
    let slow = ControlPacket { desired_min_tx: ms(1000), ..packet(State::Down) };
    assert_eq!(solo.receive(slow).len(), 1);
    // The periodic timer counts from that packet.
    let sent = solo.run(ms(1000));
    assert!(sent[0].0 >= ms(750));
}

#[test]
fn demand_mode_of_the_peer_stops_periodic_packets_while_both_are_up() {
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    let mut solo = Solo::up(config());
    assert_eq!(solo.run_with(ms(5000), demand), []);
    assert!(solo.view().remote_demand);
    // A Poll Sequence is performed by periodic packets with the P bit.
    solo.session.set_config(solo.now, SessionConfig { detect_multiplier: 5, ..config() }).unwrap();
    let sent = solo.run_with(ms(1000), demand);
    assert!(sent.len() >= 8 && sent.iter().all(|(_, packet)| packet.poll), "{sent:?}");
    assert_eq!(solo.receive(fin(demand)), []);
    assert_eq!(solo.run_with(ms(2000), demand), []);
    // The session detects the loss of the peer, as the peer goes on sending.
    solo.run(ms(300));
    assert_eq!(solo.changes(), [(State::Down, 1)]);
}

#[test]
fn periodic_packets_resume_when_the_peer_leaves_demand_mode() {
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    let mut solo = Solo::up(config());
    assert_eq!(solo.run_with(ms(1000), demand), []);
    let sent = solo.run_with(ms(1000), packet(State::Up));
    assert!(sent.len() >= 10, "{} packets in 1 s", sent.len());
    assert!(sent[0].0 <= ms(50), "the interval has passed since the last packet");
}

#[test]
fn demand_bit_has_no_effect_unless_both_are_up() {
    let mut solo = Solo::new(config());
    solo.receive(ControlPacket { demand: true, ..packet(State::Down) });
    let sent = solo.run_with(ms(5000), ControlPacket { demand: true, ..packet(State::Down) });
    assert!(sent.len() >= 5);
}

#[test]
fn packet_contains_the_variables_of_the_session() {
    let config = SessionConfig {
        desired_min_tx: ms(70),
        required_min_rx: ms(90),
        detect_multiplier: 7,
        required_min_echo_rx: ms(5),
        ..config()
    };
    let mut solo = Solo::new(config);
    let [down] = solo.transmit()[..] else { panic!("the session sends one packet") };
    let expected = ControlPacket {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        authentication_present: false,
        demand: false,
        detect_multiplier: 7,
        my_discriminator: LOCAL,
        your_discriminator: None,
        desired_min_tx: ms(1000),
        required_min_rx: ms(90),
        required_min_echo_rx: ms(5),
    };
    assert_eq!(down, expected);
    let [init] = solo.receive(packet(State::Down))[..] else { panic!("the session sends its new state") };
    assert_eq!(init, ControlPacket { state: State::Init, your_discriminator: Some(PEER), ..expected });
    let [up] = solo.receive(packet(State::Up))[..] else { panic!("the session sends its new state") };
    let expected = ControlPacket { state: State::Up, desired_min_tx: ms(70), poll: true, ..init };
    assert_eq!(up, expected);
    let [answer] = solo.receive(poll(packet(State::Up)))[..] else { panic!("a Poll is answered once") };
    assert_eq!(answer, ControlPacket { poll: false, is_final: true, ..expected });
    let sent = solo.run(ms(300));
    let (_, down) = sent.last().unwrap();
    let diagnostic = Diagnostic::CONTROL_DETECTION_TIME_EXPIRED;
    let lost =
        ControlPacket { state: State::Down, diagnostic, your_discriminator: None, poll: false, ..expected };
    assert_eq!(*down, ControlPacket { desired_min_tx: ms(1000), ..lost });
}

#[test]
fn unsupported_bits_are_never_sent() {
    let mut solo = Solo::new(config());
    let mut octets: Vec<[u8; 24]> = Vec::new();
    for state in [State::Down, State::Init, State::Up] {
        for packet in [packet(state), poll(packet(state))] {
            let peer = ControlPacket { demand: true, control_plane_independent: true, ..packet };
            solo.session.handle_packet(solo.now, &peer).unwrap();
            octets.extend(std::iter::from_fn(|| solo.session.poll_transmit(solo.now)));
        }
    }
    assert!(octets.len() >= 4);
    for octets in octets {
        assert_eq!(octets[1] & 0x0F, 0, "C, A, D and M are clear");
        assert_eq!((octets[0] >> 5, octets[3], &octets[20..]), (1, 24, &[0; 4][..]));
    }
}
