//! Which pools a change of the configuration affects.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::config::{Config, Pool, PoolSelection};
use fairlead_crds::model::delta::{ConfigDelta, Differing};
use fairlead_crds::model::range::IpRange;

/// The pools that changed, or whose advertisements did.
#[derive(Debug)]
pub(crate) struct AffectedPools<'a> {
    /// Their ranges, before and after the change.
    pub(crate) ranges: Vec<&'a IpRange>,
    /// Their names. Addresses allocated from a pool may be outside its ranges, which can be what was edited.
    pub(crate) names: BTreeSet<&'a str>,
}

/// Returns the pools that a change of the configuration to `new` affected. `previous` contains the values
/// that differed before. Without changed advertisements, it costs what differs.
pub(crate) fn affected_pools<'a>(previous: &'a ConfigDelta, new: &'a Config) -> AffectedPools<'a> {
    let mut affected = AffectedPools { ranges: Vec::new(), names: BTreeSet::new() };
    let changed = both(&previous.pools, &new.pools);
    let readvertised = readvertised(previous, new, &previous.pools, &new.pools);
    for pool in changed.chain(readvertised) {
        affected.names.insert(&pool.name);
        affected.ranges.extend(&pool.ranges);
    }
    let changed = both(&previous.refused_pools, &new.refused_pools);
    let readvertised = self::readvertised(previous, new, &previous.refused_pools, &new.refused_pools);
    affected.names.extend(changed.chain(readvertised).map(|pool| pool.name.as_str()));
    affected
}

/// Returns the pools whose advertisements changed.
fn readvertised<'a>(
    previous: &'a ConfigDelta,
    new: &'a Config,
    previous_pools: &'a Differing<Pool>,
    pools: &'a BTreeMap<String, Pool>,
) -> impl Iterator<Item = &'a Pool> {
    let l2 = both(&previous.l2_advertisements, &new.l2_advertisements).map(|ad| &ad.pools);
    let bgp = both(&previous.bgp_advertisements, &new.bgp_advertisements).map(|ad| &ad.pools);
    let selections: Vec<&PoolSelection> = l2.chain(bgp).collect();
    let withheld = previous.withheld.keys().filter_map(|(_, pool)| pools.get(pool));
    let all = if selections.is_empty() {
        None
    } else {
        Some(pools.values().chain(previous_pools.values().flatten()))
    };
    let selected = all.into_iter().flatten();
    let selected = selected.filter(move |pool| selections.iter().any(|selection| selection.covers(pool)));
    withheld.chain(selected)
}

/// Returns the objects that differ, before and after the change.
fn both<'a, V>(previous: &'a Differing<V>, new: &'a BTreeMap<String, V>) -> impl Iterator<Item = &'a V> {
    previous.iter().flat_map(|(name, before)| before.iter().chain(new.get(name)))
}
