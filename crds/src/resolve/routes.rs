//! Pairs of a BGP advertisement and a pool that are withheld although the advertisement selects the pool.
//!
//! An advertisement may have been in force for years when a pool is added that it also selects. If the two do
//! not fit, only this pair is withheld. An advertisement with no pool left is refused.

use super::fields::on_common_nodes;
use super::refusal::{ObjectRefusal, RefusalReason};
use crate::model::config::{BgpAdvertisement, Pool};
use crate::model::range::IpRange;
use crate::text::quoted;

/// The LOCAL_PREF of an advertisement that does not set one.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Returns, for each advertisement that covers a pool, why it must not announce the pool, if so. `ads` are in
/// order of precedence.
pub(super) fn withheld<'a>(
    pool: &Pool,
    is_refused: bool,
    ads: impl Iterator<Item = &'a BgpAdvertisement>,
) -> Vec<Option<ObjectRefusal>> {
    let mut announced: Vec<&BgpAdvertisement> = Vec::new();
    let refusals = ads.map(|ad| {
        let refusal = too_short(ad, pool, is_refused).or_else(|| conflict(ad, &announced, pool));
        // Of those that announce the same routes in the same way, the first one conflicts with others.
        if refusal.is_none() && !announced.iter().any(|older| announces_the_same(older, ad)) {
            announced.push(ad);
        }
        refusal
    });
    refusals.collect()
}

/// Returns true if two advertisements conflict with the same others.
fn announces_the_same(a: &BgpAdvertisement, b: &BgpAdvertisement) -> bool {
    a.local_pref == b.local_pref
        && (a.aggregation_length, a.aggregation_length_v6) == (b.aggregation_length, b.aggregation_length_v6)
        && a.service_selectors.is_empty() == b.service_selectors.is_empty()
        && a.peers == b.peers
        && a.node_selectors == b.node_selectors
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
