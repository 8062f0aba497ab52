//! Finite state machine of a session (RFC 4271 §8.2.2).
//!
//! Numbers are events of RFC 4271 §8.1. The events of automatic start and stop, and of the DelayOpenTimer (3,
//! 5 to 8, 12, 14, 15, 20) do not occur. A passive session waits in Active for a connection of the peer and
//! is never in Connect ([`super::second`]).
//!
//! ```text
//!                 ManualStart (1)
//!          ┌─────────────────────────────────────────────────┐
//!          │      IdleHoldTimer_Expires (13)                 ▼
//!     ┌────┴───┐ ─────────────────────────────────────▶ ┌─────────┐
//!     │  Idle  │                                        │ Connect │◀───────────────┐
//!     └────────┘                                        └────┬────┘                │
//!       ▲ ▲ ▲                                                │                     │ ConnectRetryTimer_
//!       │ │ │       Tcp_CR_Acked (16)                        │ TcpConnectionFails  │ Expires (9)
//!       │ │ │       TcpConnectionConfirmed (17): send OPEN   │ (18),               │
//!       │ │ │     ┌──────────────────────────────────────────┤ ConnectRetryTimer_  │
//!       │ │ │     ▼                                          │ Expires (9)         │
//!       │ │ │  ┌──────────┐   TcpConnectionFails (18)        ▼                     │
//!       │ │ └──┤ OpenSent ├──────────────────────────────▶ ┌────────┐              │
//!       │ │    └────┬─────┘                                │ Active ├──────────────┘
//!       │ │         │ BGPOpen (19): send KEEPALIVE         └────────┘
//!       │ │         ▼
//!       │ │    ┌─────────────┐
//!       │ └────┤ OpenConfirm │
//!       │      └────┬────────┘
//!       │           │ KeepAliveMsg (26): send routes
//!       │           ▼
//!       │      ┌─────────────┐ ──┐ KeepAliveMsg (26), UpdateMsg (27): restart the HoldTimer
//!       └──────┤ Established │   │ KeepaliveTimer_Expires (11): send KEEPALIVE
//!              └─────────────┘ ◀─┘
//! ```
//!
//! Transitions to Idle from OpenSent, OpenConfirm and Established:
//!
//! | event | action |
//! |---|---|
//! | HoldTimer_Expires (10), SendHoldTimer_Expires (29, RFC 9687) | send NOTIFICATION 4/0 or 8/0, back off |
//! | BGPHeaderErr (21), BGPOpenMsgErr (22), UpdateMsgErr (28) | send NOTIFICATION, back off |
//! | a message that the state does not permit (RFC 6608) | send NOTIFICATION 5/1 to 5/3, back off |
//! | NotifMsgVerErr (24), NotifMsg (25) | close, back off |
//! | TcpConnectionFails (18), in OpenConfirm and Established | back off |
//! | ManualStop (2) | send Cease, or leave the routes to graceful restart; stay in Idle |
//!
//! New parameters ([`Session::reconfigure`]) end the connection and begin the next one in one step, with or
//! without the routes at the peer.
//!
//! After a NOTIFICATION 2/4, the next OPEN has no capabilities ([`open::Capabilities`]).
//!
//! BFD may keep the session in Idle without a timer ([`super::bfd`]).
//!
//! In Connect and Active, ManualStop cancels the attempt and stays in Idle. In Established, ManualStop first
//! asks the peer to prefer other paths, if it has a drain time, and then withdraws all routes: the session
//! remains in Established until they are sent or [`WITHDRAW_TIME`] is over.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::family_status::ReceivedRoutes;
use super::next_hop::RouteNextHop;
use super::open::{Capabilities, RestartState};
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionEvent, SessionInput, SessionState, open};
use crate::message::notification::code;
use crate::message::open::Open;
use crate::message::route_refresh::RouteRefresh;
use crate::message::update::{AttributeError, DecodedUpdate};
use crate::message::{DecodeContext, MAX_EXTENDED_LENGTH, MAX_LENGTH, Message, MessageError, MessageType};
use crate::{CeaseSubcode, DownReason, Family, NextHops, Notification};

