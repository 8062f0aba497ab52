//! The difference between two configurations. A change of one object costs what it touches, not what the
//! configuration contains.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::config::{BgpAdvertisement, Config, L2Advertisement, Peer, Pool};

/// The objects of one kind that differ, by name: their new values, `None` for those that are removed.
pub type Differing<V> = BTreeMap<String, Option<V>>;

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConfigDelta {
    pub pools: Differing<Pool>,
    pub refused_pools: Differing<Pool>,
    pub other_pools: Differing<Pool>,
    pub l2_advertisements: Differing<L2Advertisement>,
    pub bgp_advertisements: Differing<BgpAdvertisement>,
    pub peers: Differing<Peer>,
    /// Pairs of a `BGPAdvertisement` and a pool, and whether the pair is withheld now.
    pub withheld: BTreeMap<(String, String), bool>,
}

impl ConfigDelta {
    /// Returns the difference between two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let (old_pairs, new_pairs) = (&old.lookup.withheld, &new.lookup.withheld);
        Self {
            pools: differing(&old.pools, &new.pools),
            refused_pools: differing(&old.refused_pools, &new.refused_pools),
            other_pools: differing(&old.other_pools, &new.other_pools),
            l2_advertisements: differing(&old.l2_advertisements, &new.l2_advertisements),
            bgp_advertisements: differing(&old.bgp_advertisements, &new.bgp_advertisements),
            peers: differing(&old.peers, &new.peers),
            withheld: old_pairs
                .symmetric_difference(new_pairs)
                .map(|pair| (pair.clone(), new_pairs.contains(pair)))
                .collect(),
        }
    }

    /// Returns the names of the pools that differ, in force or refused.
    pub fn pool_names(&self) -> BTreeSet<&str> {
        let names = self.pools.keys().chain(self.refused_pools.keys()).chain(self.other_pools.keys());
        names.map(String::as_str).collect()
    }

    /// Removes the peers of all load balancer classes but `class`. The speakers of one instance use only its
    /// own peers.
    pub fn keep_peers(&mut self, class: Option<&str>) {
        for peer in self.peers.values_mut() {
            peer.take_if(|peer| peer.class.as_deref() != class);
        }
    }

    /// Does to a difference what [`Config::keep_class`] does to a configuration.
    pub fn keep_class(&mut self, class: Option<&str>) {
        let is_own = |pool: &Pool| pool.class.as_deref() == class;
        for (name, pool) in &mut self.pools {
            let other = pool.take_if(|pool| !is_own(pool));
            self.other_pools.insert(name.clone(), other);
        }
        for pool in self.refused_pools.values_mut() {
            pool.take_if(|pool| !is_own(pool));
        }
    }
}

impl Config {
    /// Changes the objects that differ. Returns the difference that reverts this.
    pub fn apply(&mut self, delta: ConfigDelta) -> ConfigDelta {
        let pools = delta.pools.into_iter().map(|(name, pool)| {
            let previous = self.set_pool(&name, pool);
            (name, previous)
        });
        ConfigDelta {
            pools: pools.collect(),
            refused_pools: swap(&mut self.refused_pools, delta.refused_pools),
            other_pools: swap(&mut self.other_pools, delta.other_pools),
            l2_advertisements: swap(&mut self.l2_advertisements, delta.l2_advertisements),
            bgp_advertisements: swap(&mut self.bgp_advertisements, delta.bgp_advertisements),
            peers: swap(&mut self.peers, delta.peers),
            withheld: self.set_withheld(delta.withheld),
        }
    }

    fn set_withheld(&mut self, pairs: BTreeMap<(String, String), bool>) -> BTreeMap<(String, String), bool> {
        let withheld = &mut self.lookup.withheld;
        let previous = pairs.into_iter().map(|(pair, is_withheld)| {
            let was = if is_withheld { !withheld.insert(pair.clone()) } else { withheld.remove(&pair) };
            (pair, was)
        });
        previous.collect()
    }
}

fn differing<V: Clone + PartialEq>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>) -> Differing<V> {
    let removed = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), None));
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    removed.chain(changed.map(|(name, value)| (name.clone(), Some(value.clone())))).collect()
}

fn swap<V>(objects: &mut BTreeMap<String, V>, delta: Differing<V>) -> Differing<V> {
    let previous = delta.into_iter().map(|(name, value)| {
        let previous = match value {
            Some(value) => objects.insert(name.clone(), value),
            None => objects.remove(&name),
        };
        (name, previous)
    });
    previous.collect()
}
