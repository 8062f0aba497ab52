//! The observed Services, with the last decision on each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use super::announcement::{Hold, Verdict};
use super::condition_digest::ConditionDigests;
use super::departed::{DepartedService, Written};
use super::displayed::keep_displayed;
use super::namespaces::Namespaces;
use super::observed::ObservedService;
use super::outcome::AllocationOutcome;
use super::status::{DesiredStatus, ServiceEvent, StatusPatch};
use super::status_conflict::StatusConflict;
use super::wait_queue::{Priority, Waiter};
use crate::ipam::Ipam;

/// All observed Services.
#[derive(Debug, Default)]
pub(crate) struct ServiceRecords {
    records: BTreeMap<ObjectKey, Box<ServiceRecord>>,
}

/// A Service and the last decision on it.
#[derive(Debug)]
pub(crate) struct ServiceRecord {
    observed: ObservedService,
    outcome: AllocationOutcome,
    /// The conditions of the last decision. The observed status may not contain them yet.
    published: ConditionDigests,
    /// Addresses that the Service does not hold, but that its status displays or that an in-doubt write may
    /// still put there. They are reserved for it, so that the API never displays an address on two Services
    /// that do not share it.
    reserved: Vec<IpAddr>,
    /// Addresses in patches decided on the version last observed. Patches on older versions can no longer be
    /// applied.
    in_doubt: Vec<IpAddr>,
    /// True if the status was that of the last decision when it was last observed.
    is_written: bool,
    /// What the speakers announce of the addresses; `None` if the Service has none, or before the first
    /// decision.
    verdict: Option<Verdict>,
    /// Whether the condition in the status is kept although the verdict differs.
    hold: Hold,
    /// The replacements of the status by another program, if there are any.
    conflict: Option<Box<StatusConflict>>,
}

/// Whether a Service is being deleted, and its creation time. Of two Services that display one address, the
/// lower value keeps it: the one that stays, then the older one.
pub(super) type Seniority = (bool, i64);

/// The author of addresses in a status that this controller did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExternalWriter {
    /// Another controller that believes it leads.
    Controller,
    /// A user or another program: the conditions do not agree with the addresses.
    Other,
}

impl ServiceRecords {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the keys of all Services, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.records.keys()
    }

    /// Returns the keys of the Services in a Namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<ObjectKey> {
        let first = ObjectKey { namespace: namespace.to_owned(), name: String::new() };
        let keys = self.records.range(first..).map(|(key, _)| key);
        keys.take_while(|key| key.namespace == namespace).cloned().collect()
    }

    pub(super) fn contains(&self, key: &ObjectKey) -> bool {
        self.records.contains_key(key)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&ServiceRecord> {
        self.records.get(key).map(|record| &**record)
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut ServiceRecord> {
        self.records.get_mut(key).map(|record| &mut **record)
    }

    /// Returns the Service's priority in the order of reconciliation.
    pub(super) fn priority(&self, key: &ObjectKey) -> Option<Priority> {
        let record = self.records.get(key)?;
        Some((record.created(), Waiter::Service(key.clone())))
    }

    /// Sorts Services for adoption: by seniority, those with two different sharing keys last. The others
    /// determine under which key an address is shared.
    pub(super) fn by_adoption_order<'a>(&self, keys: &'a [ObjectKey]) -> Vec<&'a ObjectKey> {
        let order = |key: &'a ObjectKey| {
            let record = self.records.get(key)?;
            let is_ambiguous = record.balancer().requested.lacks_sharing_key();
            Some((is_ambiguous, record.seniority(), key))
        };
        let mut ordered: Vec<(bool, Seniority, &'a ObjectKey)> = keys.iter().filter_map(order).collect();
        ordered.sort();
        ordered.into_iter().map(|(.., key)| key).collect()
    }

    /// Stores a Service. Returns the author of the addresses in its status if another one wrote them. A
    /// record of the same name but another UID must have been removed before.
    pub(super) fn observe(&mut self, observed: ObservedService) -> Option<ExternalWriter> {
        match self.records.get_mut(&observed.balancer.key) {
            Some(record) => record.observe(observed),
            None => {
                let key = observed.balancer.key.clone();
                self.records.insert(key, Box::new(ServiceRecord::new(observed)));
                None
            }
        }
    }

    /// Removes a Service. Returns what this controller has written into its status, and the addresses that
    /// are reserved for it because its status displayed them.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<(DepartedService, Vec<IpAddr>)> {
        self.records.remove(key).map(|record| (record.departed(), record.reserved))
    }

    /// Forgets all decisions, but not the addresses of in-doubt writes.
    pub(super) fn forget_decisions(&mut self) {
        for record in self.records.values_mut() {
            record.forget_decisions();
        }
    }
}

