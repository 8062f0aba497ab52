//! The connections that a passive session accepts, and their collisions (RFC 4271 §6.8, RFC 4724 §4.2).
//!
//! A passive session never connects. It has one connection, and while the peer has opened another one, a
//! second connection that waits for the OPEN of the peer. That OPEN decides which of the two remains:
//!
//! | state of the session | result |
//! |---|---|
//! | OpenSent | the connection with the OPEN becomes the first one, and the other one waits for its OPEN |
//! | OpenConfirm | the second one if the identifier of the peer is the higher one, else the first one; Cease 6/7 closes the other one |
//! | Established | the first one, and Cease 6/7 closes the second one |
//! | Established, and the peer offers graceful restart | the second one: the peer has restarted; the first one is closed without a NOTIFICATION |
//!
//! RFC 4724 §5 replaces an established connection as soon as the new one is accepted. This session waits for
//! a valid OPEN on it, so that a process which only opens a connection ends no session.
//!
//! If the first connection ends, the second one takes its place when the session accepts a connection again.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::open::{self, Capabilities};
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionEvent, SessionState};
use crate::message::framer::Framer;
use crate::message::notification::code;
use crate::message::open::Open;
use crate::message::{DecodeContext, MAX_LENGTH, Message, MessageError};
use crate::{CeaseSubcode, DownReason, NextHops, Notification};

/// Time after which a session without a connection is reported ([`SessionEvent::Unconnected`]). A router that
/// restarts, or whose link returns, connects sooner if its retry time is short.
const UNCONNECTED: Duration = Duration::from_secs(15);
/// Longest wait for the OPEN of the peer on the second connection. A router sends it at once.
const SECOND_OPEN: Duration = Duration::from_secs(5);
/// Shortest time between the end of a second connection and the next one. A router that opens connections all
/// the time costs no more.
const NEXT_SECOND: Duration = Duration::from_secs(1);

/// Before the OPENs are exchanged, nothing is negotiated.
const BEFORE_OPEN: DecodeContext =
    DecodeContext { four_octet_as: false, ebgp: false, enhanced_route_refresh: false };

/// A connection in OpenSent, in addition to that of the session.
#[derive(Debug)]
pub(super) struct SecondConnection {
    remote: IpAddr,
    next_hops: NextHops,
    /// Those of our OPEN on this connection.
    capabilities: Capabilities,
    framer: Framer,
}

