//! Which pools a Service may use, and in which order they are tried.

use std::sync::Arc;

use fairlead_crds::config::{Labels, Pool};
use fairlead_crds::selector::any_or_empty;

use super::Demand;

/// Why a pool does not admit a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The Service's namespace is not among those of the pool.
    Namespace,
    /// No service selector of the pool matches the Service's labels.
    Labels,
}

impl NotAdmitted {
    /// What the pool demands, for an operator.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Namespace => "is not open to this namespace",
            Self::Labels => "is not open to Services with these labels",
        }
    }
}

/// Whether `pool` is open to the Service. Restricting a pool to something that matches nothing opens it to nobody.
pub(super) fn admits(pool: &Pool, demand: &Demand<'_>) -> Result<(), NotAdmitted> {
    let Some(allocation) = &pool.allocation else { return Ok(()) };
    let everywhere = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
    let no_labels = Labels::new();
    let labels = demand.namespace_labels.unwrap_or(&no_labels);
    if !everywhere
        && !allocation.namespaces.contains(&demand.service.namespace)
        && !allocation.namespace_selectors.iter().any(|s| s.matches(labels))
    {
        return Err(NotAdmitted::Namespace);
    }
    if !any_or_empty(&allocation.service_selectors, demand.labels) {
        return Err(NotAdmitted::Labels);
    }
    Ok(())
}

/// Names of the pools that may be used without being named: first those with a `serviceAllocation`, by priority
/// (0 last) and name, then the rest by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) pinned: Vec<Arc<str>>,
    pub(super) unpinned: Vec<Arc<str>>,
}

impl Order {
    pub(super) fn of<'a>(pools: impl Iterator<Item = (&'a Arc<str>, &'a Pool)>) -> Self {
        let mut pinned = Vec::new();
        let mut unpinned = Vec::new();
        for (name, pool) in pools.filter(|(_, pool)| pool.auto_assign) {
            match &pool.allocation {
                Some(a) => pinned.push((a.priority.checked_sub(1).unwrap_or(u32::MAX), name.clone())),
                None => unpinned.push(name.clone()),
            }
        }
        pinned.sort();
        unpinned.sort();
        Self { pinned: pinned.into_iter().map(|(_, name)| name).collect(), unpinned }
    }
}