/// Hold time until the OPEN of the peer arrives. RFC 4271 §8.2.2 suggests 4 minutes, but a router that
/// accepts a connection sends its OPEN at once, and the end of a connection whose packets are dropped (TTL,
/// TCP-MD5) is never noticed.
const LARGE_HOLD_TIME: Duration = Duration::from_secs(20);
/// Time after which a peer without an OPEN is reported. A router sends it at once.
const OPEN_OVERDUE: Duration = Duration::from_secs(5);
/// Shortest send hold time: RFC 9687 recommends the larger of 8 minutes and twice the hold time.
const MIN_SEND_HOLD_TIME: Duration = Duration::from_secs(8 * 60);
/// Waits after the first failed attempts, in milliseconds. A router that still clears the old session with a
/// neighbor resets a new connection, as FRR does, and accepts the next one a moment later.
const FIRST_WAITS: [u64; 4] = [100, 200, 400, 800];
/// Wait after further failures, and first wait after an error of the protocol. It doubles with each failure.
/// A router that merely restarts its BGP daemon is back after about a second.
const WAIT: Duration = Duration::from_secs(1);
/// Longest wait in Idle, so that the session returns soon after the peer is repaired.
pub(super) const MAX_IDLE_HOLD: Duration = Duration::from_secs(60);
/// Longest duration of a connection attempt. Linux sends SYNs after 0, 1, 3 and 7 s; a peer that is reachable
/// answers one of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A session established for this long resets the back-off: it does not flap.
const STABLE: Duration = Duration::from_secs(60);
/// Longest time that a session being stopped waits for the peer to read the withdrawals. It suffices for a
/// busy router and is well within the termination grace period of a pod.
const WITHDRAW_TIME: Duration = Duration::from_millis(800);

impl Session {
    pub(super) fn dispatch(&mut self, now: Instant, input: SessionInput<'_>) {
        match (input, self.state) {
            (SessionInput::ManualStart, _) => self.manual_start(now),
            (SessionInput::ConnectNow, _) => self.connect_now(now),
            (SessionInput::BfdUp, _) => self.bfd_up(now),
            (SessionInput::BfdDown { reason }, _) => self.bfd_down(now, reason),
            (SessionInput::BfdReleased, _) => self.bfd_released(now),
            (SessionInput::BfdDisabled, _) => self.bfd_disabled(now),
            (SessionInput::ManualStop { subcode, text, restart, drain }, _) => {
                self.manual_stop(now, subcode, &text, restart, drain);
            }
            (
                SessionInput::Connected { remote, next_hops, .. },
                SessionState::Connect | SessionState::Active,
            ) => {
                self.connected(now, remote, next_hops);
            }
            (SessionInput::Accepted { remote, next_hops, .. }, _) => self.accepted(now, remote, next_hops),
            (SessionInput::SecondReceived(bytes), _) => self.second_received(now, bytes),
            (SessionInput::SecondClosed, _) => self.second_closed(now),
            // A connection that was not requested.
            (SessionInput::Connected { .. }, SessionState::Idle) => {
                self.events.push_back(SessionEvent::Close)
            }
            (SessionInput::ConnectFailed { reason }, SessionState::Connect) => {
                self.await_next_attempt(now, DownReason::ConnectFailed(reason));
            }
            (SessionInput::ConnectionClosed { reason }, SessionState::Connect) => {
                self.await_next_attempt(now, DownReason::ConnectFailed(reason));
            }
            // Event 18 in OpenSent leads to Active, in later states to Idle.
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
            // Late inputs of a connection that is already closed.
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
            // The timer restarts when the message is pulled.
            Timer::Keepalive => self.outbox.keepalive = true,
            Timer::Drain => self.withdraw_all(now),
            Timer::Withdraw => self.send_cease(now),
            // `transmit` looks at the timer.
            Timer::Refresh => {}
            Timer::OpenOverdue => self.open_overdue = true,
            Timer::Unconnected => self.events.push_back(SessionEvent::Unconnected),
            Timer::SecondOpen => self.second_expired(now),
            // `accepts` looks at the timer.
            Timer::NextSecond => {}
        }
    }

    // ===== Idle, Connect, Active =====

    /// Event 1: ignored in every state but Idle (RFC 4271 §8.2.2).
    fn manual_start(&mut self, now: Instant) {
        if !self.started && self.state == SessionState::Idle {
            self.started = true;
            self.failures = 0;
            self.connect(now);
        }
    }

