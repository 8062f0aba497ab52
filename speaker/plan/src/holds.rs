//! Addresses whose announcement by BGP waits although an endpoint can serve them: until the data path of the
//! node is ready, or because they were withdrawn recently.
//!
//! Only addresses that an advertisement with `announceWhen: DataPathReady` or `reannounceAfter` covers have a
//! record. An address that this node announces already never waits.
//!
//! Under `announceWhen: DataPathReady`, a node whose endpoints are all terminating continues to announce the
//! address for a time, because the nodes with ready endpoints may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::config::{AnnounceWhen, BgpAdvertisement};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;

use crate::data_path::{DataPath, ProbeAnswer};
use crate::reason::NotAnnouncedReason;

/// Time after which a wait for the data path is a problem to report. Waits are normally shorter, and each
/// report would change the Speaker object twice.
const REPORTED_AFTER: Duration = Duration::from_secs(5);

/// Assumed maximum of the time from the boot of a node to the start of its Service proxy.
const BOOT: Duration = Duration::from_secs(120);

/// The addresses that can wait, and their state.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// Longest time for which an address waits for the data path.
    wait: Duration,
    data_path: DataPath,
    records: BTreeMap<Arc<ObjectKey>, Vec<Record>>,
    /// The addresses that wait for the data path.
    waiting: BTreeSet<(Arc<ObjectKey>, IpAddr)>,
    /// The times at which to compute the routes of a Service again.
    due: BTreeSet<(Instant, Arc<ObjectKey>)>,
    /// Addresses that are announced because they have waited for too long.
    unconfirmed: Vec<(Arc<ObjectKey>, IpAddr)>,
    /// True if addresses that endpoints can serve when the speaker starts wait, too.
    is_node_new: bool,
    /// True if the routes have been computed.
    is_started: bool,
}

/// The state of one address of a Service.
#[derive(Debug)]
struct Record {
    address: IpAddr,
    /// Set while endpoints can serve the address.
    served: Option<Served>,
    /// The time of its last withdrawal because of its endpoints.
    withdrawn: Option<Instant>,
    /// The time until which this node announces the address with terminating endpoints, although another node
    /// has a ready one; set while this is so.
    hands_over_until: Option<Instant>,
}

/// The state of an address that endpoints can serve.
#[derive(Clone, Copy, Debug)]
struct Served {
    since: Instant,
    /// True if the address need not wait any longer for the data path.
    is_confirmed: bool,
    /// The time at which the wait began; `None` while this node could not announce the address anyway.
    waits_since: Option<Instant>,
}

/// An address that is about to be announced or withdrawn.
#[derive(Clone, Copy)]
pub(crate) struct Observation<'a> {
    pub(crate) service: &'a Arc<ObjectKey>,
    pub(crate) address: IpAddr,
    /// The advertisements that cover it.
    pub(crate) ads: &'a [&'a BgpAdvertisement],
    pub(crate) served: ServedBy,
    /// True if this node announces it already.
    pub(crate) is_announced: bool,
}

/// The endpoints that serve an address on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedBy {
    /// None, or this node could not announce the address with them.
    Nothing,
    /// Terminating ones only, while another node has a ready one.
    Terminating,
    Endpoints,
}

impl Holds {
    /// Sets the longest time for which an address waits for the data path, and how long the node had been up
    /// when the speaker started.
    ///
    /// The start of a speaker is no event of the data path. A router with graceful restart deletes the routes
    /// that worked before if the speaker does not send them before the End-of-RIB marker. Therefore the
    /// addresses that endpoints can serve at the start wait only if the node has booted recently.
    pub(crate) fn set_wait(&mut self, wait: Duration, node_uptime: Duration) {
        self.wait = wait;
        self.is_node_new = node_uptime < wait + BOOT;
    }

    /// Records the present state of an address. Returns true if endpoints serve it. Without a time, no
    /// address waits.
    pub(crate) fn observe(&mut self, seen: Observation<'_>, now: Option<Instant>) -> bool {
        let waits_for_path = seen.ads.iter().any(|ad| ad.announce_when == AnnounceWhen::DataPathReady);
        let delays = seen.ads.iter().any(|ad| !ad.reannounce_after.is_zero());
        let Some(now) = now.filter(|_| waits_for_path || delays) else {
            self.forget(seen.service, seen.address);
            return seen.served == ServedBy::Endpoints;
        };
        let records = self.records.entry(seen.service.clone()).or_default();
        let known = records.iter().position(|record| record.address == seen.address);
        let mut record = match known {
            Some(at) => records.swap_remove(at),
            None => Record { address: seen.address, served: None, withdrawn: None, hands_over_until: None },
        };
        // `Holds::reason` adds the address again if an advertisement requires it to wait.
        let was_waiting = self.waiting.remove(&(seen.service.clone(), seen.address));
        // kube-proxy forwards to terminating endpoints if this node has no ready one.
        let can_hand_over = seen.served == ServedBy::Terminating && waits_for_path;
        let begins = can_hand_over && (seen.is_announced || !self.is_started);
        let begun = record.hands_over_until.filter(|_| can_hand_over);
        record.hands_over_until = begun.or(begins.then_some(now + self.wait)).filter(|until| now < *until);
        self.due.extend(record.hands_over_until.map(|until| (until, seen.service.clone())));
        let is_served = seen.served == ServedBy::Endpoints || record.hands_over_until.is_some();
        match (&mut record.served, is_served) {
            (Some(served), true) => {
                served.is_confirmed |= !waits_for_path;
                served.waits_since = served.waits_since.filter(|_| was_waiting);
            }
            (served @ None, true) => {
                let worked_before = !self.is_started && !self.is_node_new;
                let is_confirmed = seen.is_announced || !waits_for_path || worked_before;
                *served = Some(Served { since: now, is_confirmed, waits_since: None });
            }
            (served, false) => {
                if served.take().is_some() && seen.is_announced {
                    record.withdrawn = Some(now);
                }
            }
        }
        record.withdrawn = record.withdrawn.filter(|_| delays);
        if record.served.is_some() || record.withdrawn.is_some() {
            records.push(record);
        } else if records.is_empty() {
            self.records.remove(seen.service);
        }
        is_served
    }

