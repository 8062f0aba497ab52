//! The finite state machine (RFC 4271 §8.2.2).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::next_hop::RouteNextHop;
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionEvent, SessionInput, SessionState, open};
use crate::message::notification::code;
use crate::message::open::Open;
use crate::message::update::{AttributeError, DecodedUpdate};
use crate::message::{DecodeContext, MAX_EXTENDED_LENGTH, MAX_LENGTH, Message, MessageError, MessageType};
use crate::{CeaseSubcode, DownReason, Family, NextHops, Notification};

/// Hold time until the peer's OPEN says otherwise (RFC 4271 §8.2.2).
const LARGE_HOLD_TIME: Duration = Duration::from_secs(4 * 60);
/// Least send hold time (RFC 9687 §4).
const MIN_SEND_HOLD_TIME: Duration = Duration::from_secs(8 * 60);
/// The first wait after a failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait in Idle, so that a peer put right is noticed soon.
const MAX_IDLE_HOLD: Duration = Duration::from_secs(60);
/// How long an attempt to connect may take: three SYNs and some.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A session that stood this long did not flap.
const STABLE: Duration = Duration::from_secs(60);
/// How long a session that is stopped waits for the peer to read the withdrawals. Long enough for a busy router, and
/// well within the termination grace period of a pod.
const WITHDRAW_TIME: Duration = Duration::from_millis(800);

impl Session {
    pub(super) fn dispatch(&mut self, now: Instant, input: SessionInput<'_>) {
        match (input, self.state) {
            (SessionInput::ManualStart, _) => self.manual_start(now),
            (SessionInput::ManualStop { subcode, text }, _) => self.manual_stop(now, subcode, &text),
            (
                SessionInput::Connected { remote, next_hops, .. },
                SessionState::Connect | SessionState::Active,
            ) => {
                self.connected(now, remote, next_hops);
            }
            // We did not ask for this one.
            (SessionInput::Connected { .. }, SessionState::Idle) => {
                self.events.push_back(SessionEvent::Close)
            }
            (SessionInput::ConnectFailed { reason }, SessionState::Connect) => {
                self.await_next_attempt(now, DownReason::ConnectFailed(reason));
            }
            (SessionInput::ConnectionClosed { reason }, SessionState::Connect) => {
                self.await_next_attempt(now, DownReason::ConnectFailed(reason));
            }
            // Event 18, TcpConnectionFails, in OpenSent: back to Active.
            (SessionInput::ConnectionClosed { reason }, SessionState::OpenSent) => {
                self.await_next_attempt(now, DownReason::ConnectionClosed(reason));
            }
            (
                SessionInput::ConnectionClosed { reason },
                SessionState::OpenConfirm | SessionState::Established,
            ) => {
                self.outbox = SessionOutbox::default();
                self.idle(now, DownReason::ConnectionClosed(reason));
            }
            (
                SessionInput::Received(bytes),
                SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established,
            ) => {
                self.received(now, bytes);
            }
            // What a connection that is closed already may still deliver.
            (
                SessionInput::Connected { .. }
                | SessionInput::ConnectFailed { .. }
                | SessionInput::ConnectionClosed { .. }
                | SessionInput::Received(_),
                _,
            ) => {}
        }
    }

