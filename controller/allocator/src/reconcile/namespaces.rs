//! The labels of Namespaces.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::config::{Config, Labels};
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::LoadBalancer;

use crate::ipam::{AllocationRequest, Sharing};

/// The observed Namespaces and their labels.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    labels: BTreeMap<String, Labels>,
}

impl Namespaces {
    /// Returns the labels of a Namespace; `None` if it was not observed yet.
    pub(super) fn labels(&self, name: &str) -> Option<&Labels> {
        self.labels.get(name)
    }

    /// Returns true if a decision on objects of this Namespace must wait for its labels: they were not
    /// observed yet, and some pool selects by them. A decision without them could give a Service an address
    /// of a wrong pool, which it would then keep.
    pub(super) fn must_wait_for(&self, name: &str, config: &Config) -> bool {
        !self.labels.contains_key(name) && selectors(config).next().is_some()
    }

    /// Stores the labels of a Namespace. Returns true if a pool selects by them and may select differently
    /// now.
    pub(super) fn apply(&mut self, name: String, labels: Labels, config: &Config) -> bool {
        let new = labels.clone();
        let old = self.labels.insert(name, labels);
        let differs = |s: &Selector| old.as_ref().is_none_or(|old| s.matches(old) != s.matches(&new));
        selectors(config).any(differs)
    }

    /// Removes a Namespace.
    pub(super) fn remove(&mut self, name: &str) {
        self.labels.remove(name);
    }

    /// Removes all other Namespaces.
    pub(super) fn retain(&mut self, names: &BTreeSet<&str>) {
        self.labels.retain(|name, _| names.contains(name.as_str()));
    }

    /// Returns the facts of a Service that the allocator needs.
    pub(crate) fn allocation_request<'a>(&'a self, balancer: &'a LoadBalancer) -> AllocationRequest<'a> {
        AllocationRequest {
            service: &balancer.key,
            labels: &balancer.labels,
            namespace_labels: self.labels.get(&balancer.key.namespace),
            sharing: Sharing::of(balancer),
        }
    }
}

/// Returns the selectors of Namespaces in all pools in force.
fn selectors(config: &Config) -> impl Iterator<Item = &Selector> {
    let allocations = config.pools.values().filter_map(|pool| pool.allocation.as_ref());
    allocations.flat_map(|allocation| &allocation.namespace_selectors)
}
