//! The Services of our class and the addresses that they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;

use crate::dirty::DirtySet;
use crate::input::Service;

/// All Services of our class.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_key: BTreeMap<Arc<ObjectKey>, Service>,
    /// The Services that hold each address, sorted; several if they share it.
    holders: BTreeMap<IpAddr, Vec<Arc<ObjectKey>>>,
    /// The Services whose addresses were allocated from each pool.
    by_pool: BTreeMap<String, BTreeSet<Arc<ObjectKey>>>,
}

impl Services {
    /// Stores a Service and marks what depends on it. Returns its key if it changed.
    pub(crate) fn apply(
        &mut self,
        key: ObjectKey,
        mut service: Service,
        dirty: &mut DirtySet,
    ) -> Option<Arc<ObjectKey>> {
        let mut seen = BTreeSet::new();
        service.addresses.retain(|address| seen.insert(*address));
        let key = match self.by_key.get_key_value(&key) {
            Some((_, known)) if *known == service => return None,
            Some((known, _)) => known.clone(),
            None => Arc::new(key),
        };
        if let Some(old) = self.by_key.remove(&key) {
            self.release_addresses(&key, &old, dirty);
        }
        for address in &service.addresses {
            let holders = self.holders.entry(*address).or_default();
            if let Err(at) = holders.binary_search(&key) {
                holders.insert(at, key.clone());
            }
        }
        for pool in service.pools() {
            self.by_pool.entry(pool.to_owned()).or_default().insert(key.clone());
        }
        dirty.mark_addresses(service.addresses.iter().copied());
        dirty.mark_service(&key);
        self.by_key.insert(key.clone(), service);
        Some(key)
    }

    /// Removes a Service and marks its addresses.
    pub(crate) fn delete(&mut self, key: &ObjectKey, dirty: &mut DirtySet) {
        if let Some((key, old)) = self.by_key.remove_entry(key) {
            self.release_addresses(&key, &old, dirty);
            dirty.unmark_service(&key);
        }
    }

    /// Marks the routes of a Service and the owners of its addresses.
    pub(crate) fn mark(&self, key: &ObjectKey, dirty: &mut DirtySet) {
        if let Some((key, service)) = self.by_key.get_key_value(key) {
            dirty.mark_addresses(service.addresses.iter().copied());
            dirty.mark_service(key);
        }
    }

    /// Marks the addresses in a range and the Services that hold them.
    pub(crate) fn mark_range(&self, range: &IpRange, dirty: &mut DirtySet) {
        for (address, holders) in self.holders.range(range.first()..=range.last()) {
            dirty.mark_addresses([*address]);
            holders.iter().for_each(|key| dirty.mark_service(key));
        }
    }

    /// Marks the Services whose addresses were allocated from a pool.
    pub(crate) fn mark_allocated_from(&self, pool: &str, dirty: &mut DirtySet) {
        for key in self.by_pool.get(pool).into_iter().flatten() {
            self.mark(key, dirty);
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Service> {
        self.by_key.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.by_key.keys()
    }

    /// Returns every address that a Service holds.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.holders.keys().copied()
    }

    /// Returns the Services that hold an address, sorted.
    pub(crate) fn holders(&self, address: IpAddr) -> &[Arc<ObjectKey>] {
        self.holders.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    fn release_addresses(&mut self, key: &Arc<ObjectKey>, service: &Service, dirty: &mut DirtySet) {
        for address in &service.addresses {
            if let Some(holders) = self.holders.get_mut(address) {
                holders.retain(|other| other != key);
                if holders.is_empty() {
                    self.holders.remove(address);
                }
            }
        }
        for pool in service.pools() {
            if let Some(services) = self.by_pool.get_mut(pool) {
                services.remove(key);
                if services.is_empty() {
                    self.by_pool.remove(pool);
                }
            }
        }
        dirty.mark_addresses(service.addresses.iter().copied());
    }
}
