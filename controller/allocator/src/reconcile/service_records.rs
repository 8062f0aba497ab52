//! What is known of each Service, and what it holds and shows.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::{ObjectKey, pool_of_nth};
use jiff::Timestamp;

use super::condition_digest::Said;
use super::service_decision::might_be_given;
use super::wait_queue::{Age, Asker};
use super::{AllocationOutcome, Decision, Index, Observed, allocation_request};
use crate::ipam::{AllocationRefusal, AllocationRequest, Holding, Ipam, ReservedFor};

/// What is known of a Service.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) observed: Observed,
    pub(super) outcome: AllocationOutcome,
    /// What has been said about it: its status may not show it yet.
    pub(super) told: Said,
    /// Addresses it no longer holds, but that its status still shows, or that a write on the way may still put there.
    /// Nobody else gets them before: at no time does the API show an address twice, and a restart cannot find it so.
    pub(super) departing: Vec<IpAddr>,
    /// Addresses in patches decided on the version last seen. Once there is a newer one, they cannot arrive any more.
    pub(super) promised: Vec<IpAddr>,
}

/// An address, and the pool that it is of as far as that is known.
pub(super) type Of = (IpAddr, Option<Arc<str>>);

/// Who wrote addresses into a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// Another controller that believes it leads.
    Controller,
    /// A person, or whatever else is none of us: the condition says nothing of them.
    Hand,
}

impl Index {
    /// Takes note of what a Service says now. Returns who else wrote addresses into it, if somebody did.
    pub(super) fn take_in(&mut self, mut observed: Observed) -> Option<Author> {
        let key = &observed.balancer.key;
        match self.services.get_mut(key) {
            Some(record) if record.observed.balancer.uid == observed.balancer.uid => {
                let (old, new) = (&record.observed.balancer, &observed.balancer);
                let other_addresses =
                    new.ingress != old.ingress && !new.ingress.iter().all(|ip| record.promised.contains(ip));
                // A controller says in the condition what it gives, and of which pool.
                let news = |told: &Said| {
                    let line = observed.said.allocated;
                    line.is_some_and(|line| line.is_news_after(told.allocated.as_ref()))
                };
                let says_so = news(&record.observed.said) && news(&record.told);
                let author = match (other_addresses, new.allocated_from != old.allocated_from) {
                    _ if new.ingress.is_empty() => None,
                    (true, _) | (_, true) if says_so => Some(Author::Controller),
                    (true, _) => Some(Author::Hand),
                    // Who may only edit the Service can edit no more than the annotation, and that is put right.
                    (false, _) => None,
                };
                if old.resource_version != new.resource_version {
                    record.promised.clear();
                }
                if !observed.balancer.requested.sharing_keys.is_empty() {
                    // With whom it shares cannot be understood: it goes on sharing with those it does.
                    observed.balancer.sharing_key = record.observed.balancer.sharing_key.take();
                }
                record.observed = observed;
                author
            }
            Some(_) => {
                // Deleted and made again without our seeing it in between: what the old one held is free.
                self.forget(&key.clone());
                self.take_in(observed)
            }
            None => {
                self.services.insert(key.clone(), Box::new(Record::new(observed)));
                None
            }
        }
    }

    /// Lets a Service that is seen for the first time keep the addresses in its status, as far as they may be its.
    pub(super) fn adopt(&mut self, key: &ObjectKey) {
        let Some(record) = self.services.get_mut(key) else { return };
        let is_new = record.outcome == AllocationOutcome::Undecided && self.ipam.holding(key).is_none();
        if !is_new || record.observed.balancer.ingress.is_empty() {
            return;
        }
        // Where two spellings say different things, by the one under which it shares what it shows.
        let other_keys = record.observed.balancer.requested.sharing_keys.clone();
        for sharing_key in std::iter::once(None).chain(other_keys.into_iter().map(Some)) {
            let balancer = &mut record.observed.balancer;
            balancer.sharing_key = sharing_key.or(balancer.sharing_key.take());
            let balancer = &record.observed.balancer;
            let allocation_request = allocation_request(&self.namespaces, balancer);
            match keep_shown(&mut self.ipam, &allocation_request, &record.observed) {
                Ok(()) => return,
                Err(why) => {
                    tracing::debug!(service = %key, ingress = ?balancer.ingress, %why, "cannot keep what its status has");
                }
            }
        }
    }

