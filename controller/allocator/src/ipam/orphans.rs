//! Part of [`Ipam`]: pools that disappeared together with all others, while they were in use.
//!
//! If the custom resource definitions are deleted and installed again, all pools disappear at once and come
//! back one after the other. Their holders keep their addresses meanwhile, as those of a refused pool.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Ipam;

/// The names of the pools that disappeared, until a pool of that name exists again.
#[derive(Clone, Debug, Default)]
pub(super) struct Orphans(BTreeSet<Arc<str>>);

impl Ipam {
    /// Lets the holders of a pool that does not exist keep its addresses, if no pool exists that is not being
    /// deleted.
    pub(super) fn keep_orphans_of(&mut self, pool: &Arc<str>) {
        if self.pools.none_stays() {
            self.orphans.0.insert(pool.clone());
        }
    }

    /// Lets the holders of a pool that does not exist keep its addresses. Their statuses say that they retain
    /// them.
    pub fn adopt_orphans_of(&mut self, pool: &Arc<str>, is_retained: bool) {
        if self.pool_exists(pool) {
            return;
        }
        if is_retained {
            self.orphans.0.insert(pool.clone());
        }
        self.keep_orphans_of(pool);
    }

    /// Forgets the pools that exist again.
    pub(super) fn review_orphans(&mut self) {
        let pools = &self.pools;
        self.orphans.0.retain(|pool| pools.name(pool).is_none());
    }

    /// Returns the pool that still owns an address of a pool that does not exist.
    pub(super) fn orphaned(&self, of: Option<&str>) -> Option<Arc<str>> {
        self.orphans.0.get(of?).cloned()
    }

    /// Returns whether a pool of this name exists, in force or refused.
    pub(super) fn pool_exists(&self, name: &str) -> bool {
        self.pools.name(name).is_some()
    }
}