impl ServiceRecord {
    fn new(observed: ObservedService) -> Self {
        Self {
            published: observed.conditions,
            observed,
            outcome: AllocationOutcome::Undecided,
            reserved: Vec::new(),
            in_doubt: Vec::new(),
            is_written: false,
            verdict: None,
            hold: Hold::default(),
            conflict: None,
        }
    }

    pub(super) fn observed(&self) -> &ObservedService {
        &self.observed
    }

    pub(crate) fn balancer(&self) -> &LoadBalancer {
        &self.observed.balancer
    }

    pub(crate) fn outcome(&self) -> &AllocationOutcome {
        &self.outcome
    }

    /// Returns the creation time, in seconds since the epoch.
    pub(super) fn created(&self) -> i64 {
        self.observed.balancer.created
    }

    /// Returns the seniority among Services that display one address.
    pub(super) fn seniority(&self) -> Seniority {
        (self.observed.balancer.is_deleting, self.created())
    }

    /// Returns what this controller has written into the status.
    fn departed(&self) -> DepartedService {
        let ObservedService { balancer, pool_annotation, conditions, .. } = &self.observed;
        let decided = match &self.outcome {
            AllocationOutcome::Allocated { holding, .. } => holding.ips().collect(),
            AllocationOutcome::Undecided | AllocationOutcome::Refused { .. } => Vec::new(),
        };
        let mut addresses: Vec<IpAddr> = decided;
        addresses.extend(&self.in_doubt);
        if pool_annotation.is_some() {
            addresses.extend(&balancer.ingress);
        }
        DepartedService {
            key: balancer.key.clone(),
            uid: balancer.uid.clone(),
            written: Some(Written {
                conditions: vec![*conditions, self.published],
                pool_annotation: pool_annotation.clone(),
                addresses,
            }),
            unserved: None,
        }
    }

    /// Returns true if the status displays this address.
    pub(super) fn displays(&self, address: IpAddr) -> bool {
        self.observed.balancer.ingress.contains(&address)
    }

    /// Gives a Service that is observed for the first time the addresses in its status, if it may keep them.
    pub(super) fn adopt(&mut self, ipam: &mut Ipam, namespaces: &Namespaces) {
        let balancer = &self.observed.balancer;
        let is_new = self.outcome == AllocationOutcome::Undecided && ipam.holding(&balancer.key).is_none();
        if !is_new || balancer.ingress.is_empty() {
            return;
        }
        // If two annotations set different sharing keys, or one is too long, the key under which the Service
        // already shares applies.
        let mut sharing_keys = balancer.requested.sharing_keys.clone();
        if sharing_keys.is_empty() && balancer.requested.lacks_sharing_key() {
            sharing_keys.extend(balancer.ingress.iter().filter_map(|ip| ipam.sharing_key_of(*ip)));
        }
        for sharing_key in std::iter::once(None).chain(sharing_keys.into_iter().map(Some)) {
            if sharing_key.is_some() {
                self.observed.balancer.sharing_key = sharing_key;
            }
            let request = namespaces.allocation_request(&self.observed.balancer);
            if keep_displayed(ipam, &request, &self.observed).is_ok() {
                return;
            }
        }
    }

    /// Reserves the addresses that the status displays and the Service does not hold, and frees those that it
    /// no longer displays.
    pub(super) fn reserve_displayed(&mut self, ipam: &mut Ipam) {
        let balancer = &self.observed.balancer;
        let held: Vec<IpAddr> =
            ipam.holding(&balancer.key).map(|held| held.ips().collect()).unwrap_or_default();
        let displayed = balancer.ingress.iter().chain(&self.in_doubt);
        let displayed = displayed.filter(|ip| !held.contains(ip)).copied().collect();
        for ip in std::mem::replace(&mut self.reserved, displayed) {
            if !self.reserved.contains(&ip) {
                ipam.unreserve(ip, &balancer.key);
            }
        }
        for ip in &self.reserved {
            ipam.reserve(*ip, &balancer.key);
        }
    }

    /// Returns how many times another program replaced the status, since the last conflict ended.
    pub(super) fn replacements(&self) -> u32 {
        self.conflict.as_ref().map_or(0, |conflict| conflict.replacements())
    }

    /// Returns when the Service must be reconciled because of a conflict with another program.
    pub(super) fn conflict_timeout(&self) -> Option<Timestamp> {
        let conflict = self.conflict.as_ref()?;
        Some(if self.is_written { conflict.end() } else { conflict.next_write() })
    }

    /// Returns what the speakers announce of the addresses, as of the last decision.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Returns when the Service must be published again because its condition was kept.
    pub(super) fn hold_timeout(&self) -> Option<Timestamp> {
        self.hold.poll_timeout()
    }

