//! The kinds: names, merge behavior, and the strategy that completes and validates an object.

pub(crate) mod addresses;
mod builtin;
mod crd;
mod event;
mod service;
mod service_cidr;
mod shapes;
mod strategies;
mod times;

use std::sync::Arc;

use fairlead_schema::Schema;
use serde_json::Value;

use crate::failure::Named;
use crate::patch::Shape;
use crate::store::Table;

pub(crate) use builtin::BUILTIN;
pub(crate) use crd::resources_of;
pub(crate) use strategies::{admit, forget};
pub(crate) use times::Times;

/// The part of an object that a write addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The object itself.
    Object,
    /// Its `/status`.
    Status,
}

/// A resource of one version, as discovery lists it.
pub(crate) struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// The kind has `/status`.
    pub has_status: bool,
    /// `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// A PUT without resourceVersion replaces the stored object.
    pub unconditional_update: bool,
    /// A PUT creates a missing object.
    pub create_on_update: bool,
    /// DELETE returns the object rather than a Status.
    pub returns_deleted: bool,
    /// Fields for field selectors besides `metadata.name` and `metadata.namespace`.
    pub fields: Vec<String>,
    pub shape: Shape,
    pub table: Table,
    pub strategy: Strategy,
}

/// The strategy of a kind.
#[derive(Clone)]
pub(crate) enum Strategy {
    /// A Kubernetes kind.
    Builtin(&'static builtin::Builtin),
    /// A custom resource; `columns` are its `additionalPrinterColumns`.
    Custom { schema: Arc<Schema>, columns: Arc<Vec<Value>> },
}

impl Resource {
    /// Returns the kind as error messages name it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { group: &self.group, plural: &self.plural, kind: &self.kind }
    }

    /// `group/version`, or `version` for core.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Returns true if field selectors support a field.
    pub(crate) fn supports_field(&self, field: &str) -> bool {
        matches!(field, "metadata.name" | "metadata.namespace")
            || self.fields.iter().any(|other| other == field)
    }

    pub(crate) fn is_builtin(&self) -> bool {
        matches!(self.strategy, Strategy::Builtin(_))
    }

    /// Converts a stored object into this resource's version; None if it is stored in it.
    pub(crate) fn converted(&self, stored: &Value) -> Option<Value> {
        if let Strategy::Builtin(builtin) = &self.strategy {
            return builtin.outward.map(|outward| outward(stored.clone()));
        }
        let api_version = self.api_version();
        (stored["apiVersion"] != api_version.as_str()).then(|| {
            let mut object = stored.clone();
            object["apiVersion"] = Value::String(api_version);
            object
        })
    }
}