    /// Event 2: ManualStop.
    fn manual_stop(
        &mut self,
        now: Instant,
        subcode: CeaseSubcode,
        text: &str,
        restart: bool,
        drain: Duration,
    ) {
        if !std::mem::take(&mut self.started) {
            return;
        }
        self.end_second(now, Some(Notification::cease(subcode, text)));
        match self.state {
            SessionState::Idle | SessionState::Active => {}
            SessionState::Connect => self.events.push_back(SessionEvent::Close),
            SessionState::OpenSent | SessionState::OpenConfirm => {
                self.outbox.notification = Some(self.final_cease(subcode, text));
                self.events.push_back(SessionEvent::Close);
            }
            // RFC 4724 §4.2: the peer retains the routes if the connection closes without a NOTIFICATION.
            SessionState::Established if restart && self.has_graceful_restart() => {
                self.outbox = SessionOutbox::default();
                self.events.push_back(SessionEvent::CloseForRestart);
            }
            SessionState::Established => {
                self.cease = Some(self.final_cease(subcode, text));
                if drain.is_zero() || self.announced() == 0 {
                    return self.withdraw_all(now);
                }
                self.resend_routes();
                return self.timers.start(Timer::Drain, now, drain);
            }
        }
        self.down(now, SessionState::Idle, DownReason::Stopped);
    }

    /// Returns a Cease after which the peer retains no routes (RFC 8538 §3).
    pub(super) fn final_cease(&self, subcode: CeaseSubcode, text: &str) -> Notification {
        let cease = Notification::cease(subcode, text);
        match &self.negotiated {
            Some(negotiated) if negotiated.graceful_notification => cease.into_hard_reset(),
            _ => cease,
        }
    }

    /// Returns whether both sides offered graceful restart on this session.
    pub(super) fn has_graceful_restart(&self) -> bool {
        self.config.graceful_restart.is_some()
            && self.negotiated.as_ref().is_some_and(|negotiated| negotiated.graceful_restart.is_some())
    }

    /// Queues the withdrawal of every route that the peer has. The Cease follows when the withdrawals are
    /// sent.
    fn withdraw_all(&mut self, now: Instant) {
        self.refresh.clear();
        self.timers.stop_all();
        self.timers.start(Timer::Withdraw, now, WITHDRAW_TIME);
        let Some(negotiated) = &self.negotiated else { return };
        for family in &negotiated.families {
            self.rib.table_mut(*family).set_blocked(true);
        }
    }

    /// Ends a session that is being stopped: its withdrawals are sent, or [`WITHDRAW_TIME`] is over.
    pub(super) fn send_cease(&mut self, now: Instant) {
        self.outbox.notification = self.cease.take();
        self.events.push_back(SessionEvent::Close);
        self.down(now, SessionState::Idle, DownReason::Stopped);
    }

    /// Expires the ConnectRetryTimer (9) or the IdleHoldTimer (13) early. The next failure backs off from the
    /// beginning.
    pub(super) fn connect_now(&mut self, now: Instant) {
        match self.state {
            SessionState::Connect => self.events.push_back(SessionEvent::Close),
            SessionState::Active => {}
            SessionState::Idle if self.started => {}
            _ => return,
        }
        self.timers.stop_all();
        self.failures = 0;
        self.connect(now);
    }

