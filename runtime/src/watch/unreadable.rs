//! The objects of one kind that cannot be read completely.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::text::{MAX_NAME, printable};

/// The objects that cannot be read completely. Each is logged once, until it can be read or is deleted.
#[derive(Debug, Default)]
pub(super) struct Unreadable(BTreeSet<ObjectKey>);

impl Unreadable {
    /// Returns the number of objects.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Records an object that was read, with the first part that could not be read.
    pub(super) fn record(&mut self, kind: &str, key: ObjectKey, problem: Option<&str>) {
        match problem {
            None => drop(self.0.remove(&key)),
            Some(problem) => {
                if !self.0.contains(&key) {
                    log(kind, &key, problem);
                    self.0.insert(key);
                }
            }
        }
    }

    /// Records a complete list: its objects that cannot be read, with their problems.
    pub(super) fn replace(&mut self, kind: &str, listed: BTreeMap<ObjectKey, String>) {
        for (key, problem) in listed.iter().filter(|(key, _)| !self.0.contains(*key)) {
            log(kind, key, problem);
        }
        self.0 = listed.into_keys().collect();
    }

    /// Records the deletion of an object.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}

fn log(kind: &str, ObjectKey { namespace, name }: &ObjectKey, problem: &str) {
    let (namespace, name) = (printable(namespace.as_str(), MAX_NAME), printable(name.as_str(), MAX_NAME));
    tracing::warn!(%kind, %namespace, %name, %problem, "cannot read a part of an object; using the rest");
}
