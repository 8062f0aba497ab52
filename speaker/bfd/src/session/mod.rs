//! The session: its functions for the shell. Received packets are processed in `receive.rs`.
//!
//! A [`Session`] is composed of parts with fields of their own: the values of the peer ([`Remote`]), the
//! [`Intervals`] of this system, the [`PollSequence`], the [`Detection`] Time, the [`Transmitter`] and the
//! [`TransmitLateness`]. After each input, [`Session::update`] adapts the announced intervals and the
//! schedule of transmissions to the new values.

mod detection;
mod event;
mod interval;
mod lateness;
mod poll;
mod receive;
mod remote;
mod transmitter;
mod view;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

pub use event::Event;
pub use view::{Counters, View};

use crate::{ConfigError, ControlPacket, Diagnostic, Discard, PACKET_LENGTH, Role, SessionConfig, State};
use detection::{Detection, Expiry};
use interval::Intervals;
use lateness::TransmitLateness;
use poll::PollSequence;
use remote::Remote;
use transmitter::{Cause, Transmitter};

/// RFC 5880 §6.8.3: lower bound of bfd.DesiredMinTxInterval unless the session is Up.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);
/// Capacity for events, so that a change of state allocates no memory if the shell polls events after each
/// input.
const EVENTS: usize = 8;

/// One BFD session. [`crate::Sessions`] is a table of them. The documentation of the crate shows the loop of
/// a shell.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    /// bfd.LocalDiscr.
    local_discriminator: NonZeroU32,
    /// bfd.SessionState.
    state: State,
    /// bfd.LocalDiag.
    local_diagnostic: Diagnostic,
    remote: Remote,
    intervals: Intervals,
    poll: PollSequence,
    detection: Detection,
    transmitter: Transmitter,
    lateness: TransmitLateness,

    events: VecDeque<Event>,
    state_since: Option<Instant>,
    last_up: Option<Instant>,
    last_down: Option<Instant>,
    counters: Counters,
}

impl Session {
    /// Creates a session in state Down. `seed` seeds the jitter of its timer.
    ///
    /// # Errors
    /// The configuration exceeds the limits of the protocol.
    pub fn new(
        config: SessionConfig,
        local_discriminator: NonZeroU32,
        now: Instant,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut session = Self {
            config,
            local_discriminator,
            state: State::Down,
            local_diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            intervals: Intervals::new(config.desired_min_tx.max(SLOW_INTERVAL), config.required_min_rx),
            poll: PollSequence::default(),
            detection: Detection::default(),
            transmitter: Transmitter::new(seed),
            lateness: TransmitLateness::default(),
            events: VecDeque::with_capacity(EVENTS),
            state_since: None,
            last_up: None,
            last_down: None,
            counters: Counters::default(),
        };
        session.update(now);
        Ok(session)
    }

    // ===== input and output =====

    /// Processes a packet of this session (RFC 5880 §6.8.6). `arrived` is the time at which the kernel
    /// received it, and may precede times passed in before: the Detection Time starts at the arrival.
    ///
    /// # Errors
    /// The packet has an Authentication Section; or the session is in AdminDown, and learned no more than the
    /// values of the packet.
    pub fn handle_packet(&mut self, arrived: Instant, packet: &ControlPacket) -> Result<(), Discard> {
        let result = self.receive(arrived, packet);
        match result {
            Ok(()) => self.counters.received += 1,
            Err(reason) => self.counters.discarded.count(reason),
        }
        self.update(arrived);
        result
    }

