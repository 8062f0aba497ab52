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
    created: Created,
    /// The form of the object that is used.
    used: FormPools,
    /// Why the object itself is refused, regardless of the pools, so that the last accepted form is used.
    refused: Option<ObjectRefusal>,
    /// The other form of the object, if the pools decide which one is used.
    alternative: Option<Alternative>,
    /// The last accepted form in the status, if it remains the last accepted one when the current form is in
    /// force.
    recorded: Option<Form>,
    /// The covered pools for whose routes another advertisement decides on an attribute.
    overruled: BTreeMap<(bool, String), ObjectRefusal>,
}

/// A form of a BGP advertisement that is valid on its own, and the pools that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormPools {
    pub(super) ad: BgpAdvertisement,
    form: Form,
    /// Number of pools that the advertisement covers, in force or refused.
    covered: usize,
    /// The covered pools that it must not announce: those in force first, by name.
    withheld: BTreeMap<(bool, String), ObjectRefusal>,
}

/// The form of an object that is not used because of the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alternative {
    other: FormPools,
    /// True if `other` is the current form of the object, and the last accepted one is used.
    is_current: bool,
}

impl BgpPairs {
    /// Adds an advertisement that is younger than all others, without pools.
    pub(super) fn push(&mut self, ad: AdvertisedPools) {
        self.ads.push(ad);
    }

    /// Chooses the forms that are used after pools were added or removed. `pools` are all pools and whether
    /// each is refused. Returns the indices of the advertisements whose pairs may differ, and the pools of
    /// these pairs.
    pub(super) fn choose_forms<'a>(
        &mut self,
        indices: &BTreeSet<usize>,
        pools: impl Iterator<Item = (&'a Pool, bool)> + Clone,
    ) -> (BTreeSet<usize>, BTreeSet<&'a str>) {
        let (mut affected, mut names) = (BTreeSet::new(), BTreeSet::new());
        for index in indices {
            let Some(entry) = self.ads.get(*index).filter(|entry| entry.is_other_form_due()) else {
                continue;
            };
            let covers = |pool: &Pool| entry.forms().any(|form| form.ad.pools.covers(pool));
            // The form of one advertisement affects the LOCAL_PREF of the others.
            let covered: Vec<(&Pool, bool)> = pools.clone().filter(|(pool, _)| covers(pool)).collect();
            for (pool, is_refused) in &covered {
                affected.extend(self.remove_pool(pool, *is_refused));
            }
            self.ads[*index].use_other_form();
            for (pool, is_refused) in &covered {
                affected.extend(self.add_pool(pool, *is_refused));
            }
            names.extend(covered.iter().map(|(pool, _)| pool.name.as_str()));
            affected.insert(*index);
        }
        (affected, names)
    }

    /// Returns the indices of the advertisements of which the pools decide on the form.
    pub(super) fn with_alternatives(&self) -> impl Iterator<Item = usize> {
        let ads = self.ads.iter().enumerate();
        ads.filter(|(_, entry)| entry.alternative.is_some()).map(|(index, _)| index)
    }

    /// Forgets the last accepted form of an object whose current form is in force, unless the status
    /// determines it: the current form is the last accepted one now.
    pub(super) fn forget_alternative(&mut self, index: usize) {
        let Some(entry) = self.ads.get_mut(index) else { return };
        let is_last_form = entry.refusal().is_none() && entry.recorded.is_none();
        drop(entry.alternative.take_if(|other| is_last_form && !other.is_current));
    }

    /// Sets the names of the iBGP peers, before the first pool is added.
    pub(super) fn set_ibgp_peers(&mut self, peers: impl Iterator<Item = String>) {
        self.ibgp = peers.collect();
    }

    /// Returns true if a new resolution would have the same order: among those of one creation time, the
    /// advertisements that are in force come first.
    pub(super) fn is_in_order(&self) -> bool {
        let key = |ads: &AdvertisedPools| (ads.created, ads.refusal().is_some(), ads.ad().name.clone());
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
        let covering = self.covering(pool);
        let ads = covering.iter().map(|i| self.ads[*i].ad());
        let misfits = routes::misfits(pool, is_refused, ads, &self.ibgp);
        for (index, misfit) in covering.iter().zip(misfits) {
            let entry = &mut self.ads[*index];
            entry.used.covered += 1;
            let pool = (is_refused, pool.name.clone());
            match misfit {
                Some(Misfit::Withheld(refusal)) => drop(entry.used.withheld.insert(pool, refusal)),
                Some(Misfit::Overruled(conflict)) => drop(entry.overruled.insert(pool, conflict)),
                None => {}
            }
        }
        let others = self.others(pool, |other| {
            other.covered += 1;
            let refusal = routes::too_short(&other.ad, pool, is_refused);
            other.withheld.extend(refusal.map(|refusal| ((is_refused, pool.name.clone()), refusal)));
        });
        [covering, others].concat()
    }

