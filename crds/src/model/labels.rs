//! Labels of Kubernetes objects.

use std::collections::BTreeMap;

/// Labels of an object, by key.
pub type Labels = BTreeMap<String, String>;
