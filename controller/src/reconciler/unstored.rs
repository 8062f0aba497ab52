//! Statuses that the API server does not store. It drops fields that the definition of the kind lacks: the
//! definitions may be of an earlier version than the controller.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_allocator::reconcile::objects::ObjectPatch;
use fairlead_crds::kinds::{Kind, ObjectRef};

/// The objects whose last status patch changed nothing, in this term. It is not sent again for the same
/// version of the object.
#[derive(Debug, Default)]
pub(super) struct UnstoredStatuses {
    versions: BTreeMap<ObjectRef, String>,
    /// The kinds that a log message has named.
    reported: BTreeSet<Kind>,
}

impl UnstoredStatuses {
    /// Handles that the API server has applied a status patch to this version of an object and has not
    /// changed the object.
    pub(super) fn handle_unstored(&mut self, object: &ObjectRef, version: &str) {
        self.versions.insert(object.clone(), version.to_owned());
        if self.reported.insert(object.kind) {
            tracing::warn!(
                %object,
                "the API server drops fields from the status that the controller writes, such as \
                 status.inForce, for this kind: install the CustomResourceDefinitions of this version"
            );
        }
    }

    /// Returns the status patch of an object, unless the API server would store nothing of it.
    pub(super) fn filter(&mut self, object: &ObjectRef, patch: Option<ObjectPatch>) -> Option<ObjectPatch> {
        let is_unstored = patch.as_ref().is_some_and(|patch| {
            self.versions.get(object).is_some_and(|version| *version == patch.resource_version)
        });
        if !is_unstored {
            self.versions.remove(object);
        }
        patch.filter(|_| !is_unstored)
    }

    /// Removes and returns all objects: the API server may store their statuses now.
    pub(super) fn take(&mut self) -> impl Iterator<Item = ObjectRef> + use<> {
        self.reported.clear();
        std::mem::take(&mut self.versions).into_keys()
    }
}
