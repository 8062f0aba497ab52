//! What a change of configuration touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Pool, PoolSelection};

use super::plan::Plan;

impl Plan {
    /// This is the configuration.
    pub fn set_config(&mut self, new: Config) {
        let old = std::mem::replace(&mut self.config, new);
        self.dirty.peers |= old.peers != self.config.peers;
        self.dirty.candidates |= old.l2_advertisements != self.config.l2_advertisements;
        self.touch_pools(&old);
        self.interned.retain(|attributes| Arc::strong_count(attributes) > 1);
    }

    /// Marks the addresses in all pools that changed, or whose advertisements did.
    fn touch_pools(&mut self, old: &Config) {
        let new = &self.config;
        let mut selections: Vec<&PoolSelection> = Vec::new();
        for ads in differing(&old.l2_advertisements, &new.l2_advertisements) {
            selections.extend(ads.into_iter().flatten().map(|ad| &ad.pools));
        }
        for ads in differing(&old.bgp_advertisements, &new.bgp_advertisements) {
            selections.extend(ads.into_iter().flatten().map(|ad| &ad.pools));
        }
        let withheld: BTreeSet<&str> = old
            .lookup
            .withheld
            .symmetric_difference(&new.lookup.withheld)
            .map(|(_, pool)| pool.as_str())
            .collect();
        let concerned = |pool: &&Pool| {
            withheld.contains(pool.name.as_str()) || selections.iter().any(|selection| selection.covers(pool))
        };

        let changed = differing(&old.pools, &new.pools).flatten().flatten();
        let covered = old.pools.values().chain(new.pools.values()).filter(concerned);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for pool in changed.chain(covered) {
            names.insert(&pool.name);
            for (address, state) in
                pool.ranges.iter().flat_map(|range| self.addresses.range(range.first()..=range.last()))
            {
                self.dirty.addresses.insert(*address);
                self.dirty.services.extend(state.services.iter().cloned());
            }
        }

        // What is held of a pool hangs on its name, too: its ranges may be the very thing that was edited.
        let changed = differing(&old.refused_pools, &new.refused_pools).flatten().flatten();
        let covered = old.refused_pools.values().chain(new.refused_pools.values()).filter(concerned);
        names.extend(changed.chain(covered).map(|pool| pool.name.as_str()));
        if names.is_empty() {
            return;
        }
        for (key, entry) in &self.services {
            if entry.service.pools().any(|name| names.contains(name)) {
                self.dirty.addresses.extend(&entry.service.addresses);
                self.dirty.services.insert(key.clone());
            }
        }
    }
}

/// The entries that differ between two maps, each as it was before and is after.
fn differing<'a, V: PartialEq>(
    old: &'a BTreeMap<String, V>,
    new: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = [Option<&'a V>; 2]> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().map(|name| [old.get(name), new.get(name)]).filter(|[before, after]| before != after)
}
