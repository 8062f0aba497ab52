//! Which BGP advertisements must not announce which pools, although they select them.
//!
//! A pool that is added later must not take down an advertisement that has long been in force for others. So
//! only the pair of advertisement and pool is withheld; an advertisement that is left with none is refused.

use std::collections::BTreeMap;

use super::{Reason, Refusal, on_common_nodes};
use crate::config::{BgpAdvertisement, Config, Pool};

/// LOCAL_PREF where an advertisement sets none.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Pairs that must be withheld, by advertisement, each with its pool and the reason. `by_age` lists the
/// advertisements of `config`, the oldest first.
pub(super) fn withheld(config: &Config, by_age: &[String]) -> BTreeMap<String, Vec<(String, Refusal)>> {
    let mut withheld: BTreeMap<String, Vec<(String, Refusal)>> = BTreeMap::new();
    let mut announced: BTreeMap<&str, Vec<&BgpAdvertisement>> = BTreeMap::new();
    for ad in by_age.iter().filter_map(|name| config.bgp_advertisements.get(name)) {
        for pool in config.pools.values().filter(|pool| ad.pools.covers(pool)) {
            let older = announced.entry(&pool.name).or_default();
            match too_short(ad, pool).or_else(|| conflict(ad, older, pool)) {
                Some(refusal) => {
                    withheld.entry(ad.name.clone()).or_default().push((pool.name.clone(), refusal));
                }
                None => older.push(ad),
            }
        }
    }
    withheld
}

/// An aggregate that is wider than any prefix in an entry of the pool would attract traffic for addresses of
/// somebody else.
fn too_short(ad: &BgpAdvertisement, pool: &Pool) -> Option<Refusal> {
    pool.ranges.iter().find_map(|range| {
        let (length, field) = if range.first().is_ipv4() {
            (ad.aggregation_length, "aggregationLength")
        } else {
            (ad.aggregation_length_v6, "aggregationLengthV6")
        };
        let shortest = range.shortest_prefix();
        (shortest > length).then(|| Refusal {
            reason: Reason::AggregationTooShort,
            message: format!(
                "{field} {length} is shorter than any prefix in {range} of IPAddressPool {:?}: the shortest is /{shortest}",
                pool.name
            ),
        })
    })
}

/// One route cannot have two values of LOCAL_PREF. Where Services are selected, or nodes by different
/// selectors, it cannot be seen here whether the two ever meet.
fn conflict(ad: &BgpAdvertisement, older: &[&BgpAdvertisement], pool: &Pool) -> Option<Refusal> {
    let local_pref = |ad: &BgpAdvertisement| ad.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    let has = |ipv4: bool| pool.ranges.iter().any(|range| range.first().is_ipv4() == ipv4);
    let other = older.iter().find(|other| {
        local_pref(ad) != local_pref(other)
            && ad.service_selectors.is_empty()
            && other.service_selectors.is_empty()
            && (has(true) && ad.aggregation_length == other.aggregation_length
                || has(false) && ad.aggregation_length_v6 == other.aggregation_length_v6)
            && (ad.peers.is_empty() || other.peers.is_empty() || !ad.peers.is_disjoint(&other.peers))
            && on_common_nodes(&ad.node_selectors, &other.node_selectors)
    })?;
    Some(Refusal {
        reason: Reason::LocalPrefConflict,
        message: format!(
            "localPref {} for IPAddressPool {:?} contradicts {} of BGPAdvertisement {:?}, which is older",
            local_pref(ad),
            pool.name,
            local_pref(other),
            other.name
        ),
    })
}
