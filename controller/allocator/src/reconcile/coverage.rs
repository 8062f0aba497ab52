//! Which Services of a pool an advertisement covers.

use std::collections::BTreeSet;

use fairlead_crds::model::config::{Config, Labels, PoolSelection};
use fairlead_crds::model::delta::ConfigDelta;
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::LoadBalancer;

use super::announcement;

/// Returns true if an advertisement covers the addresses of a pool for a Service with these labels.
pub(super) fn is_covered(config: &Config, pool: &str, service_labels: &Labels) -> bool {
    let other = || config.other_pools.get(pool);
    config.pool(pool).or_else(other).is_some_and(|pool| {
        config.l2_for(pool, service_labels).next().is_some()
            || config.bgp_for(pool, service_labels).next().is_some()
    })
}

/// Returns the protocols by which advertisements cover the addresses of a pool for a Service with these
/// labels.
pub(super) fn protocols(config: &Config, pool: &str, service_labels: &Labels) -> announcement::Coverage {
    let Some(pool) = config.pool(pool).or_else(|| config.other_pools.get(pool)) else {
        return announcement::Coverage::default();
    };
    announcement::Coverage {
        l2: config.l2_for(pool, service_labels).next().is_some(),
        bgp: config.bgp_for(pool, service_labels).next().is_some(),
    }
}

/// Returns the part of the path attributes that a Service requests that no advertisement of its pools
/// permits.
pub(super) fn unpermitted_attributes<'a>(
    config: &Config,
    pools: impl Iterator<Item = &'a str>,
    service: &LoadBalancer,
) -> Option<String> {
    let request = service.route_request.as_ref()?;
    let pools = pools.filter_map(|pool| config.pool(pool).or_else(|| config.other_pools.get(pool)));
    let ads: Vec<_> = pools
        .flat_map(|pool| config.bgp_for(pool, &service.labels))
        .map(|ad| ad.service_attributes.as_ref())
        .collect();
    request.problem(ads.iter().copied())
}

/// The advertisements of a pool: whether by BGP, the name, the Service selectors and the attributes that
/// Services may request.
pub(super) type Coverage = BTreeSet<(bool, String, Vec<String>, Option<String>)>;

/// Returns what decides which Services of a pool are covered and which path attributes they may request;
/// `None` if there is no such pool.
pub(super) fn coverage(config: &Config, pool: &str) -> Option<Coverage> {
    let pool = config.pool(pool).or_else(|| config.other_pools.get(pool))?;
    let selectors = |list: &[Selector]| list.iter().map(ToString::to_string).collect();
    let l2 = config.l2_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let bgp = config.bgp_advertisements.values().filter(|ad| {
        ad.pools.covers(pool) && !config.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    });
    let l2 = l2.map(|ad| (false, ad.name.clone(), selectors(&ad.service_selectors), None));
    let bgp = bgp.map(|ad| {
        let attributes = ad.service_attributes.as_ref().map(|attributes| format!("{attributes:?}"));
        (true, ad.name.clone(), selectors(&ad.service_selectors), attributes)
    });
    Some(l2.chain(bgp).collect())
}

/// Returns the names of the pools whose coverage a change of the configuration may change.
pub(super) fn affected_pools(config: &Config, delta: &ConfigDelta) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = delta.pool_names().into_iter().map(str::to_owned).collect();
    names.extend(delta.withheld.keys().map(|(_, pool)| pool.clone()));
    let l2 = delta.l2_advertisements.iter().flat_map(|(name, new)| {
        let old = config.l2_advertisements.get(name);
        old.into_iter().chain(new).map(|ad| &ad.pools)
    });
    let bgp = delta.bgp_advertisements.iter().flat_map(|(name, new)| {
        let old = config.bgp_advertisements.get(name);
        old.into_iter().chain(new).map(|ad| &ad.pools)
    });
    let selections: Vec<&PoolSelection> = l2.chain(bgp).collect();
    if !selections.is_empty() {
        let pools = config.pools.values().chain(config.refused_pools.values());
        let pools = pools.chain(config.other_pools.values());
        let selected = pools.filter(|pool| selections.iter().any(|selection| selection.covers(pool)));
        names.extend(selected.map(|pool| pool.name.clone()));
    }
    names
}
