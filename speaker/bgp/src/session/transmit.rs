//! Selection of the next message to send: messages of the FSM first, then the difference of the Adj-RIB-Out,
//! one queue after the other ([`crate::rib`]).

use std::time::{Duration, Instant};

use super::advertise::{RouteSender, UpdateEncoder};
use super::next_hop::RouteNextHop;
use super::outbox::SessionOutbox;
use super::timers::Timer;
use super::{Session, SessionState};
use crate::Family;
use crate::message::route_refresh::RouteRefresh;
use crate::message::update::Update;
use crate::message::{MessageType, encode_keepalive};
use crate::rib::Announcements;

/// Shortest time between two responses to route refreshes. A request costs the peer 23 octets, and the
/// response costs this speaker all routes.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Most messages about other routes between two messages of a route refresh. Without a limit, a refresh would
/// never end while routes change as fast as the peer reads.
const MAX_OVERTAKING: u32 = 16;

impl Session {
    /// Appends messages until `max` octets or more are appended. Returns whether anything was appended.
    pub(super) fn transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.start_refresh(now, out);
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

    /// Queues the routes of the families with a pending route refresh. Requests that arrive during a refresh
    /// are answered by one more refresh after it. If each request began the refresh again, frequent requests
    /// would keep the session from its end.
    ///
    /// A peer with enhanced route refresh gets the mark of the beginning now, before any route (RFC 7313
    /// §4.1). At the mark of the end, the peer deletes the routes that it did not receive in between.
    fn start_refresh(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(negotiated) = &self.negotiated else { return };
        if self.timers.is_running(Timer::Refresh) {
            return;
        }
        for family in Family::ALL {
            let table = self.rib.table_mut(family);
            if table.can_refresh() && self.refresh.remove(&family) {
                table.begin_refresh(negotiated.enhanced_route_refresh);
                self.overtaking = 0;
                if negotiated.enhanced_route_refresh {
                    RouteRefresh::begin(family).encode(out);
                    self.statistics.messages_sent += 1;
                }
                self.timers.start(Timer::Refresh, now, REFRESH_INTERVAL);
            }
        }
    }

    fn next_message(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if let Some(open) = self.outbox.open.take() {
            open.encode(out);
            self.statistics.opens_sent += 1;
        } else if let Some(notification) = self.outbox.notification.take() {
            notification.encode(out);
            self.statistics.notifications_sent += 1;
            // A NOTIFICATION is the last message of a connection (RFC 4271 §4.5).
            self.outbox = SessionOutbox::default();
        } else if std::mem::take(&mut self.outbox.keepalive) {
            encode_keepalive(out);
            self.statistics.keepalives_sent += 1;
            self.restart_keepalive_timer(now);
        } else if self.state == SessionState::Established {
            if !self.next_route_message(now, out) {
                return false;
            }
        } else {
            return false;
        }
        self.statistics.messages_sent += 1;
        true
    }

    fn next_route_message(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let Some(negotiated) = &self.negotiated else { return false };
        let sender = RouteSender {
            asn: self.config.local_asn,
            router_id: self.config.router_id,
            graceful_shutdown: self.graceful_shutdown || self.timers.is_running(Timer::Drain),
        };
        let next_hop = |family| RouteNextHop::select(family, self.next_hops, negotiated);
        let mut encode = |(queue, family)| {
            let table = self.rib.table_mut(family);
            let encoder = UpdateEncoder { family, next_hop: next_hop(family), sender, negotiated };
            match queue {
                Queue::Changed if encoder.announce(table, Announcements::Changed, out) => {}
                Queue::Changed if table.take_end_of_rib() => {
                    Update::end_of_rib(family).encode(negotiated.four_octet_as, out)
                }
                Queue::Withdrawn if encoder.withdraw(table, out) => {}
                Queue::Repeated if encoder.announce(table, Announcements::Repeated, out) => {}
                Queue::Repeated if table.take_end_of_refresh() => {
                    RouteRefresh::end(family).encode(out);
                    return Some((queue, MessageType::RouteRefresh));
                }
                _ => return None,
            }
            Some((queue, MessageType::Update))
        };
        let queues = if self.overtaking < MAX_OVERTAKING { Queue::ALL } else { Queue::REPEATED_FIRST };
        let mut order = queues.into_iter().flat_map(|queue| Family::ALL.map(|family| (queue, family)));
        let Some((queue, kind)) = order.find_map(&mut encode) else { return false };
        self.overtaking = match queue {
            Queue::Changed | Queue::Withdrawn => self.overtaking.saturating_add(1),
            Queue::Repeated => 0,
        };
        self.statistics.updates_sent += u64::from(kind == MessageType::Update);
        self.restart_keepalive_timer(now);
        true
    }
}

/// Messages about routes. Those of one queue are sent for both families before those of the next queue.
#[derive(Clone, Copy, Debug)]
enum Queue {
    /// New and changed routes, and the End-of-RIB marker.
    Changed,
    /// Withdrawals.
    Withdrawn,
    /// Repeated routes, and the end of the route refresh.
    Repeated,
}

impl Queue {
    const ALL: [Self; 3] = [Self::Changed, Self::Withdrawn, Self::Repeated];
    /// The order after [`MAX_OVERTAKING`] messages of the other queues.
    const REPEATED_FIRST: [Self; 3] = [Self::Repeated, Self::Changed, Self::Withdrawn];
}
