//! Storing of observed objects. These methods decide nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::{Config, Labels, Pool};
use fairlead_crds::model::delta::ConfigDelta;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::{Affected, Allocations};
use crate::ipam::{NodeChange, NodeNetwork, OtherService, admits};
use crate::reconcile::coverage;
use crate::reconcile::external_write::is_external_claim_write;
use crate::reconcile::observed::ObservedService;
use crate::reconcile::pool_waiters::{Woken, concerns_all, woken};
use crate::reconcile::service_decision::refused_note;
use crate::reconcile::service_records::ExternalWriter;
use crate::reconcile::status_conflict::ConflictTimers;
use crate::reconcile::wait_queue::{WaitQueue, Waiter};

/// The effect of storing a claim.
#[derive(Debug)]
pub(in crate::reconcile) struct ClaimObservation {
    /// True if another controller wrote the addresses in its status.
    pub(in crate::reconcile) is_external: bool,
    /// The Service that the claim was for until now, if that is another one.
    pub(in crate::reconcile) former_service: Option<ObjectKey>,
}

impl Allocations {
    /// Advances the clock to `now` and frees the addresses whose cool-down has ended. Returns whether there
    /// are any.
    pub(in crate::reconcile) fn advance(&mut self, now: Timestamp) -> bool {
        let is_due = self.ipam.next_expiry().is_some_and(|due| due <= now);
        self.ipam.advance(now);
        is_due
    }

    /// Stores a Service. Returns the author of the addresses in its status if another one wrote them.
    pub(in crate::reconcile) fn observe_service(
        &mut self,
        observed: ObservedService,
    ) -> Option<ExternalWriter> {
        let balancer = &observed.balancer;
        let old = self.services.get(&balancer.key);
        if old.is_some_and(|record| record.balancer().uid != balancer.uid) {
            // Deleted and created again between two events. The addresses of the old one are free.
            self.remove_service(&balancer.key.clone());
        }
        self.services.observe(observed)
    }

    /// Removes a Service and releases its addresses.
    pub(in crate::reconcile) fn remove_service(&mut self, key: &ObjectKey) {
        self.ipam.release(key);
        self.waiting.remove(&Waiter::Service(key.clone()));
        self.conflicts.set(key, None);
        self.holds.set(key, None);
        self.unannounced.remove(key);
        if let Some((departed, reserved)) = self.services.remove(key) {
            for ip in reserved {
                self.ipam.unreserve(ip, key);
            }
            self.outbox.push_status(key.clone(), None);
            if departed.written.as_ref().is_some_and(|written| !written.is_empty()) {
                self.outbox.push_departed(departed);
            }
        }
    }

    /// Stores a Service of another class. It is no load balancer of this controller any more.
    pub(in crate::reconcile) fn observe_other(&mut self, other: OtherService) {
        self.remove_service(&other.key.clone());
        self.others.insert(other.key.clone(), other);
    }

    /// Removes a Service of another class. The addresses that it showed are free.
    pub(in crate::reconcile) fn remove_other(&mut self, key: &ObjectKey) {
        if self.others.remove(key).is_some() {
            self.ipam.remove_other(key);
        }
    }

    /// Returns the Services of other classes.
    pub(in crate::reconcile) fn others(&self) -> impl Iterator<Item = &ObjectKey> {
        self.others.keys()
    }

    /// Takes the addresses that a Service of another class shows.
    pub(in crate::reconcile) fn take_other(&mut self, key: &ObjectKey) {
        let Some(other) = self.others.get(key) else { return };
        let pools = other.addresses.iter().filter_map(|ip| self.ipam.pool_name_of(*ip));
        self.outbox.touch_pools(pools.map(Arc::from));
        self.ipam.set_other(other.clone());
    }

    /// Stores that no in-doubt write of a Service remains. Returns whether that changed reservations.
    pub(in crate::reconcile) fn resolve_writes(&mut self, service: &ObjectKey) -> bool {
        let record = self.services.get_mut(service);
        record.is_some_and(|record| record.resolve_writes(&mut self.ipam))
    }

    /// Stores a claim.
    pub(in crate::reconcile) fn observe_claim(&mut self, claim: Claim) -> ClaimObservation {
        let old = self.claims.get(&claim.key).map(|record| record.claim());
        let is_external = is_external_claim_write(old, &claim, self.ipam.claimed(&claim.key));
        let mut former_service = None;
        if old.is_some_and(|old| old.uid != claim.uid || old.service != claim.service) {
            former_service = self.remove_claim(&claim.key).filter(|service| *service != claim.service);
        }
        self.claims.insert(claim);
        ClaimObservation { is_external, former_service }
    }

    /// Removes a claim and its reservation. Returns the Service that it was for.
    pub(in crate::reconcile) fn remove_claim(&mut self, key: &ObjectKey) -> Option<ObjectKey> {
        let claim = self.claims.remove(key)?;
        self.ipam.unclaim(key);
        self.waiting.remove(&Waiter::Claim(key.clone()));
        self.outbox.push_claim(key.clone(), None);
        Some(claim.service)
    }

