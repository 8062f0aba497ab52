//! Part of [`Pools`](super::pools::Pools): the pools with a `serviceAllocation`, by their requirements for a
//! Service. So a choice visits only pools that probably admit the Service, regardless of the number of
//! others.
//!
//! Each pool is listed under one of its requirements: its namespaces, or a label that its selectors demand.
//! If there are several, it is the one under which the fewest pools are listed. A pool without such a
//! requirement is listed for every Service. So the lists of a Service contain every pool that admits it, and
//! some that do not.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::selector::Selector;

use super::pool_set::{PoolSet, Position};
use super::pool_state::PoolState;
use super::request::AllocationRequest;

/// The pools with a `serviceAllocation` and automatic assignment that are not closed.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolIndex {
    everyone: PoolSet,
    namespaces: BTreeMap<String, PoolSet>,
    namespace_labels: LabelIndex,
    service_labels: LabelIndex,
    /// The requirements under which each pool is listed. All of them concern the namespace of the Service, or
    /// all of them its labels.
    listed: BTreeMap<Position, BTreeSet<Requirement>>,
}

/// Pools by a label that they demand.
#[derive(Clone, Debug, Default)]
struct LabelIndex(BTreeMap<String, ByValue>);

/// Pools that demand a label with this key.
#[derive(Clone, Debug, Default)]
struct ByValue {
    /// The pools that accept any value.
    any: PoolSet,
    values: BTreeMap<String, PoolSet>,
}

/// A requirement of a pool for a Service. A pool that is listed under several can admit a Service that meets
/// one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    None,
    Namespace(String),
    /// A label of the namespace: its key, and its value unless any is accepted.
    NamespaceLabel(String, Option<String>),
    /// A label of the Service.
    ServiceLabel(String, Option<String>),
}

impl PoolIndex {
    pub(super) fn insert(&mut self, position: &Position, state: &PoolState) {
        let requirements = self.requirements(state.pool());
        for requirement in &requirements {
            self.set_mut(requirement).insert(position, state);
        }
        self.listed.insert(position.clone(), requirements);
    }

    /// Reverts [`PoolIndex::insert`].
    pub(super) fn remove(&mut self, position: &Position) {
        for requirement in self.listed.remove(position).into_iter().flatten() {
            let set = self.set_mut(&requirement);
            set.remove(position);
            if set.is_empty() {
                self.remove_set(&requirement);
            }
        }
    }

    /// Records for which families a pool has free addresses.
    pub(super) fn set_free(&mut self, position: &Position, state: &PoolState) {
        for requirement in self.listed.get(position).cloned().into_iter().flatten() {
            self.set_mut(&requirement).set_free(position, state);
        }
    }

    /// Returns sets that together contain every pool that admits a Service.
    pub(super) fn sets(&self, request: &AllocationRequest<'_>) -> Vec<&PoolSet> {
        if self.listed.is_empty() {
            return Vec::new();
        }
        let mut sets = vec![&self.everyone];
        sets.extend(self.namespaces.get(&request.service.namespace));
        self.namespace_labels.add_to(&mut sets, request.namespace_labels);
        self.service_labels.add_to(&mut sets, Some(request.labels));
        sets
    }

