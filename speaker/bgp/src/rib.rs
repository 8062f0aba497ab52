//! Adj-RIB-Out (RFC 4271 §3.2): the routes that the peer should have, the routes that it has, and the
//! difference.
//!
//! A prefix waits in at most one of three queues, which are sent in this order:
//!
//! 1. Announcements of routes that are new or changed, less specific ones first.
//! 2. Withdrawals. The routes that replace a withdrawn one are announced by then, so an address that is
//!    covered before and after a change is covered in between too.
//! 3. Repetitions of routes that the peer has already, because it requested a route refresh. Requests of the
//!    peer, however many, delay other routes by one message in 17: one repetition follows 16 messages of the
//!    other queues at the latest, so that a refresh ends while routes change all the time.
//!
//! If a prefix changes several times while the peer does not read, the session sends one message with the
//! latest attributes. Routes with equal attributes share an UPDATE. Announcing, withdrawing and sending cost
//! O(log n) per prefix; the whole table is walked only when a session comes up or goes down, when a next hop
//! appears, changes or disappears, and on a route refresh.

mod send_queues;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Attributes, Family};
use send_queues::{Difference, SendQueues};

/// The routes of both families.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    ipv4: RibTable,
    ipv6: RibTable,
}

/// The routes of one family.
#[derive(Debug, Default)]
pub(crate) struct RibTable {
    routes: BTreeMap<IpNet, RibEntry>,
    mode: SendMode,
    queues: SendQueues,
    /// True until the End-of-RIB marker is sent.
    end_of_rib: bool,
    /// Number of entries with [`RibEntry::repeat`]: the routes that the current route refresh has yet to
    /// send.
    refreshing: usize,
    /// True until [`RibTable::take_end_of_refresh`] has reported the end of the current route refresh.
    end_of_refresh: bool,
    /// Number of entries with [`RibEntry::desired`].
    desired: usize,
    /// Number of entries with [`RibEntry::sent`].
    sent: usize,
}

/// Messages that may be sent at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SendMode {
    /// Nothing: the session is down or does not carry the family.
    #[default]
    Down,
    /// Announcements and withdrawals.
    Open,
    /// Withdrawals only: there is no next hop for announcements, or the session is being stopped.
    Blocked,
}

/// Queue of announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcements {
    /// Routes that are new or changed.
    Changed,
    /// Routes that the peer has already.
    Repeated,
}

#[derive(Debug, Default)]
struct RibEntry {
    /// Attributes that the peer should have; `None` if it should not have the route.
    desired: Option<Arc<Attributes>>,
    /// Attributes that the peer has; `None` if it does not have the route.
    sent: Option<Arc<Attributes>>,
    /// True if the peer has the route with another next hop, or other attributes that the session adds.
    outdated: bool,
    /// True if the peer has the route, and the session has not sent it since the current route refresh began.
    repeat: bool,
    /// True while the prefix is in a queue.
    queued: bool,
}

impl RibEntry {
    /// Returns the difference to send; `None` if the peer has what it should have.
    fn difference(&self, mode: SendMode) -> Option<Difference> {
        let target = match mode {
            SendMode::Down => return None,
            SendMode::Open => self.desired.as_ref(),
            SendMode::Blocked => None,
        };
        match (target, &self.sent) {
            (None, None) => None,
            (None, Some(_)) => Some(Difference::Withdrawn),
            (Some(target), Some(sent)) if target == sent && !self.outdated => {
                self.repeat.then(|| Difference::Repeated(target.clone()))
            }
            (Some(target), _) => Some(Difference::Changed(target.clone())),
        }
    }

    /// Records that the peer has what it should have.
    fn mark_current(&mut self, refreshing: &mut usize) {
        self.queued = false;
        self.outdated = false;
        *refreshing -= usize::from(std::mem::take(&mut self.repeat));
    }
}

