//! What status each Service should have.
//!
//! [`Index`] follows Services, Namespaces and the configuration by three verbs: applied, deleted, reset (a complete
//! list). After each it says what is to be written; with nothing to write it says nothing. It is pure: tests feed
//! it typed objects and look at the patches.
//!
//! Nothing is decided until everything was listed once: only then is known who holds which address. First all held
//! addresses are taken note of, then the rest is decided, oldest Service first. From then on the index itself
//! knows who holds what, and a Service whose status says otherwise is put right.

mod converge;
pub mod objects;
mod record;
mod request;
mod service;
mod status;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::config::{Config, Labels, Pool};
use fairlead_crds::selector::Selector;
use fairlead_crds::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use crate::ipam::{Demand, Family, Holding, Ipam, Sharing};

pub use service::Observed;
pub use status::{Event, Reason, StatusPatch};

use record::Record;
use waiting::{Age, For, Waiting};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Index {
    listed: Listed,
    config: Config,
    namespaces: BTreeMap<String, Labels>,
    services: BTreeMap<ObjectKey, Record>,
    ipam: Ipam,
    waiting: Waiting,
    decisions: Vec<Decision>,
    /// Pools whose counts may have changed.
    touched: BTreeSet<Arc<str>>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    services: bool,
    namespaces: bool,
    config: bool,
    /// The first pass is done.
    decided: bool,
}

/// What a Service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing can be said yet.
    #[default]
    Undecided,
    /// It has addresses.
    Allocated {
        /// Which.
        holding: Holding,
        /// Their pool is refused; it keeps them all the same.
        pool_refused: bool,
        /// An advertisement covers them.
        covered: bool,
        /// What it asks for cannot be understood, so it keeps what it has.
        invalid_request: Option<String>,
    },
    /// It has none.
    Refused {
        /// Why, in one word.
        reason: Reason,
        /// Why, in a sentence.
        message: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The newest word on what is to be written to a Service. It replaces any earlier one that has not been sent.
    Status {
        /// The Service.
        service: ObjectKey,
        /// What to write; `None`: nothing.
        patch: Option<Box<StatusPatch>>,
    },
    /// Something to tell whoever looks at the Service.
    Event(Box<Event>),
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Services looked at. One event looks at one Service and at those that wait for what it frees.
    pub evaluations: u64,
    /// Services that got an address they did not have.
    pub allocations: u64,
    /// Services that were refused one, by reason; a refusal that stays the same counts once.
    pub failures: BTreeMap<Reason, u64>,
}

impl Index {
    /// Whether everything was listed and the first pass is done.
    pub fn is_ready(&self) -> bool {
        self.listed.decided
    }

    /// Who holds what.
    pub fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many Services are known, and how many of them wait for an address.
    pub fn service_counts(&self) -> (usize, usize) {
        (self.services.len(), self.waiting.len())
    }

