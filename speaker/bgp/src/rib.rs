//! Adj-RIB-Out (RFC 4271 §3.2): what the peer should know, what it knows, and the difference.
//!
//! The difference waits in buckets, one per set of attributes, because routes with equal attributes share an UPDATE.
//! A prefix is in one bucket at most, so however often it changes while the peer is slow, it is sent once, as it is then.
//! Announcing, withdrawing and sending cost O(log n) per prefix; a family is walked as a whole only when a
//! session comes up, goes down, or the peer asks for everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Attributes, Family};

/// Both families' routes.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    ipv4: RibTable,
    ipv6: RibTable,
}

/// One family's routes.
#[derive(Debug, Default)]
pub(crate) struct RibTable {
    routes: BTreeMap<IpNet, RibEntry>,
    mode: SendMode,
    /// Prefixes to announce, by the attributes they get.
    announce: BTreeMap<Arc<Attributes>, BTreeSet<IpNet>>,
    /// Prefixes to withdraw.
    withdraw: BTreeSet<IpNet>,
    /// The End-of-RIB marker is still to be sent.
    end_of_rib: bool,
    /// Routes with [`RibEntry::desired`].
    desired: usize,
    /// Routes with [`RibEntry::sent`].
    sent: usize,
    /// Routes in a bucket or in [`RibTable::withdraw`].
    queued: usize,
}

/// What may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SendMode {
    /// Nothing: the session does not carry the family now.
    #[default]
    Down,
    /// Everything.
    Open,
    /// Withdrawals: announcements would lack a next hop.
    Blocked,
}

#[derive(Debug, Default)]
struct RibEntry {
    /// What the peer should know.
    desired: Option<Arc<Attributes>>,
    /// What it knows.
    sent: Option<Arc<Attributes>>,
    /// It shall be told again what it knows.
    resend: bool,
    queued: bool,
}

impl RibEntry {
    /// What to send: nothing, a withdrawal, an announcement.
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
    // ===== what should be known =====

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

    // ===== what may be sent =====

    /// The session is up; the peer knows nothing.
    pub(crate) fn open(&mut self, blocked: bool) {
        self.down();
        self.end_of_rib = true;
        self.set_mode(blocked);
    }

    /// The next hop came or went.
    pub(crate) fn set_mode(&mut self, blocked: bool) {
        self.mode = if blocked { SendMode::Blocked } else { SendMode::Open };
        self.requeue_all();
    }

    /// The peer shall be told all of it again.
    pub(crate) fn resend(&mut self) {
        self.routes.values_mut().for_each(|route| route.resend = route.sent.is_some());
        self.requeue_all();
    }

    /// The session is down; what the peer knew, it has forgotten.
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

    /// The next prefixes to withdraw.
    pub(crate) fn withdrawals(&self) -> impl Iterator<Item = &IpNet> {
        self.withdraw.iter()
    }

    /// The next prefixes to announce, all with the same attributes.
    pub(crate) fn announcements(&self) -> Option<(&Arc<Attributes>, impl Iterator<Item = &IpNet>)> {
        self.announce.first_key_value().map(|(attributes, prefixes)| (attributes, prefixes.iter()))
    }

    /// The first `count` of [`RibTable::withdrawals`] are sent.
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

    /// The first `count` of [`RibTable::announcements`] are sent.
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

    /// Tells once, when all routes have been sent for the first time, that the End-of-RIB marker is due.
    pub(crate) fn take_end_of_rib(&mut self) -> bool {
        self.queued == 0 && std::mem::take(&mut self.end_of_rib)
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

    /// Puts a prefix that is in no bucket into the right one, or forgets it.
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

    /// Takes a prefix out of the bucket of these attributes and off the withdrawals.
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
    /// That should be known.
    pub desired: usize,
    /// That are known.
    pub sent: usize,
    /// That wait.
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
