//! The intervals that this system announces, and those in force meanwhile (RFC 5880 §6.8.3).

use std::time::Duration;

/// Intervals of this system. A change is announced at once, but two changes of a session that is Up take
/// effect only when the Poll Sequence that announces them has terminated, because the peer must know them
/// before: a longer transmit interval, and a shorter receive interval.
#[derive(Debug)]
pub(super) struct Intervals {
    /// bfd.DesiredMinTxInterval.
    desired_min_tx: Duration,
    /// bfd.RequiredMinRxInterval.
    required_min_rx: Duration,
    /// The local part of the transmit interval.
    transmit_in_force: Duration,
    /// The local part of the Detection Time.
    receive_in_force: Duration,
}

impl Intervals {
    pub(super) const fn new(desired_min_tx: Duration, required_min_rx: Duration) -> Self {
        Self {
            desired_min_tx,
            required_min_rx,
            transmit_in_force: desired_min_tx,
            receive_in_force: required_min_rx,
        }
    }

    /// Changes the intervals. Returns whether they differ from before: a Poll Sequence must announce them.
    pub(super) fn set(&mut self, up: bool, desired_min_tx: Duration, required_min_rx: Duration) -> bool {
        let changed = (self.desired_min_tx, self.required_min_rx) != (desired_min_tx, required_min_rx);
        self.desired_min_tx = desired_min_tx;
        self.required_min_rx = required_min_rx;
        if !up {
            self.take_effect();
        }
        self.transmit_in_force = self.transmit_in_force.min(desired_min_tx);
        self.receive_in_force = self.receive_in_force.max(required_min_rx);
        changed
    }

    /// Puts the announced intervals in force: the peer confirmed them, or the session is not Up.
    pub(super) const fn take_effect(&mut self) {
        self.transmit_in_force = self.desired_min_tx;
        self.receive_in_force = self.required_min_rx;
    }

    pub(super) const fn desired_min_tx(&self) -> Duration {
        self.desired_min_tx
    }

    pub(super) const fn required_min_rx(&self) -> Duration {
        self.required_min_rx
    }

    pub(super) const fn transmit_in_force(&self) -> Duration {
        self.transmit_in_force
    }

    pub(super) const fn receive_in_force(&self) -> Duration {
        self.receive_in_force
    }
}
