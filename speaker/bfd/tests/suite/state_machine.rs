//! The state machine (RFC 5880 §6.2 and §6.8.6), the state variables (§6.8.1), and the roles (§6.1).

use std::num::NonZeroU32;

use fairlead_bfd::{ControlPacket, Diagnostic, Discard, Event, Role, SessionConfig, State};

use crate::harness::{LOCAL, PEER, Solo, config, fin, ms, packet};

const STATES: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

/// Returns a session in the given state.
fn session_in(state: State) -> Solo {
    let mut solo = match state {
        State::Up => Solo::up(config()),
        _ => Solo::new(config()),
    };
    match state {
        State::AdminDown => solo.session.admin_down(solo.now, Diagnostic::ADMINISTRATIVELY_DOWN),
        State::Init => drop(solo.receive(packet(State::Down))),
        State::Down | State::Up => {}
    }
    solo.transmit();
    solo.events.clear();
    assert_eq!(solo.state(), state);
    solo
}

/// Renders the state machine as in `docs/bfd.md`: for each state and received state the next state, and the
/// diagnostic if the state changes.
fn table() -> String {
    let row = |received: State| {
        let cell = |state: State| {
            let mut solo = session_in(state);
            let discarded = solo.session.handle_packet(solo.now, &packet(received));
            solo.transmit();
            match (discarded, solo.changes().as_slice()) {
                (Err(Discard::AdminDown), []) => "discard".to_owned(),
                (Ok(()), []) => "–".to_owned(),
                (Ok(()), [(to, 0)]) => format!("**{to}**"),
                (Ok(()), [(to, diagnostic)]) => format!("**{to}**, diagnostic {diagnostic}"),
                other => panic!("{received} in {state}: {other:?}"),
            }
        };
        let cells: Vec<String> = STATES.into_iter().map(cell).collect();
        format!("| {received} | {} |\n", cells.join(" | "))
    };
    let head = "| received | in AdminDown | in Down | in Init | in Up |\n| --- | --- | --- | --- | --- |\n";
    head.to_owned() + &STATES.into_iter().map(row).collect::<String>()
}

#[test]
fn documented_table_of_states_holds() {
    let table = table();
    let documented = include_str!("../../../../docs/bfd.md");
    assert!(documented.contains(&table), "docs/bfd.md does not contain the table of this session:\n{table}");
}

#[test]
fn new_session_has_the_initial_values_of_the_rfc() {
    let view = Solo::new(config()).view();
    assert_eq!((view.state, view.remote_state), (State::Down, State::Down));
    assert_eq!((view.local_discriminator, view.remote_discriminator), (LOCAL, None));
    assert_eq!(view.local_diagnostic, Diagnostic::NONE);
    assert_eq!((view.desired_min_tx, view.required_min_rx), (ms(1000), ms(100)));
    assert_eq!(view.remote_required_min_rx.as_micros(), 1);
    assert!(!view.remote_demand);
    assert_eq!(view.detection_time, None);
}

#[test]
fn handshake_brings_the_session_up() {
    let mut solo = Solo::new(config());
    let [down] = solo.transmit()[..] else { panic!("the session sends one packet") };
    assert_eq!((down.state, down.your_discriminator), (State::Down, None));
    let [init] = solo.receive(packet(State::Down))[..] else { panic!("the session sends its new state") };
    assert_eq!((init.state, init.your_discriminator), (State::Init, Some(PEER)));
    let [up] = solo.receive(packet(State::Up))[..] else { panic!("the session sends its new state") };
    assert_eq!(up.state, State::Up);
    assert_eq!(solo.changes(), [(State::Init, 0), (State::Up, 0)]);
    let view = solo.view();
    assert_eq!((view.counters.ups, view.last_up), (1, Some(solo.now)));
}

