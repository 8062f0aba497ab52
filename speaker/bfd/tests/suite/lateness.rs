//! Packets that leave late: the session announces a longer interval before the peer declares it down.

use std::time::Duration;

use fairlead_bfd::{ControlPacket, Event, SessionConfig, State};

use crate::harness::{Solo, config, fin, ms, packet};

impl Solo {
    /// Sends the next periodic packet late by this time.
    fn transmit_late(&mut self, late_by: Duration) {
        let patient = ControlPacket { detect_multiplier: 255, ..packet(State::Up) };
        self.session.handle_packet(self.now, &patient).unwrap();
        self.now = self.now.max(self.session.poll_timeout().unwrap() + late_by);
        assert_eq!(self.transmit().len(), 1);
    }

    fn raised(&mut self) -> Option<Duration> {
        self.view().transmit_interval_raised.then(|| self.view().desired_min_tx)
    }
}

#[test]
fn three_late_packets_of_ten_double_the_interval() {
    let mut solo = Solo::up(config());
    for late_by in [26, 0, 0, 0, 26, 0, 0, 0, 0] {
        solo.transmit_late(ms(late_by));
    }
    assert_eq!(solo.raised(), None);
    solo.transmit_late(ms(26));
    assert_eq!(solo.raised(), Some(ms(200)));
    assert_eq!(solo.events, [Event::TransmitIntervalRaised { at: solo.now, desired_min_tx: ms(200) }]);
    assert_eq!(solo.view().counters.transmitted_late, 3);
    // The peer must know the longer interval before it is used.
    assert_eq!((solo.view().polling, solo.view().transmit_interval), (true, Some(ms(100))));
    solo.receive(fin(packet(State::Up)));
    assert_eq!(solo.view().transmit_interval, Some(ms(200)));
}

#[test]
fn lateness_below_the_limits_changes_nothing() {
    let mut solo = Solo::up(config());
    for _ in 0..100 {
        solo.transmit_late(ms(25));
    }
    // Two of any ten.
    for _ in 0..20 {
        for late_by in [40, 40, 0, 0, 0, 0, 0, 0, 0, 0] {
            solo.transmit_late(ms(late_by));
        }
    }
    assert_eq!((solo.raised(), solo.view().counters.transmitted_late), (None, 40));
}

#[test]
fn interval_is_raised_to_one_second_at_most() {
    let mut solo = Solo::up(SessionConfig { desired_min_tx: ms(300), ..config() });
    let mut raised = Vec::new();
    for _ in 0..20 {
        solo.transmit_late(ms(600));
        solo.receive(fin(packet(State::Up)));
        raised.extend(solo.raised());
    }
    raised.dedup();
    assert_eq!(raised, [ms(600), ms(1000)]);

    let mut solo = Solo::up(SessionConfig { desired_min_tx: ms(3000), ..config() });
    for _ in 0..20 {
        solo.transmit_late(ms(2000));
    }
    assert_eq!(solo.raised(), None, "a configured interval above 1 s is never raised");
}

#[test]
fn interval_is_restored_after_60_seconds_without_lateness() {
    let mut solo = Solo::up(config());
    for _ in 0..3 {
        solo.transmit_late(ms(50));
    }
    solo.receive(fin(packet(State::Up)));
    solo.events.clear();
    let last_late = solo.now;
    solo.run_with(ms(59_900), packet(State::Up));
    assert_eq!(solo.raised(), Some(ms(200)));
    solo.run_with(ms(200), packet(State::Up));
    assert_eq!((solo.raised(), solo.view().desired_min_tx), (None, ms(100)));
    let restored = Event::TransmitIntervalRestored { at: last_late + ms(60_000), desired_min_tx: ms(100) };
    assert_eq!(solo.events, [restored]);
    assert!(solo.view().polling);
}

#[test]
fn configured_interval_replaces_a_raised_one() {
    let mut solo = Solo::up(config());
    for _ in 0..3 {
        solo.transmit_late(ms(50));
    }
    solo.session.set_config(solo.now, SessionConfig { desired_min_tx: ms(150), ..config() }).unwrap();
    assert_eq!((solo.raised(), solo.view().desired_min_tx), (None, ms(150)));
}

#[test]
fn lateness_while_down_does_not_count() {
    let mut solo = Solo::new(config());
    for _ in 0..20 {
        solo.stall(ms(3000));
        solo.transmit();
    }
    assert_eq!(solo.view().counters.transmitted_late, 0);
}
