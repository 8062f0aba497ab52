//! Log lines for objects whose labels exceed their bounds: Nodes, Namespaces and pools have no condition for
//! that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use fairlead_crds::model::labels::{LabelBounds, LabelExcess};
use kube::{Resource, ResourceExt};

/// The maximum number of objects of one kind that are remembered. More are not logged.
const MAX_REPORTED: usize = 256;

/// The objects of one kind whose labels exceed [`LabelBounds::Administrators`]. Each is logged once, and
/// again if its labels were within the bounds in the meantime.
#[derive(Debug, Default)]
pub(crate) struct LabelReport {
    reported: Mutex<BTreeSet<String>>,
}

impl LabelReport {
    /// Logs the object if its labels exceed the bounds.
    pub(crate) fn check<K: Resource<DynamicType = ()>>(&self, object: &K) {
        let (kind, name) = (K::kind(&()), object.name_any());
        if let Some(excess) = self.update(&name, object.labels()) {
            tracing::warn!(
                %kind,
                name,
                "the object has {excess}: no selector with requirements matches it. Remove some of its labels"
            );
        }
    }

    /// Returns the excess if it has not been reported yet.
    fn update(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<LabelExcess> {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(excess) = LabelExcess::of(labels, LabelBounds::Administrators) else {
            reported.remove(name);
            return None;
        };
        (reported.len() < MAX_REPORTED && reported.insert(name.to_owned())).then_some(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(number: usize) -> BTreeMap<String, String> {
        (0..number).map(|n| (format!("l{n}"), String::new())).collect()
    }

    #[test]
    fn object_with_too_many_labels_is_reported_once() {
        let report = LabelReport::default();
        let reported = |name: &str, number| report.update(name, &labels(number)).is_some();
        assert!(!reported("n1", 1_000));
        assert!(reported("n1", 5_000));
        assert!(!reported("n1", 5_001));
        assert!(reported("n2", 5_000), "another object");
        assert!(!reported("n1", 10));
        assert!(reported("n1", 5_000), "again");
    }

    #[test]
    fn number_of_reported_objects_is_bounded() {
        let report = LabelReport::default();
        let reported = (0..2 * MAX_REPORTED).filter_map(|n| report.update(&format!("n{n}"), &labels(5_000)));
        assert_eq!(reported.count(), MAX_REPORTED);
    }
}