    /// Stores the labels of a Namespace. Returns the objects in it, if a pool may select the Namespace
    /// differently now.
    pub(in crate::reconcile) fn observe_namespace(
        &mut self,
        name: String,
        labels: Labels,
    ) -> Option<Affected> {
        let differs = self.namespaces.apply(name.clone(), labels, &self.config);
        differs.then(|| Affected {
            services: self.services.in_namespace(&name),
            claims: self.claims.in_namespace(&name),
        })
    }

    /// Removes a Namespace.
    pub(in crate::reconcile) fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Removes all other Namespaces.
    pub(in crate::reconcile) fn retain_namespaces(&mut self, names: &BTreeSet<&str>) {
        self.namespaces.retain(names);
    }

    /// Stores the network of a Node. Returns the Services that hold an address that it gained or lost.
    pub(in crate::reconcile) fn observe_node(&mut self, name: &str, network: NodeNetwork) -> Vec<ObjectKey> {
        let NodeChange { holders, pools } = self.ipam.set_node(name, network);
        self.outbox.touch_pools(pools);
        holders.into_iter().collect()
    }

    /// Stores the ranges of a ServiceCIDR.
    pub(in crate::reconcile) fn observe_service_ranges(&mut self, name: &str, ranges: BTreeSet<IpRange>) {
        let pools = self.ipam.set_service_ranges(name, ranges);
        self.outbox.touch_pools(pools);
    }

    /// Stores the configuration. See [`Allocations::observe_config_change`].
    pub(in crate::reconcile) fn observe_config(&mut self, config: &Config) -> (Affected, Woken) {
        self.observe_config_change(ConfigDelta::between(&self.config, config))
    }

    /// Stores a change of the configuration. Returns the holders of pools that differ or whose advertisements
    /// differ, and the waiting objects that the changed pools concern.
    pub(in crate::reconcile) fn observe_config_change(&mut self, delta: ConfigDelta) -> (Affected, Woken) {
        let named_pools = self.ipam.names_pools();
        let note = refused_note(&self.ipam);
        let mut covered: Vec<(String, Option<coverage::Coverage>)> = Vec::new();
        for pool in coverage::affected_pools(&self.config, &delta) {
            if self.ipam.holders_of(&pool).len() > 0 {
                let before = coverage::coverage(&self.config, &pool);
                covered.push((pool, before));
            }
        }
        let mut changes = self.ipam.change_pools(&delta.pools, &delta.refused_pools);
        self.config.apply(delta);
        let mut services: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut claims: BTreeSet<ObjectKey> = std::mem::take(&mut changes.claims);
        let mut concerned = Woken::default();
        if changes.any {
            self.outbox.touch_pools(changes.names.iter().cloned());
            let holders = changes.kept.iter().chain(&changes.evicted);
            services.extend(holders.map(|key| ObjectKey::clone(key)));
            if concerns_all(&changes, &self.ipam, named_pools) {
                for waiter in self.waiting.all() {
                    match waiter {
                        Waiter::Service(key) => services.insert(key.clone()),
                        Waiter::Claim(key) => claims.insert(key.clone()),
                    };
                }
            } else {
                let admits = |pool: &Pool, service: &ObjectKey| {
                    let balancer = self.services.get(service).map(|record| record.balancer());
                    balancer.is_some_and(|balancer| {
                        admits(pool, &self.namespaces.allocation_request(balancer)).is_ok()
                    })
                };
                let refused_differ = note != refused_note(&self.ipam);
                concerned = woken(&changes, &self.waiting, &self.ipam, admits, refused_differ);
            }
        }
        for (pool, before) in covered {
            if coverage::coverage(&self.config, &pool) != before {
                services.extend(self.ipam.holders_of(&pool).map(|key| ObjectKey::clone(key)));
            }
        }
        let affected =
            Affected { services: services.into_iter().collect(), claims: claims.into_iter().collect() };
        (affected, concerned)
    }

    /// Forgets all decisions and holders, but not the addresses of in-doubt writes.
    pub(in crate::reconcile) fn forget_decisions(&mut self) {
        self.ipam.forget_decisions();
        self.ipam.set_pools(&self.config.pools, &self.config.refused_pools);
        self.waiting = WaitQueue::default();
        self.conflicts = ConflictTimers::default();
        self.holds = ConflictTimers::default();
        self.unannounced.clear();
        self.outbox.discard();
        self.services.forget_decisions();
        self.claims.forget_decisions();
    }

    /// Drops the changes of addresses. To be called instead of [`Allocations::retry_waiters`] if this
    /// controller does not lead.
    pub(in crate::reconcile) fn discard_changes(&mut self) {
        self.ipam.take_changes();
    }
}