    /// Stores a verdict on the announcements, with the outcome of the last decision. See
    /// [`ServiceRecord::publish`].
    pub(super) fn publish_verdict(
        &mut self,
        verdict: Option<Verdict>,
        ipam: &mut Ipam,
        now: Timestamp,
    ) -> (Option<StatusPatch>, Vec<ServiceEvent>) {
        self.publish(self.outcome.clone(), verdict, ipam, now)
    }

    /// Stores an outcome and a verdict on the announcements. Returns the patch and the events for them. If
    /// another program replaces the status, there may be neither before [`Self::conflict_timeout`].
    pub(super) fn publish(
        &mut self,
        outcome: AllocationOutcome,
        verdict: Option<Verdict>,
        ipam: &mut Ipam,
        now: Timestamp,
    ) -> (Option<StatusPatch>, Vec<ServiceEvent>) {
        let moved = self.outcome.moves_to(&outcome, &self.observed.balancer.ingress);
        let shown = self.observed.conditions.advertised;
        let same_verdict = self.verdict == verdict;
        let hold_differs = self.hold.update(verdict.as_ref(), shown.as_ref(), same_verdict, now);
        let is_same = self.outcome == outcome && same_verdict && !hold_differs;
        self.outcome = outcome;
        self.verdict = verdict;
        self.reserve_displayed(ipam);
        if self.is_written && self.conflict.as_ref().is_some_and(|conflict| conflict.end() <= now) {
            self.conflict = None;
            // That the condition is removed is no replacement.
            self.is_written = false;
        }
        let mut desired = self.desired_status(now);
        let was_written = std::mem::replace(&mut self.is_written, desired.patch.is_none());
        if let Some(patch) = &desired.patch {
            if is_same && was_written {
                self.conflict
                    .get_or_insert_with(|| Box::new(StatusConflict::new(now)))
                    .handle_replacement(now);
            }
            if let Some(conflict) = self.conflict.as_mut().filter(|_| is_same) {
                if now < conflict.next_write() {
                    return (None, Vec::new());
                }
                conflict.describe(&self.observed, &patch.ingress);
                desired = self.desired_status(now);
            }
        }
        let (patch, events) = desired.publish(&mut self.published, &self.observed.balancer, moved);
        for ip in patch.iter().flat_map(|patch| &patch.ingress) {
            if !self.in_doubt.contains(ip) {
                self.in_doubt.push(*ip);
            }
        }
        (patch, events)
    }

    fn desired_status(&self, now: Timestamp) -> DesiredStatus {
        let conflict = self.conflict.as_ref().and_then(|conflict| conflict.message());
        let (verdict, keeps) = (self.verdict.as_ref(), self.hold.keeps());
        DesiredStatus::new(&self.published, &self.observed, &self.outcome, verdict, keeps, conflict, now)
    }

    /// Records that no in-doubt write remains. Returns whether that changed the reservations.
    pub(super) fn resolve_writes(&mut self, ipam: &mut Ipam) -> bool {
        if self.in_doubt.is_empty() {
            return false;
        }
        self.in_doubt.clear();
        self.reserve_displayed(ipam);
        true
    }

    fn observe(&mut self, mut observed: ObservedService) -> Option<ExternalWriter> {
        let (old, new) = (&self.observed.balancer, &observed.balancer);
        let foreign_addresses =
            new.ingress != old.ingress && !new.ingress.iter().all(|ip| self.in_doubt.contains(ip));
        // A controller writes the addresses and their pool into the condition.
        let differs_from = |earlier: &ConditionDigests| {
            let allocated = observed.conditions.allocated;
            allocated.is_some_and(|condition| condition.differs_from(earlier.allocated.as_ref()))
        };
        let new_condition = differs_from(&self.observed.conditions) && differs_from(&self.published);
        let writer = match (foreign_addresses, new.allocated_from != old.allocated_from) {
            _ if new.ingress.is_empty() => None,
            (true, _) | (_, true) if new_condition => Some(ExternalWriter::Controller),
            (true, _) => Some(ExternalWriter::Other),
            // A user who may edit the Service but not its status can change only the annotation. It is
            // overwritten.
            (false, _) => None,
        };
        if old.resource_version != new.resource_version {
            self.in_doubt.clear();
        }
        if observed.balancer.requested.lacks_sharing_key() {
            // The sharing keys contradict each other or are too long: the last valid one still applies.
            observed.balancer.sharing_key = self.observed.balancer.sharing_key.take();
        }
        self.observed = observed;
        writer
    }

    fn forget_decisions(&mut self) {
        self.outcome = AllocationOutcome::Undecided;
        self.published = self.observed.conditions;
        self.reserved.clear();
        self.is_written = false;
        self.verdict = None;
        self.hold = Hold::default();
        self.conflict = None;
    }
}