    pub(super) fn expired(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::IdleHold => self.connect(now),
            Timer::ConnectRetry if self.state == SessionState::Connect => {
                self.events.push_back(SessionEvent::Close);
                self.await_next_attempt(now, DownReason::ConnectTimedOut);
            }
            Timer::ConnectRetry => self.connect(now),
            Timer::Hold => {
                self.close(now, notification(code::HOLD_TIMER_EXPIRED, 0), DownReason::HoldTimerExpired);
            }
            Timer::SendHold => {
                let notification = notification(code::SEND_HOLD_TIMER_EXPIRED, 0);
                self.close(now, notification, DownReason::SendHoldTimerExpired);
            }
            // The timer starts again when the message is pulled.
            Timer::Keepalive => self.outbox.keepalive = true,
            Timer::Withdraw => self.send_cease(now),
        }
    }

    // ===== Idle, Connect, Active =====

    /// Event 1. Ignored in every state but Idle, as RFC 4271 §8.2.2 has it.
    fn manual_start(&mut self, now: Instant) {
        if !self.started && self.state == SessionState::Idle {
            self.started = true;
            self.connect_retry_counter = 0;
            self.connect(now);
        }
    }

    /// Event 2.
    fn manual_stop(&mut self, now: Instant, subcode: CeaseSubcode, text: &str) {
        if !std::mem::take(&mut self.started) {
            return;
        }
        match self.state {
            SessionState::Idle | SessionState::Active => {}
            SessionState::Connect => self.events.push_back(SessionEvent::Close),
            SessionState::OpenSent | SessionState::OpenConfirm => {
                self.outbox.notification = Some(Notification::cease(subcode, text));
                self.events.push_back(SessionEvent::Close);
            }
            SessionState::Established if self.leaves_routes(subcode) => {
                self.outbox = SessionOutbox::default();
                self.events.push_back(SessionEvent::CloseForRestart);
            }
            SessionState::Established => return self.withdraw_all(now, Notification::cease(subcode, text)),
        }
        self.down(now, SessionState::Idle, DownReason::Stopped);
    }

    /// Returns whether the peer retains the routes when this side closes the connection without a NOTIFICATION (RFC
    /// 4724 §4). Only a shutdown restarts: a peer that was removed or changed must lose its routes.
    fn leaves_routes(&self, subcode: CeaseSubcode) -> bool {
        subcode == CeaseSubcode::AdministrativeShutdown
            && self.config.graceful_restart.is_some()
            && self.negotiated.as_ref().is_some_and(|negotiated| negotiated.graceful_restart.is_some())
    }

    /// Queues the withdrawal of every route that the peer has; `cease` follows when they are sent.
    fn withdraw_all(&mut self, now: Instant, cease: Notification) {
        self.cease = Some(cease);
        self.timers.stop_all();
        self.timers.start(Timer::Withdraw, now, WITHDRAW_TIME);
        let Some(negotiated) = &self.negotiated else { return };
        for family in &negotiated.families {
            self.rib.table_mut(*family).set_mode(true);
        }
    }

    /// The withdrawals are sent, or their time is over.
    pub(super) fn send_cease(&mut self, now: Instant) {
        self.outbox.notification = self.cease.take();
        self.events.push_back(SessionEvent::Close);
        self.down(now, SessionState::Idle, DownReason::Stopped);
    }

    fn connect(&mut self, now: Instant) {
        self.state = SessionState::Connect;
        self.timers.start(Timer::ConnectRetry, now, CONNECT_TIMEOUT);
        self.events.push_back(SessionEvent::Connect);
    }

    /// There is no connection (any more), and none of the peer's doing wrong: Active.
    fn await_next_attempt(&mut self, now: Instant, reason: DownReason) {
        self.outbox = SessionOutbox::default();
        self.down(now, SessionState::Active, reason);
        let wait = self.back_off(self.config.connect_retry);
        self.timers.start(Timer::ConnectRetry, now, wait);
    }

    /// An error on an open connection, which is gone: Idle, for a while.
    fn idle(&mut self, now: Instant, reason: DownReason) {
        if self.cease.take().is_some() {
            return self.down(now, SessionState::Idle, DownReason::Stopped);
        }
        self.down(now, SessionState::Idle, reason);
        let wait = self.back_off(self.config.connect_retry.min(MAX_IDLE_HOLD));
        self.timers.start(Timer::IdleHold, now, wait);
    }

    /// An error on an open connection, which we close with a NOTIFICATION.
    fn close(&mut self, now: Instant, notification: Notification, reason: DownReason) {
        self.outbox.notification = Some(notification);
        self.events.push_back(SessionEvent::Close);
        self.idle(now, reason);
    }

    fn down(&mut self, now: Instant, to: SessionState, reason: DownReason) {
        let from = std::mem::replace(&mut self.state, to);
        self.timers.stop_all();
        self.send_blocked = false;
        self.negotiated = None;
        self.remote = None;
        self.refresh.clear();
        self.outbox.keepalive = false;
        if let Some(since) = self.established_since.take() {
            self.statistics.dropped += 1;
            Family::ALL.into_iter().for_each(|family| self.rib.table_mut(family).down());
            if now.saturating_duration_since(since) >= STABLE {
                self.connect_retry_counter = 0;
            }
        }
        self.events.push_back(SessionEvent::Down { from, reason });
    }

    /// How long to wait after one more failure: exponential, with jitter, `longest` at most.
    fn back_off(&mut self, longest: Duration) -> Duration {
        let wait = FIRST_WAIT * (1 << self.connect_retry_counter.min(16));
        self.connect_retry_counter = self.connect_retry_counter.saturating_add(1);
        self.dice.jitter(wait.min(longest.max(FIRST_WAIT)))
    }

    // ===== OpenSent and after =====

    /// Events 16 and 17.
    fn connected(&mut self, now: Instant, remote: SocketAddr, next_hops: NextHops) {
        self.state = SessionState::OpenSent;
        self.framer.reset();
        self.remote = Some(remote.ip());
        self.next_hops = next_hops;
        let restarting = self.statistics.established == 0;
        self.outbox = SessionOutbox {
            open: Some(open::ours(&self.config, remote.ip(), restarting)),
            ..SessionOutbox::default()
        };
        self.timers.stop_all();
        self.timers.start(Timer::Hold, now, LARGE_HOLD_TIME);
    }

    fn received(&mut self, now: Instant, mut bytes: &[u8]) {
        let mut framer = std::mem::take(&mut self.framer);
        while self.state >= SessionState::OpenSent {
            // We announce RFC 8654 in our OPEN, so once the peer has that it may use it.
            let limit = if self.state == SessionState::OpenSent { MAX_LENGTH } else { MAX_EXTENDED_LENGTH };
            let message = match framer.next(&mut bytes, limit) {
                Ok(None) => break,
                Ok(Some(frame)) => Message::decode(frame, self.context()),
                Err(error) => Err(error),
            };
            match message {
                Ok(message) => self.message(now, message),
                Err(error) => self.protocol_error(now, error),
            }
        }
        self.framer = framer;
    }

    fn context(&self) -> DecodeContext {
        let negotiated = self.negotiated.as_ref();
        DecodeContext {
            four_octet_as: negotiated.is_some_and(|negotiated| negotiated.four_octet_as),
            ebgp: negotiated.is_some_and(|negotiated| negotiated.ebgp),
        }
    }

    fn message(&mut self, now: Instant, message: Message) {
        match (message, self.state) {
            (Message::Notification(notification), _) => {
                self.statistics.notifications_received += 1;
                self.outbox = SessionOutbox::default();
                self.events.push_back(SessionEvent::Close);
                self.idle(now, DownReason::Received(notification));
            }
            (Message::Open(open), SessionState::OpenSent) => self.open_received(now, &open),
            (Message::Keepalive, SessionState::OpenConfirm) => {
                self.established(now);
            }
            (Message::Keepalive, SessionState::Established) => {
                self.restart_hold_timer(now);
            }
            (Message::Update(decoded), SessionState::Established) => {
                self.restart_hold_timer(now);
                self.count_update(&decoded);
            }
            (Message::RouteRefresh(refresh), SessionState::Established) => {
                self.restart_hold_timer(now);
                let family = Family::from_codes(refresh.afi, refresh.safi).filter(|_| refresh.subtype == 0);
                let carried = |family: &Family| {
                    self.negotiated.as_ref().is_some_and(|negotiated| negotiated.families.contains(family))
                };
                self.refresh.extend(family.filter(carried));
            }
            (message, state) => self.protocol_error(now, unexpected(message.kind(), state)),
        }
    }

    /// Event 19.
    fn open_received(&mut self, now: Instant, open: &Open) {
        let Some(remote) = self.remote else { return };
        match open::negotiate(&self.config, remote, open) {
            Ok(negotiated) => {
                self.state = SessionState::OpenConfirm;
                self.outbox.keepalive = true;
                self.timers.start(Timer::Hold, now, negotiated.hold_time);
                self.negotiated = Some(negotiated);
            }
            Err(error) => self.protocol_error(now, error),
        }
    }

    /// Event 26 in OpenConfirm.
    fn established(&mut self, now: Instant) {
        let Some(negotiated) = self.negotiated.clone() else { return };
        self.state = SessionState::Established;
        self.established_since = Some(now);
        self.statistics.established += 1;
        self.restart_hold_timer(now);
        for family in &negotiated.families {
            let blocked = RouteNextHop::of(*family, self.next_hops, &negotiated).is_none();
            self.rib.table_mut(*family).open(blocked);
        }
        self.events.push_back(SessionEvent::Established(negotiated));
    }

    /// Inbound routes are checked, counted and dropped.
    fn count_update(&mut self, decoded: &DecodedUpdate) {
        let DecodedUpdate { update, errors } = decoded;
        let attributes = &update.attributes;
        let reached = attributes.mp_reach.as_ref().map_or(0, |reach| reach.nlri.len());
        self.statistics.updates_received += 1;
        self.statistics.prefixes_received += (update.nlri.len() + reached) as u64;
        if !errors.is_empty() {
            self.statistics.updates_malformed += 1;
            if let Some(error) = errors.iter().rfind(|error| !matches!(error, AttributeError::Discard(_))) {
                self.last_malformed = Some(error.to_string());
            }
        }
    }

    fn protocol_error(&mut self, now: Instant, error: MessageError) {
        let MessageError { notification, detail } = error;
        self.close(now, notification.clone(), DownReason::Sent { notification, detail });
    }

    // ===== timers =====

    fn restart_hold_timer(&mut self, now: Instant) {
        if let Some(negotiated) = &self.negotiated {
            self.timers.start(Timer::Hold, now, negotiated.hold_time);
        }
    }

    pub(super) fn restart_keepalive_timer(&mut self, now: Instant) {
        if let Some(negotiated) = &self.negotiated {
            let interval = self.dice.jitter(negotiated.keepalive_time);
            self.timers.start(Timer::Keepalive, now, interval);
        }
    }

    /// RFC 9687: counts the time during which there is something to send and the peer does not take it.
    /// It is looked at with every event and timer, so without a hold time (no keepalive timer) it starts late.
    pub(super) fn start_send_hold_timer(&mut self, now: Instant) {
        if self.state >= SessionState::OpenSent && !self.send_blocked && self.has_pending() {
            self.send_blocked = true;
            let hold_time =
                self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.hold_time);
            self.timers.start(Timer::SendHold, now, MIN_SEND_HOLD_TIME.max(hold_time * 2));
        }
    }
}

const fn notification(code: u8, subcode: u8) -> Notification {
    Notification { code, subcode, data: Vec::new() }
}

/// RFC 6608.
fn unexpected(kind: MessageType, state: SessionState) -> MessageError {
    let subcode = match state {
        SessionState::OpenSent => 1,
        SessionState::OpenConfirm => 2,
        SessionState::Established => 3,
        SessionState::Idle | SessionState::Connect | SessionState::Active => 0,
    };
    MessageError::new(code::FSM, subcode, [kind as u8], format!("{kind:?} in state {state}"))
}