    /// Sees to it that nobody else gets yet what a Service shows and does not hold.
    pub(super) fn depart(&mut self, key: &ObjectKey) {
        if let Some(record) = self.services.get_mut(key) {
            record.depart(&mut self.ipam);
        }
    }

    /// Somebody else wrote addresses into a Service: another controller that believes it leads, or a person. What the API
    /// shows counts, so that all who look at it come to the same end: the Service has them, unless an older one shows
    /// them too. Whoever was only meant to get one of them gets another. But what a person wrote counts only as far as the
    /// Service might be given it.
    pub(super) fn heed(&mut self, key: &ObjectKey, author: Author, now: Timestamp) {
        let Some(record) = self.services.get(key) else { return };
        let observed = record.observed.clone();
        let balancer = &observed.balancer;
        let as_shown = |held: &Holding| {
            let pools = balancer.allocated_from.as_ref();
            held.ips().eq(balancer.ingress.iter().copied())
                && pools.is_none_or(|pools| *pools == held.pools().join(","))
        };
        if self.ipam.holding(key).is_some_and(as_shown) {
            return;
        }
        let age = (balancer.created, key);
        let sharers = match author {
            Author::Controller => self.sharers_to_move(&observed),
            Author::Hand => Vec::new(),
        };
        let allocation_request = allocation_request(&self.namespaces, balancer);
        if author == Author::Hand
            && !might_be_given(&self.ipam, balancer, &allocation_request, &balancer.ingress)
        {
            return;
        }
        let (mut losers, mut claims) = (Vec::new(), Vec::new());
        // Each round takes away one of those in the way, of which there are few.
        while let Err(why) = keep_shown(&mut self.ipam, &allocation_request, &observed) {
            match why {
                AllocationRefusal::InUse { address, holder, .. } => {
                    let Some(other) = self.services.get(&*holder) else { break };
                    let shows = other.observed.balancer.ingress.contains(&address);
                    let older = (other.created(), &*holder) < age;
                    if (shows && older) || !self.ipam.holders(address).contains(&holder) {
                        break;
                    }
                    self.ipam.release_without_cooldown(&holder);
                    losers.push(holder);
                }
                AllocationRefusal::Reserved { by: ReservedFor::Claim { claim, .. }, .. } => {
                    self.ipam.unclaim(&claim);
                    claims.push(claim);
                }
                AllocationRefusal::Reserved { address, by: ReservedFor::LastHolder { .. } } => {
                    self.ipam.end_cooldown(address);
                }
                _ => break,
            }
        }
        for loser in losers {
            self.depart(&loser);
            self.converge(&loser, now);
        }
        for sharer in sharers {
            self.converge(&sharer, now);
        }
        for claim in claims {
            self.converge_claim(&claim, now);
        }
    }

