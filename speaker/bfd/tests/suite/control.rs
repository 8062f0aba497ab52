//! Administrative control (RFC 5880 §6.8.16) and loss of the carrier.

use std::time::Duration;

use fairlead_bfd::{ControlPacket, Diagnostic, Discard, SessionConfig, State};

use crate::harness::{Solo, config, ms, packet, poll};

impl Solo {
    fn admin_down(&mut self) {
        self.session.admin_down(self.now, Diagnostic::ADMINISTRATIVELY_DOWN);
    }
}

#[test]
fn admin_down_is_announced_three_times_before_the_socket_may_close() {
    for interval in [50, 60_000] {
        let mut solo = Solo::up(SessionConfig { desired_min_tx: ms(interval), ..config() });
        solo.run_with(ms(500), packet(State::Up));
        solo.admin_down();
        assert!(!solo.session.admin_down_announced());
        let sent = solo.run(ms(200));
        assert!(solo.session.admin_down_announced());
        assert_eq!((sent.len(), sent[0].0), (3, Duration::ZERO));
        let is_announcement = |(_, packet): &(Duration, ControlPacket)| {
            packet.state == State::AdminDown && packet.diagnostic == Diagnostic::ADMINISTRATIVELY_DOWN
        };
        assert!(sent.iter().all(is_announcement));
        assert_eq!(solo.changes(), [(State::AdminDown, 7)]);
    }
}

#[test]
fn admin_down_is_sent_once_a_second_after_the_announcement() {
    let mut solo = Solo::up(config());
    solo.admin_down();
    solo.run(ms(300));
    let sent = solo.run(ms(10_000));
    assert!((10..=14).contains(&sent.len()), "{} packets", sent.len());
    assert!(sent.iter().all(|(_, packet)| packet.state == State::AdminDown));
}

#[test]
fn admin_down_without_a_peer_needs_no_announcement() {
    let mut solo = Solo::new(config());
    solo.run(ms(100));
    solo.admin_down();
    assert!(solo.session.admin_down_announced());
}

#[test]
fn packets_are_discarded_in_admin_down() {
    let mut solo = Solo::up(config());
    solo.admin_down();
    solo.run(ms(200));
    let sent = solo.session.handle_packet(solo.now, &poll(packet(State::Up)));
    assert_eq!(sent, Err(Discard::AdminDown));
    assert_eq!(solo.view().counters.discarded.get(Discard::AdminDown), 1);
    assert_eq!(solo.transmit(), []);
    assert_eq!(solo.state(), State::AdminDown);
}

#[test]
fn packets_with_authentication_are_discarded() {
    let mut solo = Solo::up(config());
    let authenticated = ControlPacket { authentication_present: true, ..poll(packet(State::Down)) };
    assert_eq!(solo.session.handle_packet(solo.now, &authenticated), Err(Discard::AuthenticationPresent));
    assert_eq!(solo.view().counters.discarded.get(Discard::AuthenticationPresent), 1);
    assert_eq!((solo.transmit(), solo.state()), (vec![], State::Up));
    // Nor do they prove that the peer is alive.
    solo.run(ms(200));
    let _ = solo.session.handle_packet(solo.now, &authenticated);
    solo.run(ms(100));
    assert_eq!(solo.changes(), [(State::Down, 1)]);
}

#[test]
fn admin_up_continues_in_down() {
    let mut solo = Solo::up(config());
    solo.admin_down();
    solo.run(ms(200));
    solo.session.admin_up(solo.now);
    let [down] = solo.transmit()[..] else { panic!("the session sends its new state") };
    assert_eq!((down.state, down.diagnostic), (State::Down, Diagnostic::NONE));
    solo.receive(packet(State::Down));
    solo.receive(packet(State::Up));
    assert_eq!(solo.state(), State::Up);
}

#[test]
fn repeated_control_changes_nothing() {
    let mut solo = Solo::up(config());
    solo.session.admin_up(solo.now);
    assert_eq!((solo.transmit(), solo.state()), (vec![], State::Up));
    solo.admin_down();
    solo.run(ms(200));
    solo.admin_down();
    assert_eq!(solo.transmit(), []);
    assert_eq!(solo.changes(), [(State::AdminDown, 7)]);
}

#[test]
fn carrier_loss_takes_the_session_down_with_path_down() {
    let mut solo = Solo::up(config());
    solo.session.carrier_lost(solo.now);
    let [down] = solo.transmit()[..] else { panic!("the session sends its new state") };
    assert_eq!((down.state, down.diagnostic), (State::Down, Diagnostic::PATH_DOWN));
    assert_eq!(solo.changes(), [(State::Down, 5)]);
    solo.session.carrier_lost(solo.now);
    assert_eq!(solo.changes(), []);
    // Packets from before the loss do not bring it Up again.
    solo.receive(packet(State::Up));
    assert_eq!(solo.state(), State::Down);
}