    /// Processes all timers that expired by `now`, except the transmission of packets. First pass in the
    /// packets that arrived by `now`. If this call is late by more than half an interval, the session extends
    /// the Detection Time once by one interval ([`Event::OwnLateness`]).
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.detection.judge(now, &self.remote, self.intervals.receive_in_force()) {
            Expiry::NotYet => {}
            Expiry::OwnLateness { late_by, extended_by } if self.is_detecting() => {
                self.counters.own_lateness += 1;
                self.events.push_back(Event::OwnLateness { at: now, late_by, extended_by });
            }
            Expiry::OwnLateness { .. } | Expiry::Silence => self.handle_silence(now),
        }
        if self.lateness.restore(now) {
            let desired_min_tx = self.config.desired_min_tx;
            self.events.push_back(Event::TransmitIntervalRestored { at: now, desired_min_tx });
        }
        self.update(now);
    }

    /// Returns when to call [`Session::handle_timeout`] and [`Session::poll_transmit`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transmit_at(), self.expires_at()].into_iter().flatten().min()
    }

    /// Returns when [`Session::poll_transmit`] has the next packet.
    pub(crate) fn transmit_at(&self) -> Option<Instant> {
        self.transmitter.next()
    }

    /// Returns when [`Session::handle_timeout`] has something to do.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        let detection = self.detection.expires_at(&self.remote, self.intervals.receive_in_force());
        [detection, self.lateness.restore_at()].into_iter().flatten().min()
    }

    /// Returns the next packet to send by `now`. Call it until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<[u8; PACKET_LENGTH]> {
        let cause = self.transmitter.due(now)?;
        // RFC 5880 §6.5: never both bits. The next packet continues the Poll Sequence.
        let is_final = cause == Cause::Final;
        let packet = self.packet(!is_final && self.poll.is_active(), is_final);
        self.transmitter.sent(now, cause, packet, self.config.detect_multiplier);
        self.counters.transmitted += 1;
        if let (Cause::Periodic { due, interval }, State::Up) = (cause, self.state) {
            self.watch_lateness(now, due, interval);
        }
        Some(packet)
    }

    /// Returns the next event, in order of occurrence. Poll after each input, so that few events queue up.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // ===== control =====

    /// Replaces the parameters. The session stays in its state and announces changed intervals to the peer by
    /// a Poll Sequence (RFC 5880 §6.8.3).
    ///
    /// # Errors
    /// The configuration exceeds the limits of the protocol; the previous one stays in force.
    pub fn set_config(&mut self, now: Instant, config: SessionConfig) -> Result<(), ConfigError> {
        config.validate()?;
        if config.desired_min_tx != self.config.desired_min_tx {
            self.lateness = TransmitLateness::default();
        }
        // RFC 5880 §6.6: with Demand mode, every change of the contents needs a Poll Sequence.
        if self.remote_demand_active() && config != self.config {
            self.poll.request();
        }
        self.config = config;
        self.update(now);
        Ok(())
    }

    /// Disables the session (RFC 5880 §6.8.16). It sends three packets in AdminDown within 200 ms, and then
    /// one a second. Does nothing if the session is disabled already.
    pub fn admin_down(&mut self, now: Instant, diagnostic: Diagnostic) {
        if self.state != State::AdminDown {
            self.transmitter.announce();
            self.set_state(now, State::AdminDown, diagnostic);
            self.update(now);
        }
    }

    /// Enables a session that is in AdminDown; it continues in Down.
    pub fn admin_up(&mut self, now: Instant) {
        if self.state == State::AdminDown {
            self.transmitter.stop_announcing();
            self.set_state(now, State::Down, Diagnostic::NONE);
            self.update(now);
        }
    }

    /// Returns whether the session is in AdminDown and has sent that state three times, or there is no peer
    /// to send it to. The shell may then close its socket.
    #[must_use]
    pub fn admin_down_announced(&self) -> bool {
        self.state == State::AdminDown
            && (self.remote.discriminator.is_none() || !self.transmitter.is_announcing())
    }

    /// Takes the session Down with diagnostic 5, Path Down, because its link has no carrier. The session may
    /// come Up again as soon as packets arrive.
    pub fn carrier_lost(&mut self, now: Instant) {
        if self.is_detecting() {
            self.set_state(now, State::Down, Diagnostic::PATH_DOWN);
            self.update(now);
        }
    }

    // ===== status =====

    /// Returns bfd.SessionState.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns bfd.LocalDiscr.
    #[must_use]
    pub const fn local_discriminator(&self) -> NonZeroU32 {
        self.local_discriminator
    }

    /// Returns the parameters.
    #[must_use]
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Counts a packet of this session that was discarded before [`Session::handle_packet`].
    pub(crate) const fn count_discard(&mut self, reason: Discard) {
        self.counters.discarded.count(reason);
    }

    /// Processes a packet from the address of the peer that belongs to a session of the past, by its
    /// discriminator: the peer missed the end of that session, and waits for a packet of it. FRR waits
    /// forever. A passive session would wait as well, so it sends a packet with its own discriminator, at
    /// most one a second.
    pub(crate) fn handle_stale_packet(&mut self, arrived: Instant) {
        if self.config.role == Role::Passive && self.remote.discriminator.is_none() {
            self.transmitter.send_one(arrived, SLOW_INTERVAL);
        }
    }

    // ===== state =====

    /// True if the expiry of the Detection Time takes the session Down.
    const fn is_detecting(&self) -> bool {
        matches!(self.state, State::Init | State::Up)
    }

    /// RFC 5880 §6.6: the peer runs in Demand mode, and receives no periodic packets.
    fn remote_demand_active(&self) -> bool {
        self.remote.demand && self.state == State::Up && self.remote.state == State::Up
    }

    /// Changes bfd.SessionState. The diagnostic of a failure is announced until the session is Up again.
    fn set_state(&mut self, at: Instant, to: State, diagnostic: Diagnostic) {
        let from = std::mem::replace(&mut self.state, to);
        self.local_diagnostic = diagnostic;
        self.state_since = Some(at);
        if to == State::Up {
            self.counters.ups += 1;
            self.last_up = Some(at);
        } else if from == State::Up {
            self.counters.downs += 1;
            self.last_down = Some(at);
        }
        self.events.push_back(Event::StateChanged {
            at,
            from,
            to,
            local_diagnostic: diagnostic,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
        });
    }

    /// RFC 5880 §6.8.4 and §6.8.1: the Detection Time passed without a packet.
    fn handle_silence(&mut self, now: Instant) {
        if self.is_detecting() {
            self.counters.detection_time_expired += u64::from(self.state == State::Up);
            self.set_state(now, State::Down, Diagnostic::CONTROL_DETECTION_TIME_EXPIRED);
        }
        self.remote.forget();
        self.detection = Detection::default();
        self.poll = PollSequence::default();
    }

    /// Records whether a periodic packet left late, and raises the interval if too many did.
    fn watch_lateness(&mut self, now: Instant, due: Instant, interval: Duration) {
        let late_by = now.saturating_duration_since(due);
        self.counters.transmitted_late += u64::from(self.lateness.handle_transmit(now, late_by, interval));
        if self.lateness.raise(self.config.desired_min_tx) {
            let desired_min_tx = self.lateness.desired_min_tx(self.config.desired_min_tx);
            self.events.push_back(Event::TransmitIntervalRaised { at: now, desired_min_tx });
            self.update(now);
        }
    }

    /// Adapts the announced intervals and the schedule of transmissions after an input.
    fn update(&mut self, at: Instant) {
        let up = self.state == State::Up;
        let desired = self.lateness.desired_min_tx(self.config.desired_min_tx);
        let desired = if up { desired } else { desired.max(SLOW_INTERVAL) };
        let changed = self.intervals.set(up, desired, self.config.required_min_rx);
        if changed && self.remote.discriminator.is_some() {
            self.poll.request();
        }
        if self.remote.discriminator.is_none() && self.config.role == Role::Passive {
            self.transmitter.stop();
            return;
        }
        let packet = self.packet(false, false);
        self.transmitter.update(at, &packet, self.transmit_interval(), self.config.detect_multiplier);
    }

    /// Returns the interval between periodic packets before jitter; `None` if the session must not send any
    /// (RFC 5880 §6.8.7).
    fn transmit_interval(&self) -> Option<Duration> {
        let refused = self.remote.required_min_rx.is_zero();
        let demand = self.remote_demand_active() && !self.poll.is_active();
        let unknown = self.remote.discriminator.is_none() && self.config.role == Role::Passive;
        let interval = self.intervals.transmit_in_force().max(self.remote.required_min_rx);
        (!refused && !demand && !unknown).then_some(interval)
    }

    fn packet(&self, poll: bool, is_final: bool) -> [u8; PACKET_LENGTH] {
        ControlPacket {
            diagnostic: self.local_diagnostic,
            state: self.state,
            poll,
            is_final,
            control_plane_independent: false,
            authentication_present: false,
            demand: false,
            detect_multiplier: self.config.detect_multiplier,
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.intervals.desired_min_tx(),
            required_min_rx: self.intervals.required_min_rx(),
            required_min_echo_rx: self.config.required_min_echo_rx,
        }
        .encode()
    }
}
