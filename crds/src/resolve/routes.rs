//! Pairs of a BGP advertisement and a pool that do not fit, although the advertisement selects the pool.
//!
//! An advertisement may have been in force for years when a pool is added that it also selects. If its
//! aggregates are too short for the pool, only this pair is withheld. An advertisement with no pool left is
//! refused. Advertisements that disagree on the LOCAL_PREF of a route are all in force: the older one
//! decides.

use std::collections::BTreeSet;

use super::fields::on_common_nodes;
use super::refusal::{ObjectRefusal, RefusalReason};
use crate::model::config::{BgpAdvertisement, Pool};
use crate::model::range::IpRange;
use crate::text::quoted;

/// What is wrong with a pair.
#[derive(Debug)]
pub(super) enum Misfit {
    /// The advertisement must not announce the pool.
    Withheld(ObjectRefusal),
    /// Another advertisement decides on an attribute of the routes.
    Overruled(ObjectRefusal),
}

/// Returns, for each advertisement that covers a pool, what is wrong with the pair. `ads` are in order of
/// precedence; `ibgp` are the names of the iBGP peers.
pub(super) fn misfits<'a>(
    pool: &Pool,
    is_refused: bool,
    ads: impl Iterator<Item = &'a BgpAdvertisement>,
    ibgp: &BTreeSet<String>,
) -> Vec<Option<Misfit>> {
    let mut announced: Vec<&BgpAdvertisement> = Vec::new();
    let misfits = ads.map(|ad| {
        if let Some(refusal) = too_short(ad, pool, is_refused) {
            return Some(Misfit::Withheld(refusal));
        }
        let conflict = conflict(ad, &announced, pool, ibgp);
        // Of those that announce the same routes in the same way, the first one conflicts with others.
        if !announced.iter().any(|older| announces_the_same(older, ad)) {
            announced.push(ad);
        }
        conflict.map(Misfit::Overruled)
    });
    misfits.collect()
}

/// Returns true if two advertisements conflict with the same others.
fn announces_the_same(a: &BgpAdvertisement, b: &BgpAdvertisement) -> bool {
    a.effective_local_pref() == b.effective_local_pref()
        && (a.aggregation_length, a.aggregation_length_v6) == (b.aggregation_length, b.aggregation_length_v6)
        && a.service_selectors.is_empty() == b.service_selectors.is_empty()
        && a.peers == b.peers
        && a.node_selectors == b.node_selectors
}

/// Returns a refusal if an entry of the pool contains no complete prefix of the aggregation length. Such an
/// aggregate would attract traffic for addresses outside of the pool.
pub(super) fn too_short(ad: &BgpAdvertisement, pool: &Pool, is_refused: bool) -> Option<ObjectRefusal> {
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

/// Returns the conflict if an older advertisement sets another LOCAL_PREF for the same routes to an iBGP
/// peer. Advertisements that select Services, or Nodes by different selectors, do not conflict: whether they
/// select the same ones is unknown here.
fn conflict(
    ad: &BgpAdvertisement,
    older: &[&BgpAdvertisement],
    pool: &Pool,
    ibgp: &BTreeSet<String>,
) -> Option<ObjectRefusal> {
    let local_pref = BgpAdvertisement::effective_local_pref;
    let is_sent_to = |ad: &BgpAdvertisement, peer: &String| ad.peers.is_empty() || ad.peers.contains(peer);
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
            && ibgp.iter().any(|peer| is_sent_to(ad, peer) && is_sent_to(other, peer))
            && on_common_nodes(&ad.node_selectors, &other.node_selectors)
    })?;
    Some(ObjectRefusal {
        reason: RefusalReason::LocalPrefConflict,
        message: format!(
            "localPref is {}, but the older BGPAdvertisement {} sets {} for the same routes of IPAddressPool \
             {}: its value is used for host routes, the higher one for aggregates; use the same value in both",
            local_pref(ad),
            quoted(&other.name),
            local_pref(other),
            quoted(&pool.name)
        ),
    })
}
