//! Which pools a change of the configuration affects.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::config::{Config, Pool, PoolSelection};
use fairlead_crds::model::range::IpRange;

/// The pools that changed, or whose advertisements did.
#[derive(Debug)]
pub(crate) struct AffectedPools<'a> {
    /// Their ranges, before and after the change.
    pub(crate) ranges: Vec<&'a IpRange>,
    /// Their names. Addresses allocated from a pool may be outside its ranges, which can be what was edited.
    pub(crate) names: BTreeSet<&'a str>,
}

/// Compares two configurations.
pub(crate) fn affected_pools<'a>(old: &'a Config, new: &'a Config) -> AffectedPools<'a> {
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
    let readvertised = |pool: &&Pool| {
        withheld.contains(pool.name.as_str()) || selections.iter().any(|selection| selection.covers(pool))
    };

    let changed = differing(&old.pools, &new.pools).flatten().flatten();
    let covered = old.pools.values().chain(new.pools.values()).filter(readvertised);
    let mut affected = AffectedPools { ranges: Vec::new(), names: BTreeSet::new() };
    for pool in changed.chain(covered) {
        affected.names.insert(&pool.name);
        affected.ranges.extend(&pool.ranges);
    }
    let changed = differing(&old.refused_pools, &new.refused_pools).flatten().flatten();
    let covered = old.refused_pools.values().chain(new.refused_pools.values()).filter(readvertised);
    affected.names.extend(changed.chain(covered).map(|pool| pool.name.as_str()));
    affected
}

/// Returns the entries that differ between two maps, each before and after the change.
fn differing<'a, V: PartialEq>(
    old: &'a BTreeMap<String, V>,
    new: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = [Option<&'a V>; 2]> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().map(|name| [old.get(name), new.get(name)]).filter(|[before, after]| before != after)
}
