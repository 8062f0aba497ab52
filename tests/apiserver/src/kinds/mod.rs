//! The kinds: what each is called, how it merges, and what its strategy does to an object on its way in.

pub(crate) mod addresses;
mod builtin;
mod crd;
mod event;
mod names;
mod service;
mod shapes;
mod strategies;

use std::sync::Arc;

use serde_json::Value;

use crate::failure::Named;
use crate::patch::Shape;
use crate::schema::Schema;
use crate::store::Table;

pub(crate) use builtin::BUILTIN;
pub(crate) use crd::resources_of;
pub(crate) use names::{
    is_1035_label, is_dns_label, is_label_value, is_path_segment, is_qualified_name, is_subdomain,
};
pub(crate) use strategies::{Admitted, admit, forget};

/// Which part of an object a write is about.
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
    /// There is `/status`.
    pub has_status: bool,
    /// `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// A PUT without resourceVersion replaces whatever is there.
    pub unconditional_update: bool,
    /// A PUT creates what is not there.
    pub create_on_update: bool,
    /// DELETE answers with the object rather than with a Status.
    pub returns_deleted: bool,
    /// Fields that field selectors may use besides `metadata.name` and `metadata.namespace`.
    pub fields: Vec<String>,
    pub shape: Shape,
    pub table: Table,
    pub strategy: Strategy,
}

/// What happens to an object on its way in.
#[derive(Clone)]
pub(crate) enum Strategy {
    /// A kind of Kubernetes itself.
    Builtin(&'static builtin::Builtin),
    /// A custom resource; `columns` are its `additionalPrinterColumns`.
    Custom { schema: Arc<Schema>, columns: Arc<Vec<Value>> },
}

impl Resource {
    /// As messages name it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { group: &self.group, plural: &self.plural, kind: &self.kind }
    }

    /// `group/version`, or `version` for core.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether field selectors may use a field.
    pub(crate) fn supports_field(&self, field: &str) -> bool {
        matches!(field, "metadata.name" | "metadata.namespace")
            || self.fields.iter().any(|other| other == field)
    }

    pub(crate) fn is_builtin(&self) -> bool {
        matches!(self.strategy, Strategy::Builtin(_))
    }

    /// The object in this resource's version, when it is stored in another; None when it is as it should be.
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
