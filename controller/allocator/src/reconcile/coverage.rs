//! Which Services of a pool an advertisement covers.

use std::collections::BTreeSet;

use fairlead_crds::model::config::{Config, Labels, Pool};
use fairlead_crds::model::selector::Selector;

/// Returns true if an advertisement covers the addresses of a pool for a Service with these labels.
pub(super) fn is_covered(config: &Config, pool: &str, service_labels: &Labels) -> bool {
    let other = || config.other_pools.get(pool);
    config.pool(pool).or_else(other).is_some_and(|pool| {
        config.l2_for(pool, service_labels).next().is_some()
            || config.bgp_for(pool, service_labels).next().is_some()
    })
}

/// Returns true if the set of covered Services of `pool` may differ between two configurations.
pub(super) fn differs(old: &Config, new: &Config, pool: &Pool) -> bool {
    old.pool(&pool.name).is_none_or(|old_pool| coverage(old, old_pool) != coverage(new, pool))
}

/// Returns the advertisements of a pool with their Service selectors.
fn coverage<'a>(config: &'a Config, pool: &'a Pool) -> BTreeSet<(bool, &'a str, Vec<String>)> {
    let selectors = |list: &[Selector]| list.iter().map(ToString::to_string).collect();
    let l2 = config.l2_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let bgp = config.bgp_advertisements.values().filter(|ad| {
        ad.pools.covers(pool) && !config.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    });
    let l2 = l2.map(|ad| (false, ad.name.as_str(), selectors(&ad.service_selectors)));
    l2.chain(bgp.map(|ad| (true, ad.name.as_str(), selectors(&ad.service_selectors)))).collect()
}
