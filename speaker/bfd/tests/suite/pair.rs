//! Two sessions across a link that loses, duplicates and reorders packets.

use std::time::Duration;

use fairlead_bfd::{Diagnostic, Event, Role, SessionConfig, State};
use proptest::prelude::*;

use crate::harness::{Link, Pair, config, ms};

/// Parameters of one end; intervals in milliseconds.
fn any_config() -> impl Strategy<Value = SessionConfig> {
    (10..1000_u64, 10..1000_u64, 2..10_u8).prop_map(|(tx, rx, detect_multiplier)| SessionConfig {
        desired_min_tx: ms(tx),
        required_min_rx: ms(rx),
        detect_multiplier,
        ..config()
    })
}

fn any_link() -> impl Strategy<Value = Link> {
    (0..60_u64, 0..30_u64, 1..3000_u64).prop_map(|(loss, duplication, jitter)| Link {
        loss,
        duplication,
        latency: 200..200 + jitter,
        ..Link::default()
    })
}

fn downs(events: &[Event]) -> Vec<Diagnostic> {
    let down = |event: &Event| match *event {
        Event::StateChanged { from: State::Up, local_diagnostic, .. } => Some(local_diagnostic),
        _ => None,
    };
    events.iter().filter_map(down).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn both_ends_are_up_after_loss_ends(
        configs in [any_config(), any_config()], link in any_link(), seed in any::<u64>()
    ) {
        let mut pair = Pair::new(configs, link, seed);
        pair.run(ms(20_000));
        pair.link.loss = 0;
        pair.run(ms(20_000));
        prop_assert!(pair.both(State::Up), "{:?}", pair.states());
        let polling = pair.ends.iter().any(|end| end.view().polling);
        prop_assert!(!polling, "every Poll Sequence terminates");
        // Each end uses what the other announces.
        for (end, other) in [(0, 1), (1, 0)] {
            let (view, other) = (pair.ends[end].view(), pair.ends[other].view());
            let interval = view.config.desired_min_tx.max(other.config.required_min_rx);
            prop_assert_eq!(view.transmit_interval, Some(interval));
            prop_assert_eq!(other.detection_time, Some(interval * u32::from(view.config.detect_multiplier)));
        }
    }

    #[test]
    fn cut_is_detected_within_the_detection_time(
        configs in [any_config(), any_config()], seed in any::<u64>(), after in 0..2000_u64
    ) {
        let mut pair = Pair::new(configs, Link::default(), seed);
        pair.run(ms(10_000 + after));
        prop_assert!(pair.both(State::Up));
        let times = [0, 1].map(|end: usize| pair.ends[end].view().detection_time.unwrap());
        let latency = ms(1);
        pair.link.cut = true;
        let cut_at = pair.now;
        pair.run(times[0].max(times[1]) + latency);
        for (end, time) in times.into_iter().enumerate() {
            prop_assert_eq!(downs(&pair.events[end]), [Diagnostic::CONTROL_DETECTION_TIME_EXPIRED]);
            let detected_in = pair.ends[end].view().last_down.unwrap() - cut_at;
            prop_assert!(detected_in <= time + latency, "{:?} of {:?}", detected_in, time);
            // Not before the multiplier of packets is missing.
            let interval = time / u32::from(pair.ends[1 - end].config().detect_multiplier);
            prop_assert!(detected_in >= time - interval, "{:?} of {:?}", detected_in, time);
        }
    }

    #[test]
    fn loss_below_the_multiplier_never_takes_a_session_down(
        configs in [any_config(), any_config()], mut link in any_link(), seed in any::<u64>()
    ) {
        // A packet that takes longer than the one before the loss may arrive after the Detection Time.
        link.latency = 200..201;
        let mut pair = Pair::new(configs, Link::default(), seed);
        pair.run(ms(10_000));
        prop_assert!(pair.both(State::Up));
        link.max_burst = u32::from(configs[0].detect_multiplier.min(configs[1].detect_multiplier)) - 1;
        pair.link = link;
        pair.run(ms(60_000));
        prop_assert_eq!(downs(&pair.events[0]), []);
        prop_assert_eq!(downs(&pair.events[1]), []);
    }

    #[test]
    fn edits_while_up_never_take_a_session_down(
        configs in [any_config(), any_config()],
        edits in prop::collection::vec((any_config(), 0..2_usize, 0..3000_u64), 1..10),
        loss in 0..30_u64,
        seed in any::<u64>(),
    ) {
        let mut pair = Pair::new(configs, Link::default(), seed);
        pair.run(ms(10_000));
        // The latency is constant: with the multiplier 2, a packet that takes longer than the one before the
        // loss may arrive after the Detection Time.
        pair.link = Link { loss, duplication: 20, latency: 200..201, max_burst: 1, cut: false };
        for (edit, end, wait) in edits {
            let now = pair.now;
            pair.ends[end].set_config(now, edit).unwrap();
            pair.run(ms(wait));
        }
        pair.run(ms(30_000));
        prop_assert_eq!(downs(&pair.events[0]), []);
        prop_assert_eq!(downs(&pair.events[1]), []);
        for (end, other) in [(0, 1), (1, 0)] {
            let (view, other) = (pair.ends[end].view(), pair.ends[other].view());
            let interval = view.config.desired_min_tx.max(other.config.required_min_rx);
            prop_assert_eq!(view.transmit_interval, Some(interval));
        }
    }
}