    /// What is to be done, in order.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// Pools whose counts may have changed since the last call.
    pub fn take_touched_pools(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.touched)
    }

    /// A Service of ours is new or changed.
    pub fn service_applied(&mut self, observed: Observed, now: Timestamp) {
        let key = observed.balancer.key.clone();
        self.take_in(observed);
        if self.listed.decided {
            self.adopt(&key);
            self.converge(&key, now);
            self.settle(now);
        }
    }

    /// Nothing that was decided on a Service is waiting to be written any more or can still arrive.
    pub fn nothing_on_the_way(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(record) = self.services.get_mut(key) else { return };
        if !record.promised.is_empty() {
            record.promised.clear();
            record.depart(&mut self.ipam);
            self.settle(now);
        }
    }

    /// A Service is gone, or is no longer ours.
    pub fn service_deleted(&mut self, key: &ObjectKey, now: Timestamp) {
        self.forget(key);
        self.settle(now);
    }

    /// All Services of ours.
    pub fn services_reset(&mut self, list: Vec<Observed>, now: Timestamp) {
        self.listed.services = true;
        let there: BTreeSet<&ObjectKey> = list.iter().map(|observed| &observed.balancer.key).collect();
        let gone: Vec<ObjectKey> = self.services.keys().filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        let keys: Vec<ObjectKey> = list.iter().map(|observed| observed.balancer.key.clone()).collect();
        for observed in list {
            self.take_in(observed);
        }
        if self.listed.decided {
            self.pass(keys, now);
        } else {
            self.first_pass(now);
        }
    }

    /// A Namespace is new or changed.
    pub fn namespace_applied(&mut self, name: String, labels: Labels, now: Timestamp) {
        let old = self.namespaces.insert(name.clone(), labels);
        let new = &self.namespaces[&name];
        let matches = |s: &Selector| old.as_ref().is_none_or(|old| s.matches(old) != s.matches(new));
        // Only what a pool selects by makes a difference to anybody.
        if self.listed.decided && self.namespace_selectors().any(matches) {
            let first = ObjectKey { namespace: name.clone(), name: String::new() };
            let inside = self.services.range(first..).map(|(key, _)| key);
            let keys: Vec<ObjectKey> = inside.take_while(|key| key.namespace == name).cloned().collect();
            self.pass(keys, now);
        }
    }

    /// A Namespace is gone. Its Services went before it.
    pub fn namespace_deleted(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// All Namespaces.
    pub fn namespaces_reset(&mut self, list: Vec<(String, Labels)>, now: Timestamp) {
        self.listed.namespaces = true;
        let there: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        self.namespaces.retain(|name, _| there.contains(name.as_str()));
        for (name, labels) in list {
            if self.namespaces.get(&name) != Some(&labels) {
                self.namespace_applied(name, labels, now);
            }
        }
        self.first_pass(now);
    }

    /// The configuration is known, or another. Costs the holders of what differs, and those who wait.
    pub fn set_config(&mut self, config: Config, now: Timestamp) {
        self.listed.config = true;
        let old = std::mem::replace(&mut self.config, config);
        let Config { pools, refused_pools, .. } = &self.config;
        let changes = self.ipam.set_pools(pools, refused_pools);
        if changes.any {
            self.touched.extend(pools.keys().chain(refused_pools.keys()).map(|name| name.as_str().into()));
        }
        if !self.listed.decided {
            return self.first_pass(now);
        }
        let mut keys: BTreeSet<ObjectKey> = BTreeSet::new();
        if changes.any {
            let holders = changes.kept.into_iter().chain(changes.evicted);
            keys.extend(holders.map(|key| ObjectKey::clone(&key)));
            keys.extend(self.waiting.on(&For::Config).map(|(_, key)| key.clone()));
        }
        for pool in self.config.pools.values().chain(self.config.refused_pools.values()) {
            if old.pool(&pool.name).is_none_or(|then| coverage(&old, then) != coverage(&self.config, pool)) {
                keys.extend(self.ipam.holders_of(&pool.name).into_iter().map(|key| ObjectKey::clone(&key)));
            }
        }
        self.pass(keys.into_iter().collect(), now);
    }

    /// Decides everything for the first time, once everything is known.
    fn first_pass(&mut self, now: Timestamp) {
        let Listed { services, namespaces, config, decided } = self.listed;
        if decided || !(services && namespaces && config) {
            return;
        }
        self.listed.decided = true;
        let keys: Vec<ObjectKey> = self.services.keys().cloned().collect();
        self.pass(keys, now);
    }

    /// Looks at several Services: first takes note of what each holds, then decides, oldest first.
    fn pass(&mut self, keys: Vec<ObjectKey>, now: Timestamp) {
        let mut by_age: Vec<Age> =
            keys.into_iter().filter_map(|key| Some((self.services.get(&key)?.created(), key))).collect();
        by_age.sort();
        for (_, key) in &by_age {
            self.adopt(key);
        }
        for (_, key) in &by_age {
            self.converge(key, now);
        }
        self.settle(now);
    }

    /// Lets those try again who wait for something that has happened, until nothing more happens.
    fn settle(&mut self, now: Timestamp) {
        if !self.listed.decided {
            self.ipam.take_changes();
            return;
        }
        loop {
            let changes = self.ipam.take_changes();
            if changes.is_empty() {
                return;
            }
            let mut again: BTreeSet<Age> = BTreeSet::new();
            let mut freed: BTreeSet<(Arc<str>, Family)> = BTreeSet::new();
            for change in changes {
                self.touched.insert(change.pool.clone());
                again.extend(self.waiting.on(&For::Address(change.address)).cloned());
                if let Some(group) = change.shared {
                    again.extend(self.waiting.on(&For::Join(change.pool.clone(), group)).cloned());
                }
                if change.free {
                    freed.insert((change.pool, Family::of(change.address)));
                }
            }
            for (_, key) in again {
                self.converge(&key, now);
            }
            for (pool, family) in freed {
                self.hand_out(&pool, family, now);
            }
        }
    }

    /// Gives what is free in a pool to those who wait for it, oldest first. Each is tried once.
    fn hand_out(&mut self, pool: &Arc<str>, family: Family, now: Timestamp) {
        let mut last: Option<Age> = None;
        while self.ipam.counts(pool, family).available() > 0 {
            let Some(next) = self.waiting.after(&For::Free(pool.clone(), family), last.as_ref()).cloned()
            else {
                return;
            };
            self.converge(&next.1, now);
            last = Some(next);
        }
    }

    fn namespace_selectors(&self) -> impl Iterator<Item = &Selector> {
        let allocations = self.config.pools.values().filter_map(|pool| pool.allocation.as_ref());
        allocations.flat_map(|allocation| &allocation.namespace_selectors)
    }
}

/// The facts of a Service that the allocator needs.
fn demand<'a>(namespaces: &'a BTreeMap<String, Labels>, balancer: &'a LoadBalancer) -> Demand<'a> {
    Demand {
        service: &balancer.key,
        labels: &balancer.labels,
        namespace_labels: namespaces.get(&balancer.key.namespace),
        sharing: Sharing::of(balancer),
    }
}

/// What decides which Services of a pool are covered by an advertisement.
fn coverage<'a>(config: &'a Config, pool: &'a Pool) -> BTreeSet<(bool, &'a str, Vec<String>)> {
    let selectors = |list: &[Selector]| list.iter().map(|s| format!("{s:?}")).collect();
    let l2 = config.l2_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let bgp = config.bgp_advertisements.values().filter(|ad| {
        ad.pools.covers(pool) && !config.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    });
    let l2 = l2.map(|ad| (false, ad.name.as_str(), selectors(&ad.service_selectors)));
    l2.chain(bgp.map(|ad| (true, ad.name.as_str(), selectors(&ad.service_selectors)))).collect()
}

/// Addresses in the order of the families.
fn in_order(mut addresses: Vec<IpAddr>, first: Family) -> Vec<IpAddr> {
    addresses.sort_by_key(|ip| Family::of(*ip) != first);
    addresses
}
