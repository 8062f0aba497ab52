//! Address pools and their selection.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::range::IpRange;
use crate::model::selector::Selector;

/// A pool of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Object name.
    pub name: String,
    /// Labels, for the pool selectors of advertisements.
    pub labels: Labels,
    /// Disjoint ranges in the order the object lists them; that is the order of allocation.
    pub ranges: Vec<IpRange>,
    /// May be used for a Service that names no pool.
    pub auto_assign: bool,
    /// Skip IPv4 addresses that end in .0 or .255.
    pub avoid_buggy_ips: bool,
    /// Who may use the pool; `None` means everybody.
    pub allocation: Option<ServiceAllocation>,
    /// What becomes of an address that the pool no longer offers to its holder.
    pub reclaim: Reclaim,
    /// Why nothing more is given from the pool; `None` means it is open.
    pub closed: Option<Closed>,
    /// How long a released address is kept for the Service that had it.
    pub reuse_after: Duration,
    /// Which Services may share an address.
    pub sharing: SharingScope,
}

/// What becomes of an address that its pool no longer offers to the Service that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// The Service keeps it until it releases it.
    #[default]
    Retain,
    /// It is taken away, and another one given. What MetalLB does.
    Reassign,
}

/// Why a pool gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `spec.disabled`.
    Disabled,
    /// It is being deleted, which waits for those who hold addresses of it.
    Deleting,
}

/// Which Services with the same sharing key may share an address of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharingScope {
    /// Those of one namespace.
    SameNamespace,
    /// All.
    #[default]
    AnyNamespace,
}

/// Which Services may use a pool, and in which order pools are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Lower is tried first; 0 is last.
    pub priority: u32,
    /// Namespaces by name. United with what `namespace_selectors` match.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label; any one suffices.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label; any one suffices, none listed means every Service.
    pub service_selectors: Vec<Selector>,
}

/// Which pools an advertisement covers. With both empty: every pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSelection {
    /// Pools by name.
    pub names: BTreeSet<String>,
    /// Pools by label; any one suffices.
    pub selectors: Vec<Selector>,
}

impl Pool {
    /// A pool as it is when an object says nothing but its addresses: open to everybody.
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
        }
    }
}

impl PoolSelection {
    /// Whether the pool is selected.
    pub fn covers(&self, pool: &Pool) -> bool {
        (self.names.is_empty() && self.selectors.is_empty())
            || self.names.contains(&pool.name)
            || self.selectors.iter().any(|selector| selector.matches(&pool.labels))
    }
}
