//! The observed objects, the allocator, and the passes that reconcile them.

mod announcements;
mod observations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::conditions::ConditionStatus;
use fairlead_crds::model::config::Config;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::announcement::Speakers;
use super::claim_decision::{self, PendingClaim};
use super::claim_status::ClaimPatch;
use super::external_write::{Displaced, resolve_external_claim_write, resolve_external_write};
use super::namespaces::Namespaces;
use super::observed_claims::ObservedClaims;
use super::outbox::Outbox;
use super::outcome::AllocationOutcome;
use super::pool_waiters::Woken;
use super::retry::RetryQueue;
use super::service_decision::{decide, previous_addresses};
use super::service_records::{ExternalWriter, ServiceRecords};
use super::status_conflict::ConflictTimers;
use super::wait_queue::{Priority, RetryTrigger, WaitQueue, Waiter};
use crate::ipam::{Ipam, OtherService, Released};
use announcements::verdict;
pub(super) use observations::ClaimObservation;

/// The state that decisions read and change. Methods that store an observation only store it; the caller then
/// calls a method that reconciles, if this controller leads.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    config: Config,
    namespaces: Namespaces,
    services: ServiceRecords,
    claims: ObservedClaims,
    /// Load balancer Services of other classes.
    others: BTreeMap<ObjectKey, OtherService>,
    ipam: Ipam,
    waiting: WaitQueue,
    conflicts: ConflictTimers<ObjectKey>,
    speakers: Speakers,
    /// The Services with an address that no speaker announces.
    unannounced: BTreeSet<ObjectKey>,
    /// The Services whose condition `fairlead.dev/Advertised` is kept for a while.
    holds: ConflictTimers<ObjectKey>,
    outbox: Outbox,
}

/// Services and claims to reconcile.
#[derive(Debug, Default)]
pub(super) struct Affected {
    pub(super) services: Vec<ObjectKey>,
    pub(super) claims: Vec<ObjectKey>,
}

// Reading.
impl Allocations {
    pub(crate) fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    pub(crate) fn services(&self) -> &ServiceRecords {
        &self.services
    }

    pub(crate) fn claims(&self) -> &ObservedClaims {
        &self.claims
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Returns the number of waiting Services.
    pub(super) fn waiting_services(&self) -> usize {
        self.waiting.services()
    }

    /// Returns the claims that a Service waits for, the oldest first.
    pub(crate) fn pending_claims(&self, service: &ObjectKey) -> Vec<PendingClaim> {
        let balancer = self.services.get(service).map(|record| record.balancer());
        balancer
            .map(|balancer| claim_decision::pending_claims(&self.claims, &self.ipam, balancer))
            .unwrap_or_default()
    }
}

// Passes over several objects.
impl Allocations {
    /// The first pass of a term: adopts all held and reserved addresses and the cool-downs in `released` (by
    /// pool), then reconciles all objects.
    pub(super) fn begin(&mut self, released: &[(String, Released)], now: Timestamp) {
        let services: Vec<ObjectKey> = self.services.keys().cloned().collect();
        let claims: Vec<ObjectKey> = self.claims.keys().cloned().collect();
        self.adopt_services(&services);
        // A held address stays where it is, even if a Service of another class shows it too.
        for key in self.others.keys().cloned().collect::<Vec<_>>() {
            self.take_other(&key);
        }
        for key in self.claims.by_age(&claims) {
            self.adopt_claim(&key, true);
        }
        for (pool, released) in released {
            self.ipam.restore_cooldown(pool, released);
        }
        // Incomplete claims come last: complete claims and cool-downs have precedence.
        for key in self.claims.by_age(&claims) {
            self.adopt_claim(&key, false);
        }
        self.reconcile_all(services, &claims, now);
    }

    /// Reconciles Services and claims: first adopts the addresses that the Services hold, then decides, the
    /// oldest object first. But a Service comes after all claims for it that have reserved nothing yet,
    /// because its addresses depend on them.
    pub(super) fn reconcile_all(&mut self, services: Vec<ObjectKey>, claims: &[ObjectKey], now: Timestamp) {
        self.reconcile_and_wake(services, claims, Woken::default(), now);
    }

