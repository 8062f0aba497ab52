//! Services and claims that have not what they want, by what they wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use crate::ipam::{Family, Group};

/// Who wants addresses. Of the same age, claims come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// An `IPClaim`.
    Claim(ObjectKey),
    /// A Service.
    Service(ObjectKey),
}

/// Creation time and name: the oldest is served first.
pub(super) type Age = (i64, Asker);

/// What may help somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// An address of this family becomes free in this pool.
    Free(Arc<str>, Family),
    /// An address of this pool can be joined by Services of this group.
    Join(Arc<str>, Arc<Group>),
    /// Something happens to this address.
    Address(IpAddr),
    /// Any pool changes.
    Config,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    askers: BTreeMap<Asker, (i64, Vec<For>)>,
    by: BTreeMap<For, BTreeSet<Age>>,
    services: usize,
}

impl Waiting {
    /// How many Services wait.
    pub(super) fn services(&self) -> usize {
        self.services
    }

    /// Whether somebody waits.
    pub(super) fn has(&self, asker: &Asker) -> bool {
        self.askers.contains_key(asker)
    }

    /// Somebody waits for any of `what`.
    pub(super) fn insert(&mut self, (created, asker): Age, what: Vec<For>) {
        self.remove(&asker);
        if what.is_empty() {
            return;
        }
        for one in &what {
            self.by.entry(one.clone()).or_default().insert((created, asker.clone()));
        }
        self.services += usize::from(matches!(asker, Asker::Service(_)));
        self.askers.insert(asker, (created, what));
    }

    /// Somebody no longer waits.
    pub(super) fn remove(&mut self, asker: &Asker) {
        let Some((created, what)) = self.askers.remove(asker) else { return };
        self.services -= usize::from(matches!(asker, Asker::Service(_)));
        let age = (created, asker.clone());
        for one in what {
            if let Some(ages) = self.by.get_mut(&one) {
                ages.remove(&age);
                if ages.is_empty() {
                    self.by.remove(&one);
                }
            }
        }
    }

    /// Whether this one waits for it.
    pub(super) fn is_on(&self, what: &For, age: &Age) -> bool {
        self.by.get(what).is_some_and(|ages| ages.contains(age))
    }

    /// Who waits for it, oldest first.
    pub(super) fn on(&self, what: &For) -> impl Iterator<Item = &Age> {
        self.by.get(what).into_iter().flatten()
    }

    /// The oldest who waits for it, or the next after `last`.
    pub(super) fn after(&self, what: &For, last: Option<&Age>) -> Option<&Age> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.by.get(what)?.range((from, Bound::Unbounded)).next()
    }
}