impl AdjRibOut {
    pub(crate) const fn table(&self, family: Family) -> &RibTable {
        match family {
            Family::Ipv4Unicast => &self.ipv4,
            Family::Ipv6Unicast => &self.ipv6,
        }
    }

    pub(crate) const fn table_mut(&mut self, family: Family) -> &mut RibTable {
        match family {
            Family::Ipv4Unicast => &mut self.ipv4,
            Family::Ipv6Unicast => &mut self.ipv6,
        }
    }
}

impl RibTable {
    // ===== the routes that the peer should have =====

    pub(crate) fn announce(&mut self, prefix: IpNet, attributes: Arc<Attributes>) {
        let route = self.routes.entry(prefix).or_default();
        if route.desired.as_ref() == Some(&attributes) {
            return;
        }
        self.unqueue(prefix);
        if let Some(route) = self.routes.get_mut(&prefix) {
            self.desired += usize::from(route.desired.replace(attributes).is_none());
        }
        self.queue(prefix);
    }

    pub(crate) fn withdraw(&mut self, prefix: &IpNet) {
        if self.routes.get(prefix).is_none_or(|route| route.desired.is_none()) {
            return;
        }
        self.unqueue(*prefix);
        if let Some(route) = self.routes.get_mut(prefix) {
            route.desired = None;
            self.desired -= 1;
        }
        self.queue(*prefix);
    }

    // ===== session changes =====

    /// Starts with an empty table at the peer: the session is established. `blocked` is as in
    /// [`RibTable::set_blocked`].
    pub(crate) fn open(&mut self, blocked: bool) {
        self.down();
        self.end_of_rib = true;
        self.set_blocked(blocked);
    }

