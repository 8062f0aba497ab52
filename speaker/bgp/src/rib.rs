//! Adj-RIB-Out (RFC 4271 §3.2): the routes that the peer should have, the routes that it has, and the
//! difference.
//!
//! The difference is kept in buckets, one per set of attributes, because routes with equal attributes share
//! an UPDATE. A prefix is in at most one bucket: however often it changes while the peer does not read, one
//! message with its latest attributes is sent. Announcing, withdrawing and sending cost O(log n) per prefix;
//! the whole table is walked only when a session comes up or goes down, when a next hop appears or
//! disappears, and on a route refresh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Attributes, Family};

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
    /// Prefixes to announce, by attributes.
    announce: BTreeMap<Arc<Attributes>, BTreeSet<IpNet>>,
    /// Prefixes to withdraw.
    withdraw: BTreeSet<IpNet>,
    /// True until the End-of-RIB marker is sent.
    end_of_rib: bool,
    /// Number of entries with [`RibEntry::desired`].
    desired: usize,
    /// Number of entries with [`RibEntry::sent`].
    sent: usize,
    /// Number of entries in [`RibTable::announce`] or [`RibTable::withdraw`].
    queued: usize,
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

#[derive(Debug, Default)]
struct RibEntry {
    /// Attributes that the peer should have; `None` if it should not have the route.
    desired: Option<Arc<Attributes>>,
    /// Attributes that the peer has; `None` if it does not have the route.
    sent: Option<Arc<Attributes>>,
    /// True if the route must be sent again although the peer has it.
    resend: bool,
    /// True while the prefix is in a bucket.
    queued: bool,
}

impl RibEntry {
    /// Returns what to send: nothing (`None`), a withdrawal (`Some(None)`) or an announcement.
    fn difference(&self, mode: SendMode) -> Option<Option<&Arc<Attributes>>> {
        let target = match mode {
            SendMode::Down => return None,
            SendMode::Open => self.desired.as_ref(),
            SendMode::Blocked => None,
        };
        match (target, &self.sent) {
            (None, None) => None,
            (Some(target), Some(sent)) if target == sent && !self.resend => None,
            _ => Some(target),
        }
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
        let before = route.desired.replace(attributes);
        self.desired += usize::from(before.is_none());
        self.unqueue(prefix, before);
        self.requeue(prefix);
    }

    pub(crate) fn withdraw(&mut self, prefix: &IpNet) {
        if let Some(before) = self.routes.get_mut(prefix).and_then(|route| route.desired.take()) {
            self.desired -= 1;
            self.unqueue(*prefix, Some(before));
            self.requeue(*prefix);
        }
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

    /// Queues all routes that the peer has once more: it asked for a route refresh, or the next hop changed.
    pub(crate) fn resend(&mut self) {
        self.routes.values_mut().for_each(|route| route.resend = route.sent.is_some());
        self.requeue_all();
    }

    /// Stops sending: the session is down, and the peer has deleted all routes.
    pub(crate) fn down(&mut self) {
        self.mode = SendMode::Down;
        self.end_of_rib = false;
        self.sent = 0;
        self.routes.retain(|_, route| {
            route.sent = None;
            route.resend = false;
            route.desired.is_some()
        });
        self.requeue_all();
    }

    // ===== the difference =====

    /// Returns the prefixes to withdraw next.
    pub(crate) fn withdrawals(&self) -> impl Iterator<Item = &IpNet> {
        self.withdraw.iter()
    }

    /// Returns the prefixes to announce next, with the attributes that they share.
    pub(crate) fn announcements(&self) -> Option<(&Arc<Attributes>, impl Iterator<Item = &IpNet>)> {
        self.announce.first_key_value().map(|(attributes, prefixes)| (attributes, prefixes.iter()))
    }

    /// Marks the first `count` of [`RibTable::withdrawals`] as sent.
    pub(crate) fn mark_withdrawn(&mut self, count: usize) {
        for _ in 0..count {
            let Some(prefix) = self.withdraw.pop_first() else { break };
            self.queued -= 1;
            if let Some(route) = self.routes.get_mut(&prefix) {
                route.queued = false;
                route.resend = false;
                self.sent -= usize::from(route.sent.take().is_some());
                if route.desired.is_none() {
                    self.routes.remove(&prefix);
                }
            }
        }
    }

    /// Marks the first `count` of [`RibTable::announcements`] as sent.
    pub(crate) fn mark_announced(&mut self, count: usize) {
        let Some(mut bucket) = self.announce.first_entry() else { return };
        for _ in 0..count {
            let Some(prefix) = bucket.get_mut().pop_first() else { break };
            self.queued -= 1;
            if let Some(route) = self.routes.get_mut(&prefix) {
                route.queued = false;
                route.resend = false;
                self.sent += usize::from(route.sent.is_none());
                route.sent.clone_from(&route.desired);
            }
        }
        if bucket.get().is_empty() {
            bucket.remove();
        }
    }

    /// Returns true once, when all routes of the initial update have been sent: the End-of-RIB marker is due
    /// (RFC 4724 §2).
    pub(crate) fn take_end_of_rib(&mut self) -> bool {
        self.queued == 0 && std::mem::take(&mut self.end_of_rib)
    }

    /// Returns whether the End-of-RIB marker was sent on this connection.
    pub(crate) fn is_end_of_rib_sent(&self) -> bool {
        self.mode != SendMode::Down && !self.end_of_rib
    }

    pub(crate) const fn has_pending(&self) -> bool {
        self.queued > 0 || self.end_of_rib
    }

    pub(crate) const fn counts(&self) -> RibCounts {
        RibCounts { desired: self.desired, sent: self.sent, queued: self.queued }
    }

    fn requeue_all(&mut self) {
        self.announce.clear();
        self.withdraw.clear();
        self.queued = 0;
        for (prefix, route) in &mut self.routes {
            route.queued = match route.difference(self.mode) {
                None => false,
                Some(None) => self.withdraw.insert(*prefix),
                Some(Some(attributes)) => match self.announce.get_mut(attributes) {
                    Some(bucket) => bucket.insert(*prefix),
                    None => self.announce.insert(attributes.clone(), BTreeSet::from([*prefix])).is_none(),
                },
            };
            self.queued += usize::from(route.queued);
        }
    }

    /// Queues a prefix that is in no bucket if it has a difference, and deletes entries that are no longer
    /// needed.
    fn requeue(&mut self, prefix: IpNet) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        match route.difference(self.mode) {
            None if route.desired.is_none() && route.sent.is_none() => {
                self.routes.remove(&prefix);
                return;
            }
            None => return,
            Some(None) => self.withdraw.insert(prefix),
            Some(Some(attributes)) => self.announce.entry(attributes.clone()).or_default().insert(prefix),
        };
        route.queued = true;
        self.queued += 1;
    }

    /// Removes a prefix from the bucket of `attributes` and from the withdrawals.
    fn unqueue(&mut self, prefix: IpNet, attributes: Option<Arc<Attributes>>) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        if !std::mem::take(&mut route.queued) {
            return;
        }
        self.queued -= 1;
        self.withdraw.remove(&prefix);
        if let Some(attributes) = attributes
            && let Some(bucket) = self.announce.get_mut(&attributes)
        {
            bucket.remove(&prefix);
            if bucket.is_empty() {
                self.announce.remove(&attributes);
            }
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