    /// Begins a connection attempt, or to wait for a connection of the peer. While the session waits for BFD,
    /// it stays in Idle.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.bfd.waits() {
            self.state = SessionState::Idle;
            return;
        }
        if self.config.passive {
            return self.listen(now);
        }
        self.state = SessionState::Connect;
        self.timers.start(Timer::ConnectRetry, now, CONNECT_TIMEOUT);
        self.events.push_back(SessionEvent::Connect);
    }

    /// Moves to Active: there is no connection, and the peer did not violate the protocol.
    fn await_next_attempt(&mut self, now: Instant, reason: DownReason) {
        self.outbox = SessionOutbox::default();
        self.down(now, SessionState::Active, reason);
        let wait = self.back_off(self.config.connect_retry);
        self.timers.start(Timer::ConnectRetry, now, wait);
    }

    /// Moves to Idle after an error, and backs off.
    fn idle(&mut self, now: Instant, reason: DownReason) {
        if self.cease.take().is_some() {
            return self.down(now, SessionState::Idle, DownReason::Stopped);
        }
        self.down(now, SessionState::Idle, reason);
        // The same error is likely at once: no short waits.
        self.failures = self.failures.max(FIRST_WAITS.len());
        let wait = self.back_off(self.longest_idle_hold());
        self.timers.start(Timer::IdleHold, now, wait);
    }

    /// Closes the connection with a NOTIFICATION, and backs off in Idle.
    fn close(&mut self, now: Instant, notification: Notification, reason: DownReason) {
        self.outbox.notification = Some(notification);
        self.events.push_back(SessionEvent::Close);
        self.idle(now, reason);
    }

    pub(super) fn down(&mut self, now: Instant, to: SessionState, reason: DownReason) {
        let from = std::mem::replace(&mut self.state, to);
        self.timers.stop_all();
        self.send_blocked = false;
        self.open_overdue = false;
        self.negotiated = None;
        self.remote = None;
        self.refresh.clear();
        self.outbox.keepalive = false;
        if let Some(since) = self.established_since.take() {
            self.statistics.dropped += 1;
            Family::ALL.into_iter().for_each(|family| self.rib.table_mut(family).down());
            if now.saturating_duration_since(since) >= STABLE {
                self.failures = 0;
            }
        }
        self.events.push_back(SessionEvent::Down { from, reason });
    }

    /// Counts a failure and returns the wait before the next attempt: exponential with jitter, at most
    /// `longest`.
    fn back_off(&mut self, longest: Duration) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        let doubled = || WAIT * (1 << (failures - FIRST_WAITS.len()).min(16));
        let wait = FIRST_WAITS.get(failures).map_or_else(doubled, |wait| Duration::from_millis(*wait));
        self.jitter.apply(wait.min(longest.max(WAIT)))
    }

    // ===== OpenSent and after =====

    /// Events 16 and 17: Tcp_CR_Acked, TcpConnectionConfirmed.
    pub(super) fn connected(&mut self, now: Instant, remote: SocketAddr, next_hops: NextHops) {
        let (capabilities, remote) = (self.next_capabilities, remote.ip());
        let open = self.open_for(now, capabilities, remote, next_hops);
        self.framer.reset();
        let outbox = SessionOutbox { open: Some(open), ..SessionOutbox::default() };
        self.open_sent(now, remote, next_hops, capabilities, outbox);
    }

    /// Returns our OPEN for a connection.
    pub(super) fn open_for(
        &self,
        now: Instant,
        capabilities: Capabilities,
        remote: IpAddr,
        next_hops: NextHops,
    ) -> Open {
        let restart = RestartState::new(&self.config, next_hops, self.is_restarting(now));
        open::local_open(&self.config, capabilities, remote, restart)
    }

    /// Moves to OpenSent on a connection. `outbox` contains our OPEN unless it was sent.
    pub(super) fn open_sent(
        &mut self,
        now: Instant,
        remote: IpAddr,
        next_hops: NextHops,
        capabilities: Capabilities,
        outbox: SessionOutbox,
    ) {
        self.state = SessionState::OpenSent;
        self.remote = Some(remote);
        self.next_hops = next_hops;
        self.capabilities = capabilities;
        self.outbox = outbox;
        self.send_blocked = false;
        self.open_overdue = false;
        self.timers.stop_all();
        self.timers.start(Timer::Hold, now, LARGE_HOLD_TIME);
        self.timers.start(Timer::OpenOverdue, now, OPEN_OVERDUE);
    }

    /// Returns whether the peer may retain the routes of an earlier session (RFC 4724 §4.1): that of this
    /// process before its restart, or that of this session before its parameters changed.
    fn is_restarting(&self, now: Instant) -> bool {
        let process = self.config.restarting_until.filter(|_| self.statistics.established == 0);
        [process, self.retained_until].into_iter().flatten().any(|until| now < until)
    }

    pub(super) fn received(&mut self, now: Instant, mut bytes: &[u8]) {
        let mut framer = std::mem::take(&mut self.framer);
        let (octets, mut messages) = (bytes.len(), 0);
        while self.state >= SessionState::OpenSent {
            // RFC 8654 §4: our OPEN offers extended messages, so the peer may use them once it has our OPEN.
            let limit = if self.state == SessionState::OpenSent { MAX_LENGTH } else { MAX_EXTENDED_LENGTH };
            let message = match framer.next(&mut bytes, limit) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    messages += 1;
                    Message::decode(frame, self.context())
                }
                Err(error) => Err(error),
            };
            match message {
                Ok(message) => self.message(now, message),
                Err(error) => self.protocol_error(now, error),
            }
        }
        self.framer = framer;
        self.receive_rate.handle_received(now, octets, messages);
        self.statistics.octets_received += octets as u64;
        self.statistics.messages_received += messages;
    }

    fn context(&self) -> DecodeContext {
        let negotiated = self.negotiated.as_ref();
        DecodeContext {
            four_octet_as: negotiated.is_some_and(|negotiated| negotiated.four_octet_as),
            ebgp: negotiated.is_some_and(|negotiated| negotiated.ebgp),
            enhanced_route_refresh: negotiated.is_some_and(|negotiated| negotiated.enhanced_route_refresh),
        }
    }

    fn message(&mut self, now: Instant, message: Message) {
        match &message {
            Message::Open(_) => self.statistics.opens_received += 1,
            Message::Keepalive => self.statistics.keepalives_received += 1,
            Message::RouteRefresh(_) => self.statistics.route_refreshes_received += 1,
            // Counted where their contents are handled.
            Message::Update(_) | Message::Notification(_) => {}
        }
        match (message, self.state) {
            (Message::Notification(notification), _) => {
                self.statistics.notifications_received += 1;
                if self.state < SessionState::Established {
                    self.next_capabilities = self.capabilities.after_refusal(&notification, &self.config);
                }
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
                self.count_update(now, &decoded);
            }
            (Message::RouteRefresh(refresh), SessionState::Established) => {
                self.restart_hold_timer(now);
                // The marks of RFC 7313 concern routes that the peer sends, which the session discards. A
                // session that is being stopped only withdraws.
                let is_request = refresh.subtype == RouteRefresh::REQUEST && !self.withdraws();
                let family = Family::from_codes(refresh.afi, refresh.safi).filter(|_| is_request);
                let carried = |family: &Family| {
                    self.negotiated.as_ref().is_some_and(|negotiated| negotiated.families.contains(family))
                };
                self.refresh.extend(family.filter(carried));
            }
            (message, state) => self.protocol_error(now, unexpected(message.kind(), state)),
        }
    }

    /// Event 19: BGPOpen.
    pub(super) fn open_received(&mut self, now: Instant, open: &Open) {
        let Some(remote) = self.remote else { return };
        self.timers.stop(Timer::OpenOverdue);
        self.open_overdue = false;
        self.next_capabilities = self.capabilities.after_open(open);
        match open::negotiate(&self.config, self.capabilities, remote, open) {
            Ok(negotiated) => {
                self.state = SessionState::OpenConfirm;
                self.outbox.keepalive = true;
                self.timers.start(Timer::Hold, now, negotiated.hold_time);
                self.negotiated = Some(negotiated);
            }
            Err(error) => self.protocol_error(now, error),
        }
    }

    /// Event 26 in OpenConfirm: KeepAliveMsg.
    fn established(&mut self, now: Instant) {
        let Some(negotiated) = self.negotiated.clone() else { return };
        self.state = SessionState::Established;
        self.established_since = Some(now);
        self.retained_until = None;
        self.statistics.established += 1;
        self.received = ReceivedRoutes::default();
        self.first_malformed = None;
        self.restart_hold_timer(now);
        for family in &negotiated.families {
            let blocked = RouteNextHop::select(*family, self.next_hops, &negotiated).is_none();
            self.rib.table_mut(*family).open(blocked);
        }
        self.events.push_back(SessionEvent::Established(negotiated));
    }

    /// Event 27: UpdateMsg. The routes are counted and dropped.
    fn count_update(&mut self, now: Instant, decoded: &DecodedUpdate) {
        let DecodedUpdate { update, errors } = decoded;
        let attributes = &update.attributes;
        let reached = attributes.mp_reach.as_ref().map_or(0, |reach| reach.nlri.len());
        self.received.handle_withdrawn(now, &update.withdrawn);
        if let Some(unreach) = &attributes.mp_unreach {
            self.received.handle_withdrawn(now, &unreach.withdrawn);
        }
        self.received.handle_announced(now, Family::Ipv4Unicast, &update.nlri);
        if let Some(reach) = &attributes.mp_reach {
            self.received.handle_announced(now, reach.family, &reach.nlri);
        }
        if let Some(family) = decoded.end_of_rib() {
            self.received.handle_end_of_rib(family);
        }
        self.statistics.updates_received += 1;
        self.statistics.prefixes_received += (update.nlri.len() + reached) as u64;
        if !errors.is_empty() {
            self.statistics.updates_malformed += 1;
            let error = errors.iter().rfind(|error| !matches!(error, AttributeError::Discard(_)));
            if let (Some(error), None) = (error, &self.first_malformed) {
                self.first_malformed = Some(error.to_string());
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
            let interval = self.jitter.apply(negotiated.keepalive_time);
            self.timers.start(Timer::Keepalive, now, interval);
        }
    }

    /// Starts the SendHoldTimer if messages are pending and it does not run: it measures how long the peer
    /// reads nothing (RFC 9687). The check runs after every input and timer. Without a hold time there are
    /// no keepalive timers, so the SendHoldTimer may start late.
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

/// Returns the error for a message that the state does not permit, with the subcodes of RFC 6608 §3.
pub(super) fn unexpected(kind: MessageType, state: SessionState) -> MessageError {
    let subcode = match state {
        SessionState::OpenSent => 1,
        SessionState::OpenConfirm => 2,
        SessionState::Established => 3,
        SessionState::Idle | SessionState::Connect | SessionState::Active => 0,
    };
    MessageError::new(code::FSM, subcode, [kind as u8], format!("unexpected {kind} message in state {state}"))
}