impl Session {
    /// Returns whether the session takes a connection of the peer ([`crate::SessionInput::Accepted`]). If it
    /// does not, but [`Session::is_listening`], it will: let the connection wait.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.is_listening()
            && match self.state {
                SessionState::Idle | SessionState::Connect => false,
                // While the timer runs, the session backs off.
                SessionState::Active => !self.timers.is_running(Timer::ConnectRetry),
                SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established => {
                    self.second.is_none() && !self.timers.is_running(Timer::NextSecond)
                }
            }
    }

    /// Returns whether the session is passive, started and not being stopped.
    #[must_use]
    pub const fn is_listening(&self) -> bool {
        self.config.passive && self.started
    }

    /// Returns whether the session takes octets of the second connection
    /// ([`crate::SessionInput::SecondReceived`]).
    #[must_use]
    pub fn reads_second(&self) -> bool {
        self.second.is_some() && self.state >= SessionState::OpenSent
    }

    /// Appends the messages for the second connection, as [`Session::poll_transmit`] does for the first one.
    /// Returns whether anything was appended.
    pub fn poll_transmit_second(&mut self, out: &mut Vec<u8>) -> bool {
        let SessionOutbox { open, keepalive: _, notification } = std::mem::take(&mut self.second_outbox);
        let any = open.is_some() || notification.is_some();
        if let Some(open) = open {
            open.encode(out);
            self.statistics.opens_sent += 1;
            self.statistics.messages_sent += 1;
        }
        if let Some(notification) = notification {
            notification.encode(out);
            self.statistics.notifications_sent += 1;
            self.statistics.messages_sent += 1;
        }
        any
    }

    /// Begins to wait for a connection of the peer, or continues with the one that it has opened already.
    pub(super) fn listen(&mut self, now: Instant) {
        self.state = SessionState::Active;
        if !self.take_second(now) {
            self.timers.start(Timer::Unconnected, now, UNCONNECTED);
        }
    }

    /// Event 17: TcpConnectionConfirmed. The peer has opened a connection.
    pub(super) fn accepted(&mut self, now: Instant, remote: SocketAddr, next_hops: NextHops) {
        if !self.accepts() {
            return;
        }
        if self.state == SessionState::Active {
            return self.connected(now, remote, next_hops);
        }
        let (capabilities, remote) = (self.next_capabilities, remote.ip());
        let open = self.open_for(now, capabilities, remote, next_hops);
        self.second = Some(SecondConnection { remote, next_hops, capabilities, framer: Framer::default() });
        self.second_outbox = SessionOutbox { open: Some(open), ..SessionOutbox::default() };
        self.timers.start(Timer::SecondOpen, now, SECOND_OPEN);
    }

    /// Handles octets of the second connection.
    pub(super) fn second_received(&mut self, now: Instant, mut bytes: &[u8]) {
        let octets = bytes.len();
        let Some(second) = self.second.as_mut().filter(|_| self.state >= SessionState::OpenSent) else {
            return;
        };
        let message = match second.framer.next(&mut bytes, MAX_LENGTH) {
            Ok(None) => None,
            Ok(Some(frame)) => Some(Message::decode(frame, BEFORE_OPEN)),
            Err(error) => Some(Err(error)),
        };
        let handled = octets - bytes.len();
        self.receive_rate.handle_received(now, handled, message.is_some().into());
        self.statistics.octets_received += handled as u64;
        let Some(message) = message else { return };
        self.statistics.messages_received += 1;
        match message {
            Ok(Message::Open(open)) => {
                self.statistics.opens_received += 1;
                if self.second_open(now, &open) {
                    // The peer may have sent its KEEPALIVE with the OPEN.
                    self.received(now, bytes);
                }
            }
            Ok(Message::Notification(_)) => {
                self.statistics.notifications_received += 1;
                self.end_second(now, None);
            }
            Ok(message) => {
                let unexpected = super::fsm::unexpected(message.kind(), SessionState::OpenSent);
                self.end_second(now, Some(unexpected.notification));
            }
            Err(MessageError { notification, .. }) => self.end_second(now, Some(notification)),
        }
    }

    /// Handles the end of the second connection.
    pub(super) fn second_closed(&mut self, now: Instant) {
        self.second = None;
        self.second_outbox = SessionOutbox::default();
        self.timers.stop(Timer::SecondOpen);
        self.timers.start(Timer::NextSecond, now, NEXT_SECOND);
    }

    /// Closes the second connection, if there is one.
    pub(super) fn end_second(&mut self, now: Instant, notification: Option<Notification>) {
        if self.second.is_some() {
            self.second_closed(now);
            self.close_second(notification);
        }
    }

    /// Handles that the peer sent no OPEN on the second connection in time.
    pub(super) fn second_expired(&mut self, now: Instant) {
        let notification = Notification { code: code::HOLD_TIMER_EXPIRED, subcode: 0, data: Vec::new() };
        self.end_second(now, Some(notification));
    }

    /// Event 19 on the second connection: decides which connection remains. Returns whether the second one
    /// has become the first one.
    fn second_open(&mut self, now: Instant, open: &Open) -> bool {
        let Some(SecondConnection { remote, capabilities, .. }) = self.second else { return false };
        let theirs = match open::negotiate(&self.config, capabilities, remote, open) {
            Ok(negotiated) => negotiated,
            Err(MessageError { notification, .. }) => {
                self.end_second(now, Some(notification));
                return false;
            }
        };
        let collision = || Notification::cease(CeaseSubcode::ConnectionCollisionResolution, "");
        match self.state {
            SessionState::OpenSent => {
                let first = self.remote.map(|remote| SecondConnection {
                    remote,
                    next_hops: self.next_hops,
                    capabilities: self.capabilities,
                    framer: std::mem::take(&mut self.framer),
                });
                let outbox = std::mem::take(&mut self.outbox);
                self.take_second(now);
                self.second = first;
                self.second_outbox = outbox;
                self.timers.start(Timer::SecondOpen, now, SECOND_OPEN);
            }
            // RFC 6286 §2.3: of equal identifiers, the AS numbers decide.
            SessionState::OpenConfirm
                if (self.config.router_id, self.config.local_asn)
                    < (theirs.peer_router_id, theirs.peer_asn) =>
            {
                self.negotiated = None;
                self.take_second(now);
                self.close_second(Some(collision()));
            }
            SessionState::Established
                if self.negotiated.as_ref().is_some_and(|peer| peer.graceful_restart.is_some()) =>
            {
                self.down(now, SessionState::Idle, DownReason::Replaced);
                self.take_second(now);
                self.close_second(None);
            }
            _ => {
                self.end_second(now, Some(collision()));
                return false;
            }
        }
        self.open_received(now, open);
        true
    }

    /// Replaces the first connection with the second one, which is in OpenSent. Returns false if there is
    /// none.
    fn take_second(&mut self, now: Instant) -> bool {
        let Some(second) = self.second.take() else { return false };
        let SecondConnection { remote, next_hops, capabilities, framer } = second;
        self.events.push_back(SessionEvent::SwitchConnections);
        self.framer = framer;
        let outbox = std::mem::take(&mut self.second_outbox);
        self.open_sent(now, remote, next_hops, capabilities, outbox);
        true
    }

    /// Lets the shell close the connection that is now the second one.
    fn close_second(&mut self, notification: Option<Notification>) {
        self.second_outbox = SessionOutbox { notification, ..SessionOutbox::default() };
        self.events.push_back(SessionEvent::CloseSecond);
    }
}