    /// Reconciles Services and claims as [`Allocations::reconcile_all`], then the waiting objects that a
    /// change of pools concerns.
    pub(super) fn reconcile_and_wake(
        &mut self,
        services: Vec<ObjectKey>,
        claims: &[ObjectKey],
        woken: Woken,
        now: Timestamp,
    ) {
        self.adopt_services(&services);
        let claims: BTreeSet<Priority> = claims.iter().filter_map(|key| self.claims.priority(key)).collect();
        let mut last_claim: BTreeMap<ObjectKey, i64> = BTreeMap::new();
        for (created, waiter) in &claims {
            if let Waiter::Claim(key) = waiter
                && self.ipam.claimed(key).is_none()
                && let Some(record) = self.claims.get(key)
            {
                last_claim.insert(record.claim().service.clone(), *created);
            }
        }
        let services = services.iter().filter_map(|key| {
            let (created, waiter) = self.services.priority(key)?;
            Some((last_claim.get(key).copied().unwrap_or(created).max(created), waiter))
        });
        let mut claimants: Vec<ObjectKey> = Vec::new();
        for (_, waiter) in services.chain(claims.iter().cloned()).collect::<BTreeSet<Priority>>() {
            match waiter {
                Waiter::Service(key) => self.reconcile_service(&key, now),
                Waiter::Claim(key) => claimants.extend(self.reserve_claim(&key)),
            }
        }
        for service in claimants {
            self.reconcile_if_waiting(&service, now);
        }
        for (_, waiter) in claims {
            if let Waiter::Claim(key) = waiter {
                self.publish_claim(&key, now);
            }
        }
        self.retry(woken, now);
    }

    /// Gives the Services the addresses in their statuses, as far as they may keep them.
    pub(super) fn adopt_services(&mut self, keys: &[ObjectKey]) {
        for key in self.services.by_adoption_order(keys) {
            self.adopt_service(key);
        }
        // Reserve displayed addresses only after all adoptions; otherwise a refused Service could block valid
        // sharers.
        for key in keys {
            self.reserve_displayed(key);
        }
    }

    /// Gives a Service the addresses in its status, as far as it may keep them.
    pub(super) fn adopt_service(&mut self, key: &ObjectKey) {
        if let Some(record) = self.services.get_mut(key) {
            record.adopt(&mut self.ipam, &self.namespaces);
        }
    }

    /// Reserves the addresses that the status of a Service displays and that it does not hold.
    pub(super) fn reserve_displayed(&mut self, key: &ObjectKey) {
        if let Some(record) = self.services.get_mut(key) {
            record.reserve_displayed(&mut self.ipam);
        }
    }

    /// Reconciles waiting objects after addresses changed, until nothing changes any more.
    pub(super) fn retry_waiters(&mut self, now: Timestamp) {
        self.retry(Woken::default(), now);
    }

    fn retry(&mut self, mut woken: Woken, now: Timestamp) {
        loop {
            let changes = self.ipam.take_changes();
            if changes.is_empty() && woken.is_empty() {
                return;
            }
            self.outbox.touch_pools(changes.iter().map(|change| Arc::clone(&change.pool)));
            let (services, claims) = (&self.services, &self.claims);
            let service_waiters = |service: &ObjectKey| {
                let claims = claims.of_service(service).filter_map(|key| claims.priority(key));
                claims.chain(services.priority(service)).collect()
            };
            let woken = std::mem::take(&mut woken);
            let mut queue = RetryQueue::new(changes, woken, &self.waiting, &self.ipam, service_waiters);
            while let Some(waiter) = queue.next(&self.waiting, &self.ipam) {
                match waiter {
                    Waiter::Service(key) => self.reconcile_service(&key, now),
                    Waiter::Claim(key) => self.reconcile_claim(&key, now),
                }
            }
        }
    }

    /// Reconciles the Services and claims that an external write of a Service's status displaced.
    pub(super) fn resolve_external_write(&mut self, key: &ObjectKey, writer: ExternalWriter, now: Timestamp) {
        let displaced = resolve_external_write(&mut self.ipam, &self.services, &self.namespaces, key, writer);
        let Displaced { services, sharers, claims } = displaced;
        for service in services {
            self.reserve_displayed(&service);
            self.reconcile_service(&service, now);
        }
        for service in sharers {
            self.reconcile_service(&service, now);
        }
        for claim in claims {
            self.reconcile_claim(&claim, now);
        }
    }