    /// Those who share an address hold it of one pool: where the oldest of them shows another, all of them move to that.
    /// Returns the others.
    fn sharers_to_move(&mut self, observed: &Observed) -> Vec<ObjectKey> {
        let Observed { balancer, .. } = observed;
        let Some(pools) = &balancer.allocated_from else { return Vec::new() };
        let mut others = Vec::new();
        for (n, ip) in balancer.ingress.iter().enumerate() {
            let holders = self.ipam.holders(*ip);
            let by_age = holders.iter().filter_map(|key| Some((self.services.get(&**key)?.created(), key)));
            if by_age.min().is_none_or(|(_, oldest)| **oldest != balancer.key) {
                continue;
            }
            let rest: Vec<ObjectKey> = holders
                .iter()
                .filter(|key| ***key != balancer.key)
                .map(|key| ObjectKey::clone(key))
                .collect();
            if !rest.is_empty() && self.ipam.move_sharers(*ip, pool_of_nth(pools, n)) {
                others.extend(rest);
            }
        }
        others
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.ipam.release(key);
        self.waiting.remove(&Asker::Service(key.clone()));
        if let Some(record) = self.services.remove(key) {
            for ip in record.departing {
                self.ipam.unreserve(ip, key);
            }
            self.decisions.push(Decision::Status { service: key.clone(), patch: None });
        }
    }
}

impl Record {
    pub(super) fn new(observed: Observed) -> Self {
        Self {
            told: observed.said,
            observed,
            outcome: AllocationOutcome::Undecided,
            departing: Vec::new(),
            promised: Vec::new(),
        }
    }

    pub(super) fn created(&self) -> i64 {
        self.observed.balancer.created
    }

    pub(super) fn age(&self) -> Age {
        (self.created(), Asker::Service(self.observed.balancer.key.clone()))
    }

    /// Keeps what its status shows beyond what it holds from everybody else, and gives back what it shows no longer.
    pub(super) fn depart(&mut self, ipam: &mut Ipam) {
        let balancer = &self.observed.balancer;
        let held: Vec<IpAddr> =
            ipam.holding(&balancer.key).map(|held| held.ips().collect()).unwrap_or_default();
        let shown = balancer.ingress.iter().chain(&self.promised);
        let shown = shown.filter(|ip| !held.contains(ip)).copied().collect();
        for ip in std::mem::replace(&mut self.departing, shown) {
            if !self.departing.contains(&ip) {
                ipam.unreserve(ip, &balancer.key);
            }
        }
        for ip in &self.departing {
            ipam.reserve(*ip, &balancer.key);
        }
    }
}

/// Lets a Service keep the addresses in its status.
fn keep_shown(
    ipam: &mut Ipam,
    allocation_request: &AllocationRequest<'_>,
    observed: &Observed,
) -> Result<(), AllocationRefusal> {
    let (as_had, as_named) = shown(ipam, observed);
    let mut keep = |shown: &[Of]| {
        let shown: Vec<_> = shown.iter().map(|(ip, pool)| (*ip, pool.as_deref())).collect();
        ipam.keep(allocation_request, &shown).map(drop)
    };
    if as_had.is_some_and(|shown| shown != as_named && keep(&shown).is_ok()) {
        return Ok(());
    }
    keep(&as_named)
}

/// The addresses in the status of a Service and their pools, in two readings of which the first counts, if there is one.
/// Each is of the pool that has it, and of the one that the annotation names only where none has it, or the status says
/// that it is retained: anybody who may edit the Service may edit the annotation, and by that alone no address becomes
/// one of another pool.
pub(super) fn shown(ipam: &Ipam, observed: &Observed) -> (Option<Vec<Of>>, Vec<Of>) {
    let Observed { balancer, said, .. } = observed;
    let named = |n| balancer.allocated_from.as_deref().map(|names| Arc::from(pool_of_nth(names, n)));
    let as_named: Vec<Of> = balancer.ingress.iter().enumerate().map(|(n, ip)| (*ip, named(n))).collect();
    let retained = said.allocated.is_some_and(|line| line.reason.is_of_retained_addresses());
    let as_had = (!retained).then(|| {
        let has = |(ip, named): &Of| {
            let is_refused = named.as_deref().is_some_and(|name| ipam.is_refused(name));
            let has = ipam.pool_name_of(*ip).filter(|_| !is_refused).map(Arc::from);
            (*ip, has.or_else(|| named.clone()))
        };
        as_named.iter().map(has).collect()
    });
    (as_had, as_named)
}