    /// Reverts [`BgpPairs::add_pool`] with the same arguments.
    pub(super) fn remove_pool(&mut self, pool: &Pool, is_refused: bool) -> Vec<usize> {
        let covering = self.covering(pool);
        let pair = (is_refused, pool.name.clone());
        for index in &covering {
            let entry = &mut self.ads[*index];
            entry.used.covered -= 1;
            entry.used.withheld.remove(&pair);
            entry.overruled.remove(&pair);
        }
        let others = self.others(pool, |other| {
            other.covered -= 1;
            other.withheld.remove(&pair);
        });
        [covering, others].concat()
    }

    /// Returns the indices of the advertisements that cover a pool in the form that is used.
    fn covering(&self, pool: &Pool) -> Vec<usize> {
        (0..self.ads.len()).filter(|i| self.ads[*i].ad().pools.covers(pool)).collect()
    }

    /// Changes the forms that are not used and cover a pool. Returns the indices of their advertisements.
    fn others(&mut self, pool: &Pool, mut change: impl FnMut(&mut FormPools)) -> Vec<usize> {
        let mut indices = Vec::new();
        for (index, entry) in self.ads.iter_mut().enumerate() {
            let other = entry.alternative.as_mut().map(|alternative| &mut alternative.other);
            if let Some(other) = other.filter(|other| other.ad.pools.covers(pool)) {
                change(other);
                indices.push(index);
            }
        }
        indices
    }
}

impl FormPools {
    pub(super) fn new(ad: BgpAdvertisement, form: Form) -> Self {
        Self { ad, form, covered: 0, withheld: BTreeMap::new() }
    }

    /// Returns the reason if the advertisement may announce none of the pools that it covers.
    fn refusal(&self) -> Option<&ObjectRefusal> {
        self.withheld.values().next().filter(|_| self.withheld.len() == self.covered)
    }
}

impl AdvertisedPools {
    /// Returns an advertisement without pools, in its only form.
    pub(super) fn new(used: FormPools, created: Created) -> Self {
        Self { created, used, refused: None, alternative: None, recorded: None, overruled: BTreeMap::new() }
    }

    /// Returns the last accepted form of an object that is refused.
    pub(super) fn kept(used: FormPools, created: Created, refusal: ObjectRefusal) -> Self {
        Self { refused: Some(refusal), ..Self::new(used, created) }
    }

    /// Returns an advertisement whose last accepted form is used while the current one may announce no pool.
    pub(super) fn with_alternative(current: FormPools, last: FormPools, created: Created) -> Self {
        Self {
            alternative: Some(Alternative { other: last, is_current: false }),
            ..Self::new(current, created)
        }
    }

    /// Sets the last accepted form in the status, if it remains the last accepted one when the current form
    /// is in force.
    pub(super) fn with_recorded(self, recorded: Option<Form>) -> Self {
        Self { recorded, ..self }
    }

    pub(super) fn ad(&self) -> &BgpAdvertisement {
        &self.used.ad
    }

    fn forms(&self) -> impl Iterator<Item = &FormPools> {
        [&self.used].into_iter().chain(self.alternative.as_ref().map(|alternative| &alternative.other))
    }

    /// Returns true if the pools require the other form of the object.
    fn is_other_form_due(&self) -> bool {
        self.alternative.as_ref().is_some_and(|Alternative { other, is_current, .. }| {
            let (current, last) = if *is_current { (other, &self.used) } else { (&self.used, other) };
            let is_last_due = current.refusal().is_some() && last.refusal().is_none();
            is_last_due != *is_current
        })
    }

    fn use_other_form(&mut self) {
        if let Some(Alternative { other, is_current, .. }) = &mut self.alternative {
            std::mem::swap(&mut self.used, other);
            *is_current = !*is_current;
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.used.form
    }

    /// Returns the last accepted form of an object of which no form is in force, if its status determines it.
    pub(super) fn recorded(&self) -> Option<&Form> {
        self.recorded.as_ref().filter(|_| self.refusal().is_some())
    }

    /// Returns the reason for a refusal of the object.
    pub(super) fn verdict(&self) -> Option<&ObjectRefusal> {
        let current = self.alternative.as_ref().filter(|alternative| alternative.is_current);
        let current = current.and_then(|alternative| alternative.other.refusal());
        self.refused.as_ref().or(current).or_else(|| self.refusal())
    }

    /// Returns the reason for a refusal of the advertisement: it must announce none of its pools.
    pub(super) fn refusal(&self) -> Option<&ObjectRefusal> {
        self.used.refusal()
    }

    /// Returns the pools that the advertisement must not announce, and the reasons.
    pub(super) fn withheld(&self) -> impl Iterator<Item = (&str, &ObjectRefusal)> {
        self.used.withheld.iter().map(|((_, pool), refusal)| (pool.as_str(), refusal))
    }

    /// Returns the conflicts with other advertisements, one for each pool.
    pub(super) fn overruled(&self) -> impl Iterator<Item = &ObjectRefusal> {
        self.overruled.values()
    }

    /// Returns true if the advertisement must not announce the pool.
    pub(super) fn is_withheld(&self, pool: &str) -> bool {
        [false, true].into_iter().any(|refused| self.used.withheld.contains_key(&(refused, pool.to_owned())))
    }
}
