//! Address pools and their selection.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::range::IpRange;
use crate::model::selector::Selector;

/// A pool of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pool {
    pub name: String,
    /// For the pool selectors of advertisements.
    pub labels: Labels,
    /// Disjoint ranges in the order of the object, which is the order of allocation.
    pub ranges: Vec<IpRange>,
    /// True if Services that do not request a pool may get addresses of this pool.
    pub auto_assign: bool,
    /// True if IPv4 addresses that end in .0 or .255 are not allocated.
    pub avoid_buggy_ips: bool,
    /// The Services that may use the pool; `None` means all Services.
    pub allocation: Option<ServiceAllocation>,
    pub reclaim: Reclaim,
    /// The reason why no addresses are allocated from the pool; `None` if it is open.
    pub closed: Option<Closed>,
    /// The cool-down of released addresses.
    pub reuse_after: Duration,
    pub sharing: SharingScope,
    /// The load balancer class of the instance that uses the pool; `None` is the instance without a class.
    pub class: Option<String>,
}

/// Determines what happens to an address that its pool no longer offers to the Service that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// The Service keeps the address until it releases it.
    #[default]
    Retain,
    /// The Service loses the address and gets another one, as in MetalLB.
    Reassign,
}

/// The reason why a pool allocates no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `spec.disabled` is true.
    Disabled,
    /// The pool is being deleted. The deletion waits until all addresses are released.
    Deleting,
}

/// The Services with the same sharing key that may share an address of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharingScope {
    /// Services of one namespace.
    SameNamespace,
    /// All Services.
    #[default]
    AnyNamespace,
}

/// The Services that may use a pool, and its priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first, pools with 0 last.
    pub priority: u32,
    /// Namespaces by name, in addition to those that `namespace_selectors` match.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label; one matching selector suffices.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label; one matching selector suffices, and an empty list matches every Service.
    pub service_selectors: Vec<Selector>,
}

/// The pools that an advertisement covers: all pools if both fields are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSelection {
    /// Pools by name.
    pub names: BTreeSet<String>,
    /// Pools by label; one matching selector suffices.
    pub selectors: Vec<Selector>,
}

impl Pool {
    /// Returns a pool with these ranges and the defaults of all other fields.
    pub fn new(name: impl Into<String>, ranges: Vec<IpRange>) -> Self {
        Self {
            name: name.into(),
            labels: Labels::new(),
            ranges,
            auto_assign: true,
            avoid_buggy_ips: false,
            allocation: None,
            reclaim: Reclaim::default(),
            closed: None,
            reuse_after: Duration::ZERO,
            sharing: SharingScope::default(),
            class: None,
        }
    }
}

impl PoolSelection {
    /// Returns true if the pool is selected.
    pub fn covers(&self, pool: &Pool) -> bool {
        (self.names.is_empty() && self.selectors.is_empty())
            || self.names.contains(&pool.name)
            || self.selectors.iter().any(|selector| selector.matches(&pool.labels))
    }
}