    /// Asserts that the index contains the pool with its current free families.
    #[cfg(test)]
    pub(super) fn assert_listed(&self, position: &Position, state: &PoolState) {
        let requirements = self.listed.get(position).unwrap();
        assert!(!requirements.is_empty());
        for requirement in requirements {
            self.set(requirement).unwrap().assert_contains(position, state);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    /// Returns the requirements under which to list a pool.
    fn requirements(&self, pool: &Pool) -> BTreeSet<Requirement> {
        let none = || BTreeSet::from([Requirement::None]);
        let Some(allocation) = &pool.allocation else { return none() };
        let of_namespaces = self.demanded(&allocation.namespace_selectors, Requirement::NamespaceLabel);
        let of_namespaces = of_namespaces.map(|mut all| {
            all.extend(allocation.namespaces.iter().cloned().map(Requirement::Namespace));
            all
        });
        let of_services = self.demanded(&allocation.service_selectors, Requirement::ServiceLabel);
        let usable = [of_namespaces, of_services].into_iter().flatten().filter(|all| !all.is_empty());
        usable.min_by_key(|all| self.most_listed(all)).unwrap_or_else(none)
    }

    /// Returns labels of which each object that one of the selectors matches has one; `None` if a selector
    /// demands no label.
    fn demanded(
        &self,
        selectors: &[Selector],
        requirement: impl Fn(String, Option<String>) -> Requirement,
    ) -> Option<BTreeSet<Requirement>> {
        let mut all = BTreeSet::new();
        for selector in selectors {
            let labels = selector.demanded_labels().map(|(key, values)| match values {
                [] => BTreeSet::from([requirement(key.to_owned(), None)]),
                values => {
                    let of = |value: &String| requirement(key.to_owned(), Some(value.clone()));
                    values.iter().map(of).collect()
                }
            });
            all.append(&mut labels.min_by_key(|label| self.most_listed(label))?);
        }
        Some(all)
    }

    /// Returns the largest number of pools that are listed under one of the requirements.
    fn most_listed(&self, requirements: &BTreeSet<Requirement>) -> usize {
        requirements.iter().filter_map(|one| self.set(one)).map(PoolSet::len).max().unwrap_or_default()
    }

    fn set(&self, requirement: &Requirement) -> Option<&PoolSet> {
        match requirement {
            Requirement::None => Some(&self.everyone),
            Requirement::Namespace(name) => self.namespaces.get(name),
            Requirement::NamespaceLabel(key, value) => self.namespace_labels.get(key, value.as_deref()),
            Requirement::ServiceLabel(key, value) => self.service_labels.get(key, value.as_deref()),
        }
    }

    fn set_mut(&mut self, requirement: &Requirement) -> &mut PoolSet {
        match requirement {
            Requirement::None => &mut self.everyone,
            Requirement::Namespace(name) => self.namespaces.entry(name.clone()).or_default(),
            Requirement::NamespaceLabel(key, value) => self.namespace_labels.get_mut(key, value.as_deref()),
            Requirement::ServiceLabel(key, value) => self.service_labels.get_mut(key, value.as_deref()),
        }
    }

    fn remove_set(&mut self, requirement: &Requirement) {
        match requirement {
            Requirement::None => {}
            Requirement::Namespace(name) => drop(self.namespaces.remove(name)),
            Requirement::NamespaceLabel(key, value) => self.namespace_labels.remove(key, value.as_deref()),
            Requirement::ServiceLabel(key, value) => self.service_labels.remove(key, value.as_deref()),
        }
    }
}

impl LabelIndex {
    /// Adds the sets of pools that demand one of these labels.
    fn add_to<'a>(&'a self, sets: &mut Vec<&'a PoolSet>, labels: Option<&Labels>) {
        let Some(labels) = labels else { return };
        let mut add = |by_value: &'a ByValue, value: &str| {
            sets.extend((!by_value.any.is_empty()).then_some(&by_value.any));
            sets.extend(by_value.values.get(value));
        };
        if self.0.len() < labels.len() {
            for (key, by_value) in &self.0 {
                if let Some(value) = labels.get(key) {
                    add(by_value, value);
                }
            }
        } else {
            for (key, value) in labels.iter() {
                if let Some(by_value) = self.0.get(key) {
                    add(by_value, value);
                }
            }
        }
    }

    fn get(&self, key: &str, value: Option<&str>) -> Option<&PoolSet> {
        let by_value = self.0.get(key)?;
        match value {
            None => Some(&by_value.any),
            Some(value) => by_value.values.get(value),
        }
    }

    fn get_mut(&mut self, key: &str, value: Option<&str>) -> &mut PoolSet {
        let by_value = self.0.entry(key.to_owned()).or_default();
        match value {
            None => &mut by_value.any,
            Some(value) => by_value.values.entry(value.to_owned()).or_default(),
        }
    }

    /// Removes an empty set.
    fn remove(&mut self, key: &str, value: Option<&str>) {
        let Some(by_value) = self.0.get_mut(key) else { return };
        if let Some(value) = value {
            by_value.values.remove(value);
        }
        if by_value.values.is_empty() && by_value.any.is_empty() {
            self.0.remove(key);
        }
    }
}
