//! What operators read about a session.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::Session;
use super::detection::Detection;
use crate::{Diagnostic, DiscardCounters, SessionConfig, State};

/// Snapshot of a session. The names in parentheses are those of RFC 5880 §6.8.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Configured parameters.
    pub config: SessionConfig,
    /// (bfd.SessionState)
    pub state: State,
    /// Time of the last change of state; `None` if it never changed.
    pub state_since: Option<Instant>,
    /// Reason for the last change of state (bfd.LocalDiag).
    pub local_diagnostic: Diagnostic,
    /// (bfd.LocalDiscr)
    pub local_discriminator: NonZeroU32,
    /// (bfd.RemoteDiscr); `None` if no packet arrived within the last Detection Time.
    pub remote_discriminator: Option<NonZeroU32>,
    /// State in the last packet of the peer (bfd.RemoteSessionState).
    pub remote_state: State,
    /// Diagnostic in the last packet of the peer.
    pub remote_diagnostic: Diagnostic,
    /// Interval that this system announces (bfd.DesiredMinTxInterval): at least 1 s unless the session is Up.
    pub desired_min_tx: Duration,
    /// Interval that this system announces (bfd.RequiredMinRxInterval).
    pub required_min_rx: Duration,
    /// Desired Min TX Interval of the peer; zero before the first packet.
    pub remote_desired_min_tx: Duration,
    /// Required Min RX Interval of the peer (bfd.RemoteMinRxInterval).
    pub remote_required_min_rx: Duration,
    /// Detect Mult of the peer; zero before the first packet.
    pub remote_detect_multiplier: u8,
    /// True if the peer runs in Demand mode (bfd.RemoteDemandMode).
    pub remote_demand: bool,
    /// Interval in force between periodic packets, before jitter; `None` if the session sends no periodic
    /// packets.
    pub transmit_interval: Option<Duration>,
    /// Detection Time in force (RFC 5880 §6.8.4); `None` before the first packet.
    pub detection_time: Option<Duration>,
    /// True while a Poll Sequence is in progress.
    pub polling: bool,
    /// True while this session announces a longer interval than configured, because this process sends
    /// packets late.
    pub transmit_interval_raised: bool,
    /// Time of the last change to Up.
    pub last_up: Option<Instant>,
    /// Time of the last change from Up.
    pub last_down: Option<Instant>,
    /// Arrival of the last packet that was not discarded.
    pub last_received: Option<Instant>,
    #[allow(missing_docs)]
    pub counters: Counters,
}

/// Counters since the session was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received and not discarded.
    pub received: u64,
    /// Packets of this session that were discarded.
    pub discarded: DiscardCounters,
    #[allow(missing_docs)]
    pub transmitted: u64,
    /// Changes to Up.
    pub ups: u64,
    /// Changes from Up, for any reason.
    pub downs: u64,
    /// Changes from Up to Down because the Detection Time expired.
    pub detection_time_expired: u64,
    /// Times that a Detection Time was extended because of this process's own lateness.
    pub own_lateness: u64,
    /// Periodic packets that left more than 25 % of the interval late.
    pub transmitted_late: u64,
    /// Poll Sequences completed.
    pub polls: u64,
}

impl Session {
    /// Returns a snapshot for the operator.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            config: self.config,
            state: self.state,
            state_since: self.state_since,
            local_diagnostic: self.local_diagnostic,
            local_discriminator: self.local_discriminator,
            remote_discriminator: self.remote.discriminator,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
            desired_min_tx: self.intervals.desired_min_tx(),
            required_min_rx: self.intervals.required_min_rx(),
            remote_desired_min_tx: self.remote.desired_min_tx,
            remote_required_min_rx: self.remote.required_min_rx,
            remote_detect_multiplier: self.remote.detect_multiplier,
            remote_demand: self.remote.demand,
            transmit_interval: self.transmit_interval(),
            detection_time: Detection::time(&self.remote, self.intervals.receive_in_force()),
            polling: self.poll.is_active(),
            transmit_interval_raised: self.lateness.is_raised(),
            last_up: self.last_up,
            last_down: self.last_down,
            last_received: self.remote.last_received(),
            counters: self.counters,
        }
    }
}