    /// Reconciles a claim whose status another controller wrote, and the objects that this displaced.
    pub(super) fn resolve_external_claim_write(&mut self, key: &ObjectKey, now: Timestamp) {
        let displaced = resolve_external_claim_write(&mut self.ipam, &mut self.services, &self.claims, key);
        self.reconcile_claim(key, now);
        for claim in displaced.claims {
            self.reconcile_claim(&claim, now);
        }
        for service in displaced.services {
            self.reconcile_service(&service, now);
        }
    }
}

// One object.
impl Allocations {
    /// Decides on a Service and publishes the decision, also in the statuses of its claims.
    pub(super) fn reconcile_service(&mut self, key: &ObjectKey, now: Timestamp) {
        if self.namespaces.must_wait_for(&key.namespace, &self.config) {
            if let Some(priority) = self.services.priority(key) {
                self.waiting.set(priority, vec![RetryTrigger::PoolsChanged]);
            }
            return;
        }
        let pending = self.pending_claims(key);
        let Some(record) = self.services.get_mut(key) else { return };
        self.outbox.count_evaluation();
        let balancer = record.balancer();
        let before = self.ipam.holding(key).cloned();
        let request = self.namespaces.allocation_request(balancer);
        let previous = previous_addresses(&self.ipam, record.observed(), record.outcome());
        let decision = decide(&mut self.ipam, &self.config, balancer, &request, &previous, &pending);
        if let AllocationOutcome::Allocated { holding, .. } = &decision.outcome
            && before.is_none_or(|before| !before.ips().eq(holding.ips()))
        {
            self.outbox.count_allocation();
        }
        self.waiting.set((record.created(), Waiter::Service(key.clone())), decision.triggers);
        let replacements = record.replacements();
        let verdict = verdict(&self.speakers, &self.config, record.balancer(), &decision.outcome);
        let is_unannounced = verdict.as_ref().is_some_and(|verdict| verdict.status != ConditionStatus::True);
        let (patch, events) = record.publish(decision.outcome, verdict, &mut self.ipam, now);
        self.holds.set(key, record.hold_timeout());
        if is_unannounced {
            self.unannounced.insert(key.clone());
        } else {
            self.unannounced.remove(key);
        }
        if record.replacements() > replacements {
            self.outbox.count_status_replacement();
        }
        let timeout = record.conflict_timeout();
        self.conflicts.set(key, timeout);
        if let (AllocationOutcome::Refused { reason, .. }, false) = (record.outcome(), events.is_empty()) {
            self.outbox.count_failure(*reason);
        }
        self.outbox.push_status(key.clone(), patch);
        self.outbox.push_events(events);
        // Also if the decision changed nothing: a change of pools may have released the addresses before.
        self.publish_claims_of(key, now);
    }

    /// Returns when to call [`Allocations::handle_conflicts`].
    pub(super) fn next_conflict(&self) -> Option<Timestamp> {
        self.conflicts.next().into_iter().chain(self.holds.next()).min()
    }

    /// Reconciles the Services whose status another program replaced and that may be written again, and
    /// publishes those whose conditions were kept long enough.
    pub(super) fn handle_conflicts(&mut self, now: Timestamp) {
        for service in self.holds.take_due(now) {
            self.publish_announcements(&service, now);
        }
        for service in self.conflicts.take_due(now) {
            self.reconcile_service(&service, now);
        }
    }

    /// Reconciles a Service that lacks an address.
    pub(super) fn reconcile_if_waiting(&mut self, key: &ObjectKey, now: Timestamp) {
        if self.ipam.holding(key).is_none() || self.waiting.contains(&Waiter::Service(key.clone())) {
            self.reconcile_service(key, now);
        }
    }

    /// Decides on a claim, then on its Service if that lacks an address, and publishes the decision.
    pub(super) fn reconcile_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        if let Some(service) = self.reserve_claim(key) {
            self.reconcile_if_waiting(&service, now);
            self.publish_claim(key, now);
        }
    }

    /// Publishes the statuses of the claims for a Service after the addresses of the Service changed.
    pub(super) fn publish_claims_of(&mut self, service: &ObjectKey, now: Timestamp) {
        let claims: Vec<ObjectKey> = self.claims.of_service(service).cloned().collect();
        for key in claims {
            // A claim may reserve addresses that its Service holds.
            if self.claims.get(&key).is_some_and(|record| record.refusal().is_some()) {
                self.reserve_claim(&key);
            }
            self.publish_claim(&key, now);
        }
    }

    /// Reserves the addresses that the status of a claim lists, if the claim is complete or incomplete as
    /// given.
    fn adopt_claim(&mut self, key: &ObjectKey, complete: bool) {
        let Some(claim) = self.claims.get(key).map(|record| record.claim()) else { return };
        if claim.is_partly_reserved() && claim.is_fully_reserved() == complete {
            self.ipam.adopt_claim(claim);
        }
    }

    /// Reserves the addresses that a claim asks for, if they are available. Returns the Service that it is
    /// for, unless the decision must wait for the Namespace.
    fn reserve_claim(&mut self, key: &ObjectKey) -> Option<ObjectKey> {
        let priority = self.claims.priority(key)?;
        if self.namespaces.must_wait_for(&key.namespace, &self.config) {
            self.waiting.set(priority, vec![RetryTrigger::PoolsChanged]);
            return None;
        }
        let claim = self.claims.get(key)?.claim();
        let service = claim.service.clone();
        let decision = claim_decision::reserve(&mut self.ipam, claim, self.namespaces.labels(&key.namespace));
        self.claims.set_refusal(key, decision.refusal);
        self.waiting.set(priority, decision.triggers);
        Some(service)
    }

    /// Publishes the status of a claim.
    pub(super) fn publish_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(record) = self.claims.get(key) else { return };
        let service_exists = self.services.contains(&record.claim().service);
        let patch = ClaimPatch::new(record, &self.ipam, service_exists, now);
        self.outbox.push_claim(key.clone(), patch);
    }
}
