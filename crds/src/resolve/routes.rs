//! Pairs of a BGP advertisement and a pool that are withheld although the advertisement selects the pool.
//!
//! An advertisement may have been in force for years when a pool is added that it also selects. If the two do
//! not fit, only this pair is withheld. An advertisement with no pool left is refused.

use std::collections::BTreeMap;

use super::fields::on_common_nodes;
use super::refusal::{ObjectRefusal, RefusalReason};
use crate::model::config::{BgpAdvertisement, Config, Pool};
use crate::model::range::IpRange;
use crate::text::quoted;

/// The LOCAL_PREF of an advertisement that does not set one.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Returns the pairs to withhold: for each advertisement, its pools and the reasons. `by_age` contains the
/// names of the advertisements of `config`, the oldest first.
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

/// Returns a refusal if an entry of the pool contains no complete prefix of the aggregation length. Such an
/// aggregate would attract traffic for addresses outside of the pool.
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
                "{field} is {length}, but {range} of IPAddressPool {} contains no complete /{length}: use \
                 at least \
                 {shortest}",
                quoted(&pool.name)
            ),
        })
    };
    let mut refusals = pool.ranges.iter().map(refusal);
    if is_refused {
        // One invalid range may be the reason for the refusal of the pool: an advertisement that fits another
        // range remains in force.
        refusals.next()?.filter(|_| refusals.all(|refusal| refusal.is_some()))
    } else {
        refusals.flatten().next()
    }
}

/// Returns a refusal if an older advertisement sets another LOCAL_PREF for the same routes. Advertisements
/// that select Services, or Nodes by different selectors, do not conflict: whether they select the same ones
/// is unknown here.
fn conflict(ad: &BgpAdvertisement, older: &[&BgpAdvertisement], pool: &Pool) -> Option<ObjectRefusal> {
    let local_pref = |ad: &BgpAdvertisement| ad.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    let has = |ipv4: bool| pool.ranges.iter().any(|range| range.first().is_ipv4() == ipv4);
    let in_common = |ad: &BgpAdvertisement, other: &BgpAdvertisement| {
        let v4 = ad.aggregation_length == other.aggregation_length;
        let v6 = ad.aggregation_length_v6 == other.aggregation_length_v6;
        match (has(true), has(false)) {
            // A refused pool without a valid range may have addresses of either family.
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
            "localPref is {}, but the older BGPAdvertisement {3} sets {2} for the same routes of \
             IPAddressPool {1}: use \
             the same value",
            local_pref(ad),
            quoted(&pool.name),
            local_pref(other),
            quoted(&other.name)
        ),
    })
}