    /// Permits announcements, or with `blocked` only withdrawals: then every route that the peer has is
    /// withdrawn.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.mode = if blocked { SendMode::Blocked } else { SendMode::Open };
        self.requeue_all();
    }

    /// Queues all routes that the peer has as changed: their next hop, or an attribute that the session adds,
    /// has changed.
    pub(crate) fn mark_outdated(&mut self) {
        self.routes.values_mut().for_each(|route| route.outdated = route.sent.is_some());
        self.requeue_all();
    }

    /// Returns whether a route refresh may begin: the initial routes are sent (RFC 7313 §4.1), and the
    /// previous one has ended.
    pub(crate) const fn can_refresh(&self) -> bool {
        self.is_end_of_rib_sent() && self.refreshing == 0 && !self.end_of_refresh
    }

    /// Queues all routes that the peer has once more: it requested a route refresh. With `marked`,
    /// [`RibTable::take_end_of_refresh`] reports the end.
    pub(crate) fn begin_refresh(&mut self, marked: bool) {
        self.routes.values_mut().for_each(|route| route.repeat = route.sent.is_some());
        self.refreshing = self.sent;
        self.end_of_refresh = marked;
        self.requeue_all();
    }

    /// Stops sending: the session is down, and the peer has deleted all routes.
    pub(crate) fn down(&mut self) {
        self.mode = SendMode::Down;
        self.end_of_rib = false;
        self.end_of_refresh = false;
        self.refreshing = 0;
        self.sent = 0;
        self.routes.retain(|_, route| {
            *route = RibEntry { desired: route.desired.take(), ..RibEntry::default() };
            route.desired.is_some()
        });
        self.requeue_all();
    }

    // ===== the difference =====

    /// Returns the prefixes to withdraw.
    pub(crate) fn withdrawals(&self) -> impl Iterator<Item = &IpNet> {
        self.queues.withdrawn.iter()
    }

    /// Returns the prefixes of a queue to announce next, with the attributes that they share.
    pub(crate) fn announcements(
        &self,
        queue: Announcements,
    ) -> Option<(&Arc<Attributes>, impl Iterator<Item = &IpNet>)> {
        match queue {
            Announcements::Changed => self.queues.changed.first(),
            Announcements::Repeated => self.queues.repeated.first(),
        }
    }

    /// Marks the first `count` of [`RibTable::withdrawals`] as sent.
    pub(crate) fn mark_withdrawn(&mut self, count: usize) {
        for prefix in self.queues.pop_withdrawn(count) {
            let Some(route) = self.routes.get_mut(&prefix) else { continue };
            route.mark_current(&mut self.refreshing);
            self.sent -= usize::from(route.sent.take().is_some());
            if route.desired.is_none() {
                self.routes.remove(&prefix);
            }
        }
    }

    /// Marks the first `count` of [`RibTable::announcements`] as sent.
    pub(crate) fn mark_announced(&mut self, queue: Announcements, count: usize) {
        let prefixes = match queue {
            Announcements::Changed => self.queues.pop_changed(count),
            Announcements::Repeated => self.queues.pop_repeated(count),
        };
        for prefix in prefixes {
            let Some(route) = self.routes.get_mut(&prefix) else { continue };
            route.mark_current(&mut self.refreshing);
            self.sent += usize::from(route.sent.is_none());
            route.sent.clone_from(&route.desired);
        }
    }

    /// Returns true once, when all routes of the initial update have been sent: the End-of-RIB marker is due
    /// (RFC 4724 §2).
    pub(crate) fn take_end_of_rib(&mut self) -> bool {
        self.queues.len() == 0 && std::mem::take(&mut self.end_of_rib)
    }

    /// Returns true once, when every route that the peer had at the beginning of the route refresh has been
    /// sent again or withdrawn.
    pub(crate) fn take_end_of_refresh(&mut self) -> bool {
        self.refreshing == 0 && std::mem::take(&mut self.end_of_refresh)
    }

    /// Returns whether the End-of-RIB marker was sent on this connection.
    pub(crate) const fn is_end_of_rib_sent(&self) -> bool {
        !matches!(self.mode, SendMode::Down) && !self.end_of_rib
    }

    /// Returns whether the prefix waits to be announced or withdrawn, other than as a repetition.
    pub(crate) fn is_change_queued(&self, prefix: &IpNet) -> bool {
        let difference = self.routes.get(prefix).and_then(|route| route.difference(self.mode));
        matches!(difference, Some(Difference::Changed(_) | Difference::Withdrawn))
    }

    pub(crate) const fn has_pending(&self) -> bool {
        self.queues.len() > 0 || self.end_of_rib || self.end_of_refresh
    }

    pub(crate) const fn counts(&self) -> RibCounts {
        RibCounts { desired: self.desired, sent: self.sent, queued: self.queues.len() }
    }

    fn requeue_all(&mut self) {
        self.queues = SendQueues::default();
        for (prefix, route) in &mut self.routes {
            let difference = route.difference(self.mode);
            route.queued = difference.is_some();
            difference.into_iter().for_each(|difference| self.queues.insert(*prefix, difference));
        }
    }

    /// Queues a prefix that is in no queue if it has a difference, and deletes entries that are no longer
    /// needed.
    fn queue(&mut self, prefix: IpNet) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        match route.difference(self.mode) {
            Some(difference) => {
                route.queued = true;
                self.queues.insert(prefix, difference);
            }
            None if route.desired.is_none() && route.sent.is_none() => drop(self.routes.remove(&prefix)),
            None => {}
        }
    }

    /// Removes a prefix from its queue. Call this before the entry changes.
    fn unqueue(&mut self, prefix: IpNet) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        if std::mem::take(&mut route.queued)
            && let Some(difference) = route.difference(self.mode)
        {
            self.queues.remove(&prefix, difference);
        }
    }
}

/// Numbers of prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RibCounts {
    /// Prefixes that the peer should have.
    pub desired: usize,
    /// Prefixes that the peer has.
    pub sent: usize,
    /// Prefixes that wait to be announced or withdrawn.
    pub queued: usize,
}

impl std::ops::Add for RibCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            desired: self.desired + other.desired,
            sent: self.sent + other.sent,
            queued: self.queued + other.queued,
        }
    }
}