#[test]
fn handshake_takes_two_round_trips() {
    let mut pair = Pair::new([config(), config()], Link::default(), 1);
    assert!(pair.run_until(ms(3), |pair| pair.both(State::Up)));
}

#[test]
fn active_and_passive_end_come_up() {
    let passive = SessionConfig { role: Role::Passive, ..config() };
    let mut pair = Pair::new([passive, config()], Link::default(), 1);
    assert!(pair.run_until(ms(3), |pair| pair.both(State::Up)));
    // The passive end is cut off and found again.
    pair.link.cut = true;
    assert!(pair.run_until(ms(500), |pair| pair.both(State::Down)));
    pair.link.cut = false;
    assert!(pair.run_until(ms(1100), |pair| pair.both(State::Up)));
}

#[test]
fn two_passive_ends_stay_down() {
    let passive = SessionConfig { role: Role::Passive, ..config() };
    let mut pair = Pair::new([passive, passive], Link::default(), 1);
    assert!(!pair.run_until(ms(60_000), |pair| !pair.both(State::Down)));
}

#[test]
fn one_way_failure_takes_both_ends_down() {
    let mut pair = Pair::new([config(), config()], Link::default(), 1);
    pair.run(ms(5000));
    // The end that still receives learns of the failure from the other one.
    let now = pair.now;
    pair.ends[0].carrier_lost(now);
    assert!(pair.run_until(ms(10), |pair| pair.states()[1] == State::Down));
    assert_eq!(downs(&pair.events[1]), [Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN]);
    assert_eq!(pair.ends[1].view().remote_diagnostic, Diagnostic::PATH_DOWN);
    assert!(pair.run_until(ms(1100), |pair| pair.both(State::Up)));
}

#[test]
fn admin_down_takes_the_peer_down_and_keeps_it_down() {
    let mut pair = Pair::new([config(), config()], Link::default(), 1);
    pair.run(ms(5000));
    let now = pair.now;
    pair.ends[0].admin_down(now, Diagnostic::ADMINISTRATIVELY_DOWN);
    pair.run(ms(60_000));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    assert_eq!(downs(&pair.events[1]), [Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN]);
    assert_eq!(pair.ends[1].view().remote_state, State::AdminDown);
    let now = pair.now;
    pair.ends[0].admin_up(now);
    assert!(pair.run_until(Duration::from_secs(2), |pair| pair.both(State::Up)));
}
