//! The addresses that this node does not serve, and therefore must not attract by an aggregate.
//!
//! An aggregate attracts traffic for every address in it. Under the traffic policy `Local`, a node drops the
//! traffic for an address without an endpoint on that node. A node therefore announces an aggregate only if
//! it serves every address in it that any node serves. Otherwise it announces host routes for the addresses
//! that it does serve, so that a Service cannot make the addresses of another one unreachable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use ipnet::IpNet;

/// The addresses that some node announces, and this node does not serve.
#[derive(Debug, Default)]
pub(crate) struct UnservedAddresses {
    /// The addresses of each Service. Services without such an address have no entry.
    by_service: BTreeMap<Arc<ObjectKey>, Box<[IpAddr]>>,
    /// Number of Services, by address; at least one.
    holders: BTreeMap<IpAddr, usize>,
    /// Addresses that were added or removed.
    changed: BTreeSet<IpAddr>,
}

impl UnservedAddresses {
    /// Replaces the addresses of a Service.
    pub(crate) fn set(&mut self, key: &Arc<ObjectKey>, addresses: Vec<IpAddr>) {
        // First the new ones, then the old ones: an address that stays never counts down to zero.
        for address in &addresses {
            let count = self.holders.entry(*address).or_default();
            *count += 1;
            if *count == 1 {
                self.changed.insert(*address);
            }
        }
        let old = if addresses.is_empty() {
            self.by_service.remove(&**key)
        } else {
            self.by_service.insert(key.clone(), addresses.into())
        };
        self.count_down(&old.unwrap_or_default());
    }

    /// Removes a Service.
    pub(crate) fn release(&mut self, key: &ObjectKey) {
        if let Some(old) = self.by_service.remove(key) {
            self.count_down(&old);
        }
    }

    /// Returns true if a prefix contains an unserved address.
    pub(crate) fn any_in(&self, prefix: IpNet) -> bool {
        self.of(prefix).next().is_some()
    }

    /// Takes the prefixes for which [`UnservedAddresses::any_in`] may differ from the last call.
    /// `aggregates` returns the prefixes that matter to an address.
    pub(crate) fn take_changed(&mut self, aggregates: impl Fn(IpAddr) -> Vec<IpNet>) -> BTreeSet<IpNet> {
        let changed = std::mem::take(&mut self.changed);
        let mut prefixes: BTreeSet<IpNet> = changed.iter().flat_map(|address| aggregates(*address)).collect();
        // Another address makes no difference if one remained all the time.
        prefixes.retain(|prefix| self.of(*prefix).all(|address| changed.contains(address)));
        prefixes
    }

    fn of(&self, prefix: IpNet) -> impl Iterator<Item = &IpAddr> {
        let range = IpRange::from(prefix);
        self.holders.range(range.first()..=range.last()).map(|(address, _)| address)
    }

    fn count_down(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            let Some(count) = self.holders.get_mut(address) else { continue };
            *count -= 1;
            if *count == 0 {
                self.holders.remove(address);
                self.changed.insert(*address);
            }
        }
    }
}