#[test]
fn remote_discriminator_survives_down_for_one_detection_time() {
    let mut solo = Solo::up(config());
    let [down] = solo.receive(packet(State::Down))[..] else { panic!("the session sends its new state") };
    assert_eq!((down.state, down.your_discriminator), (State::Down, Some(PEER)));
    assert_eq!(down.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN);
    solo.run(ms(299));
    assert_eq!(solo.view().remote_discriminator, Some(PEER));
    solo.run(ms(1));
    assert_eq!(solo.view().remote_discriminator, None);
    assert_eq!(solo.changes(), [(State::Down, 3)], "the loss of a peer that is Down is no change");
}

#[test]
fn values_of_the_peer_are_reset_after_silence() {
    let mut solo = Solo::up(config());
    solo.receive(ControlPacket { required_min_rx: ms(0), ..packet(State::Down) });
    solo.run(ms(300));
    // Otherwise the session would never send again to a peer that restarts.
    assert_eq!(solo.view().transmit_interval, Some(ms(1000)));
    assert_eq!(solo.view().remote_state, State::Down);
}

#[test]
fn peer_that_restarts_takes_the_session_down_and_up_again() {
    let mut solo = Solo::up(config());
    let restarted = NonZeroU32::new(0x3333).unwrap();
    let from_restarted = |state| ControlPacket { my_discriminator: restarted, ..packet(state) };
    let [down] = solo.receive(from_restarted(State::Down))[..] else { panic!("the session sends its state") };
    assert_eq!((down.state, down.your_discriminator), (State::Down, Some(restarted)));
    solo.receive(from_restarted(State::Down));
    solo.receive(from_restarted(State::Init));
    assert_eq!(solo.changes(), [(State::Down, 3), (State::Init, 3), (State::Up, 0)]);
    assert_eq!(solo.view().counters.downs, 1);
}

#[test]
fn admin_down_of_the_peer_is_told_apart_from_down() {
    for (state, diagnostic) in
        [(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN), (State::Down, Diagnostic::PATH_DOWN)]
    {
        let mut solo = Solo::up(config());
        solo.receive(ControlPacket { diagnostic, ..packet(state) });
        let expected = Event::StateChanged {
            at: solo.now,
            from: State::Up,
            to: State::Down,
            local_diagnostic: Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN,
            remote_state: state,
            remote_diagnostic: diagnostic,
        };
        assert_eq!(solo.events, [expected]);
    }
}

#[test]
fn diagnostic_of_a_failure_is_announced_until_the_session_is_up() {
    let mut solo = Solo::up(config());
    solo.run(ms(300));
    let sent = solo.receive(packet(State::Down));
    assert_eq!((sent[0].state, sent[0].diagnostic.code()), (State::Init, 1));
    let sent = solo.receive(packet(State::Up));
    assert_eq!((sent[0].state, sent[0].diagnostic.code()), (State::Up, 0));
}

#[test]
fn passive_session_waits_for_the_peer() {
    let mut solo = Solo::new(SessionConfig { role: Role::Passive, ..config() });
    assert_eq!(solo.run(ms(10_000)), []);
    assert_eq!(solo.session.poll_timeout(), None);
    let sent = solo.receive(packet(State::Down));
    assert_eq!((sent[0].state, sent.len()), (State::Init, 1));
    solo.receive(packet(State::Up));
    assert_eq!(solo.state(), State::Up);
}

#[test]
fn passive_session_falls_silent_with_the_peer() {
    let mut solo = Solo::up(SessionConfig { role: Role::Passive, ..config() });
    let sent = solo.run(ms(300));
    assert!(!sent.is_empty());
    assert_eq!(solo.run(ms(10_000)), []);
    assert_eq!(solo.state(), State::Down);
    assert_eq!(solo.receive(packet(State::Down)).len(), 1);
}

#[test]
fn active_session_sends_whether_or_not_it_receives() {
    let sent = Solo::new(config()).run(ms(10_000));
    assert!(sent.len() > 9, "{} packets in 10 s", sent.len());
    assert!(sent.iter().all(|(_, packet)| packet.your_discriminator.is_none()));
}

#[test]
fn unsolicited_final_changes_nothing() {
    let mut solo = Solo::up(config());
    assert_eq!(solo.receive(fin(packet(State::Up))), []);
    assert_eq!((solo.state(), solo.view().counters.polls), (State::Up, 1));
}
