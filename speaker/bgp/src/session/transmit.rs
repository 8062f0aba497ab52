//! Selection of the next message to send: messages of the FSM first, then the difference of the Adj-RIB-Out.

use std::time::{Duration, Instant};

use super::advertise::{RouteSender, encode_next_update};
use super::next_hop::RouteNextHop;
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionState};
use crate::Family;
use crate::message::update::Update;
use crate::message::{MAX_EXTENDED_LENGTH, MAX_LENGTH, encode_keepalive};

/// Shortest time between two responses to route refreshes. A request costs the peer 23 octets, and the
/// response costs this speaker all routes.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// Appends messages until `max` octets or more are appended. Returns whether anything was appended.
    pub(super) fn transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.start_refresh(now);
        while out.len() - start < max.max(1) && self.next_message(now, out) {}
        let sent = out.len() > start;
        if sent {
            self.timers.stop(Timer::SendHold);
            self.send_blocked = false;
        }
        sent
    }

    /// Returns whether [`Session::transmit`] would append anything.
    pub(super) fn has_pending(&self) -> bool {
        !self.outbox.is_empty()
            || (!self.refresh.is_empty() && !self.timers.is_running(Timer::Refresh))
            || (self.state == SessionState::Established
                && Family::ALL.into_iter().any(|family| self.rib.table(family).has_pending()))
    }

    /// Queues the routes of the families with a pending route refresh. A family with routes that wait to be
    /// sent waits too: if every request began the table again, its end would never be sent.
    fn start_refresh(&mut self, now: Instant) {
        if self.timers.is_running(Timer::Refresh) {
            return;
        }
        for family in Family::ALL {
            if !self.rib.table(family).has_pending() && self.refresh.remove(&family) {
                self.rib.table_mut(family).resend();
                self.timers.start(Timer::Refresh, now, REFRESH_INTERVAL);
            }
        }
    }

    fn next_message(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if let Some(open) = self.outbox.open.take() {
            open.encode(out);
        } else if let Some(notification) = self.outbox.notification.take() {
            notification.encode(out);
            self.statistics.notifications_sent += 1;
            // A NOTIFICATION is the last message of a connection (RFC 4271 §4.5).
            self.outbox = SessionOutbox::default();
        } else if std::mem::take(&mut self.outbox.keepalive) {
            encode_keepalive(out);
            self.restart_keepalive_timer(now);
        } else if self.state == SessionState::Established && self.next_update(out) {
            self.statistics.updates_sent += 1;
            self.restart_keepalive_timer(now);
        } else {
            return false;
        }
        true
    }

    fn next_update(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(negotiated) = &self.negotiated else { return false };
        let sender = RouteSender {
            asn: self.config.local_asn,
            router_id: self.config.router_id,
            graceful_shutdown: self.graceful_shutdown || self.timers.is_running(Timer::Drain),
        };
        for family in Family::ALL {
            let table = self.rib.table_mut(family);
            if !table.has_pending() {
                continue;
            }
            let next_hop = RouteNextHop::select(family, self.next_hops, negotiated);
            let limit = if negotiated.extended_messages { MAX_EXTENDED_LENGTH } else { MAX_LENGTH };
            if encode_next_update(table, family, next_hop, sender, negotiated, limit, out) {
                return true;
            }
            if table.take_end_of_rib() {
                Update::end_of_rib(family).encode(negotiated.four_octet_as, out);
                return true;
            }
        }
        false
    }
}
