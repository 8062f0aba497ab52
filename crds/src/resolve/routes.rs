//! Which BGP advertisements must not announce which pools, although they select them.
//!
//! A pool that is added later must not take down an advertisement that has long been in force for others. So
//! only the pair of advertisement and pool is withheld; an advertisement that is left with none is refused.

use std::collections::BTreeMap;

use super::fields::on_common_nodes;
use super::refusal::{ObjectRefusal, RefusalReason};
use crate::model::config::{BgpAdvertisement, Config, Pool};
use crate::model::range::IpRange;

/// LOCAL_PREF where an advertisement sets none.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Pairs that must be withheld, by advertisement, each with its pool and the reason. `by_age` lists the
/// advertisements of `config`, the oldest first.
pub(super) fn withheld(config: &Config, by_age: &[String]) -> BTreeMap<String, Vec<(String, ObjectRefusal)>> {
    let mut withheld: BTreeMap<String, Vec<(String, ObjectRefusal)>> = BTreeMap::new();
    let mut announced: BTreeMap<&str, Vec<&BgpAdvertisement>> = BTreeMap::new();
    for ad in by_age.iter().filter_map(|name| config.bgp_advertisements.get(name)) {
        let pools = config.pools.values().chain(config.refused_pools.values());
        for pool in pools.filter(|pool| ad.pools.covers(pool)) {
            let older = announced.entry(&pool.name).or_default();
            let is_refused = config.refused_pools.contains_key(&pool.name);
            match too_short(ad, pool, is_refused).or_else(|| conflict(ad, older, pool)) {
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
fn too_short(ad: &BgpAdvertisement, pool: &Pool, is_refused: bool) -> Option<ObjectRefusal> {
    let refusal = |range: &IpRange| {
        let (length, field) = if range.first().is_ipv4() {
            (ad.aggregation_length, "aggregationLength")
        } else {
            (ad.aggregation_length_v6, "aggregationLengthV6")
        };
        let shortest = range.shortest_prefix();
        (shortest > length).then(|| ObjectRefusal {
            reason: RefusalReason::AggregationTooShort,
            message: format!(
                "{field} {length} is shorter than any prefix in {range} of IPAddressPool {:?}: the shortest is /{shortest}",
                pool.name
            ),
        })
    };
    let mut refusals = pool.ranges.iter().map(refusal);
    if is_refused {
        // The range that is new may be what is wrong with it: what fits the others stays announced.
        refusals.next()?.filter(|_| refusals.all(|refusal| refusal.is_some()))
    } else {
        refusals.flatten().next()
    }
}

/// One route cannot have two values of LOCAL_PREF. Where Services are selected, or nodes by different
/// selectors, it cannot be seen here whether the two ever meet.
fn conflict(ad: &BgpAdvertisement, older: &[&BgpAdvertisement], pool: &Pool) -> Option<ObjectRefusal> {
    let local_pref = |ad: &BgpAdvertisement| ad.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    let has = |ipv4: bool| pool.ranges.iter().any(|range| range.first().is_ipv4() == ipv4);
    let in_common = |ad: &BgpAdvertisement, other: &BgpAdvertisement| {
        let v4 = ad.aggregation_length == other.aggregation_length;
        let v6 = ad.aggregation_length_v6 == other.aggregation_length_v6;
        match (has(true), has(false)) {
            // A refused pool of which nothing can be read: of one family or the other.
            (false, false) => v4 && v6,
            (has_v4, has_v6) => has_v4 && v4 || has_v6 && v6,
        }
    };
    let other = older.iter().find(|other| {
        local_pref(ad) != local_pref(other)
            && ad.service_selectors.is_empty()
            && other.service_selectors.is_empty()
            && in_common(ad, other)
            && (ad.peers.is_empty() || other.peers.is_empty() || !ad.peers.is_disjoint(&other.peers))
            && on_common_nodes(&ad.node_selectors, &other.node_selectors)
    })?;
    Some(ObjectRefusal {
        reason: RefusalReason::LocalPrefConflict,
        message: format!(
            "localPref {} for IPAddressPool {:?} contradicts {} of BGPAdvertisement {:?}, which is older",
            local_pref(ad),
            pool.name,
            local_pref(other),
            other.name
        ),
    })
}
