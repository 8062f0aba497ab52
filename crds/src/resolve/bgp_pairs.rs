//! The pairs of BGP advertisement and pool, so that a changed pool costs only the pairs that it is part of.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::last_accepted::Form;
use super::refusal::ObjectRefusal;
use super::routes::{self, Misfit};
use crate::model::config::{BgpAdvertisement, Pool};

/// The BGP advertisements that are valid on their own, the oldest first, with their pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BgpPairs {
    ads: Vec<AdvertisedPools>,
    /// Names of the iBGP peers.
    ibgp: BTreeSet<String>,
}

/// Whether an object does not exist in the cluster yet, and its creation time.
type Created = (bool, Option<Timestamp>);

/// A BGP advertisement and the pools that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdvertisedPools {
    pub(super) ad: BgpAdvertisement,
    created: Created,
    /// The form of the object that the advertisement is from.
    form: Form,
    /// Why the object itself is refused, so that this is its last accepted form.
    refused: Option<ObjectRefusal>,
    /// True if the pools decide between this form and another one of the object.
    has_alternative: bool,
    /// Number of pools that the advertisement covers, in force or refused.
    covered: usize,
    /// The covered pools that it must not announce: those in force first, by name.
    withheld: BTreeMap<(bool, String), ObjectRefusal>,
    /// The covered pools for whose routes another advertisement decides on an attribute.
    overruled: BTreeMap<(bool, String), ObjectRefusal>,
}

impl BgpPairs {
    /// Adds an advertisement that is younger than all others, without pools.
    pub(super) fn push(&mut self, ad: AdvertisedPools) {
        self.ads.push(ad);
    }

    /// Returns true if a change of pools may put another form of an object in force.
    pub(super) fn has_alternatives(&self) -> bool {
        self.ads.iter().any(|ad| ad.has_alternative)
    }

    /// Sets the names of the iBGP peers, before the first pool is added.
    pub(super) fn set_ibgp_peers(&mut self, peers: impl Iterator<Item = String>) {
        self.ibgp = peers.collect();
    }

    /// Returns true if a new resolution would have the same order: among those of one creation time, the
    /// advertisements that are in force come first.
    pub(super) fn is_in_order(&self) -> bool {
        let key = |ads: &AdvertisedPools| (ads.created, ads.refusal().is_some(), ads.ad.name.clone());
        self.ads.is_sorted_by_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.ads.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&AdvertisedPools> {
        self.ads.get(index)
    }

    /// Adds a pool, in force or refused. Returns the indices of the advertisements that cover it.
    pub(super) fn add_pool(&mut self, pool: &Pool, is_refused: bool) -> Vec<usize> {
        let covering: Vec<usize> =
            (0..self.ads.len()).filter(|i| self.ads[*i].ad.pools.covers(pool)).collect();
        let ads = covering.iter().map(|i| &self.ads[*i].ad);
        let misfits = routes::misfits(pool, is_refused, ads, &self.ibgp);
        for (index, misfit) in covering.iter().zip(misfits) {
            let entry = &mut self.ads[*index];
            entry.covered += 1;
            let pool = (is_refused, pool.name.clone());
            match misfit {
                Some(Misfit::Withheld(refusal)) => drop(entry.withheld.insert(pool, refusal)),
                Some(Misfit::Overruled(conflict)) => drop(entry.overruled.insert(pool, conflict)),
                None => {}
            }
        }
        covering
    }

    /// Reverts [`BgpPairs::add_pool`] with the same arguments.
    pub(super) fn remove_pool(&mut self, pool: &Pool, is_refused: bool) -> Vec<usize> {
        let covering: Vec<usize> =
            (0..self.ads.len()).filter(|i| self.ads[*i].ad.pools.covers(pool)).collect();
        for index in &covering {
            let entry = &mut self.ads[*index];
            entry.covered -= 1;
            entry.withheld.remove(&(is_refused, pool.name.clone()));
            entry.overruled.remove(&(is_refused, pool.name.clone()));
        }
        covering
    }
}

impl AdvertisedPools {
    /// Returns an advertisement without pools. `form` is the one of the object that it is from.
    pub(super) fn new(ad: BgpAdvertisement, form: Form, created: Created) -> Self {
        let (withheld, overruled) = Default::default();
        Self { ad, created, form, refused: None, has_alternative: false, covered: 0, withheld, overruled }
    }

    /// Returns the last accepted form of an object that is refused.
    pub(super) fn kept(ad: BgpAdvertisement, form: Form, created: Created, refusal: ObjectRefusal) -> Self {
        Self { refused: Some(refusal), ..Self::new(ad, form, created) }
    }

    /// Sets that the pools decide between this form and another one of the object.
    pub(super) fn with_alternative(self) -> Self {
        Self { has_alternative: true, ..self }
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// Returns the reason for a refusal of the object.
    pub(super) fn verdict(&self) -> Option<&ObjectRefusal> {
        self.refused.as_ref().or_else(|| self.refusal())
    }

    /// Returns the reason for a refusal of the advertisement: it must announce none of its pools.
    pub(super) fn refusal(&self) -> Option<&ObjectRefusal> {
        self.withheld.values().next().filter(|_| self.withheld.len() == self.covered)
    }

    /// Returns the pools that the advertisement must not announce, and the reasons.
    pub(super) fn withheld(&self) -> impl Iterator<Item = (&str, &ObjectRefusal)> {
        self.withheld.iter().map(|((_, pool), refusal)| (pool.as_str(), refusal))
    }

    /// Returns the conflicts with other advertisements, one for each pool.
    pub(super) fn overruled(&self) -> impl Iterator<Item = &ObjectRefusal> {
        self.overruled.values()
    }

    /// Returns true if the advertisement must not announce the pool.
    pub(super) fn is_withheld(&self, pool: &str) -> bool {
        [false, true].into_iter().any(|refused| self.withheld.contains_key(&(refused, pool.to_owned())))
    }
}