    /// Returns why an advertisement does not announce an address yet; `None` if it does. Call this only for
    /// an address that this node could announce otherwise.
    pub(crate) fn reason(
        &mut self,
        service: &Arc<ObjectKey>,
        address: IpAddr,
        ad: &BgpAdvertisement,
        now: Option<Instant>,
    ) -> Option<NotAnnouncedReason> {
        let now = now?;
        let record = self.records.get_mut(service)?.iter_mut().find(|record| record.address == address)?;
        let until = record.withdrawn.map(|withdrawn| withdrawn + ad.reannounce_after);
        if let Some(until) = until.filter(|until| now < *until) {
            self.due.insert((until, service.clone()));
            return Some(NotAnnouncedReason::WithdrawnRecently);
        }
        let served = record.served.as_mut().filter(|served| !served.is_confirmed)?;
        if ad.announce_when == AnnounceWhen::EndpointReady {
            return None;
        }
        let since = *served.waits_since.get_or_insert(now);
        let (reported, until) = (since + REPORTED_AFTER, since + self.wait);
        if now >= until {
            served.is_confirmed = true;
            self.waiting.remove(&(service.clone(), address));
            self.unconfirmed.push((service.clone(), address));
            return None;
        }
        self.waiting.insert((service.clone(), address));
        let is_reported = now >= reported;
        self.due.insert((if is_reported { until } else { until.min(reported) }, service.clone()));
        Some(match is_reported {
            true => NotAnnouncedReason::DataPathNotReady,
            false => NotAnnouncedReason::DataPathPending,
        })
    }

    /// Handles the answer to a probe. Passes every Service whose routes may change to `changed`.
    pub(crate) fn handle_answer(&mut self, answer: &ProbeAnswer, changed: &mut impl FnMut(&Arc<ObjectKey>)) {
        self.data_path.handle(answer);
        let (records, data_path, due, wait) = (&mut self.records, &self.data_path, &mut self.due, self.wait);
        self.waiting.retain(|(service, address)| {
            let mut records = records.get_mut(service).into_iter().flatten();
            let served = records.find(|record| record.address == *address).and_then(|r| r.served.as_mut());
            let Some(served) = served else { return false };
            served.is_confirmed = data_path.has_applied(Family::of(*address), served.since);
            if served.is_confirmed {
                if let Some(since) = served.waits_since {
                    due.remove(&(since + REPORTED_AFTER, service.clone()));
                    due.remove(&(since + wait, service.clone()));
                }
                changed(service);
            }
            !served.is_confirmed
        });
    }

    /// Records that the routes were computed.
    pub(crate) fn handle_computed(&mut self) {
        self.is_started = true;
    }

    /// Returns true if an address waits for the data path, so that probes are needed.
    pub(crate) fn awaits_data_path(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the addresses that are announced although the data path has not confirmed them.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<(Arc<ObjectKey>, IpAddr)> {
        std::mem::take(&mut self.unconfirmed)
    }

    /// Returns when [`Holds::take_due`] has a Service to return.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the Services whose routes may change now because time has passed.
    pub(crate) fn take_due(&mut self, now: Instant) -> impl Iterator<Item = Arc<ObjectKey>> + '_ {
        std::iter::from_fn(move || {
            self.due.first().filter(|(at, _)| *at <= now)?;
            self.due.pop_first().map(|(_, service)| service)
        })
    }

    /// Forgets a Service.
    pub(crate) fn release(&mut self, service: &ObjectKey) {
        let Some((service, records)) = self.records.remove_entry(service) else { return };
        for record in records {
            self.waiting.remove(&(service.clone(), record.address));
        }
    }

    /// Forgets the addresses of a Service that are not in `held`.
    pub(crate) fn retain(&mut self, service: &Arc<ObjectKey>, held: &[IpAddr]) {
        let Some(records) = self.records.get(service) else { return };
        let gone: Vec<IpAddr> =
            records.iter().map(|record| record.address).filter(|address| !held.contains(address)).collect();
        gone.into_iter().for_each(|address| self.forget(service, address));
    }

    /// Forgets an address.
    pub(crate) fn forget(&mut self, service: &Arc<ObjectKey>, address: IpAddr) {
        let Some(records) = self.records.get_mut(service) else { return };
        records.retain(|record| record.address != address);
        if records.is_empty() {
            self.records.remove(service);
        }
        self.waiting.remove(&(service.clone(), address));
    }
}
