//! The registry of resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::kinds::{BUILTIN, Resource, resources_of};
use crate::store::{Store, Table};

/// All resources by group, version and plural name.
pub(crate) struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
    /// The table of definitions; its changes update the registry.
    pub definitions: Table,
    pub namespaces: Table,
}

impl Registry {
    pub(crate) fn new(store: &mut Store) -> Registry {
        let mut registry = Registry {
            resources: BTreeMap::new(),
            definitions: store.table("customresourcedefinitions.apiextensions.k8s.io"),
            namespaces: store.table("namespaces"),
        };
        for builtin in BUILTIN {
            let resource = builtin.resource(store);
            registry.insert(resource);
        }
        registry
    }

    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Returns all resources, by group, version and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Returns any resource whose objects are in a table.
    pub(crate) fn of_table(&self, table: Table) -> Option<&Arc<Resource>> {
        self.resources.values().find(|resource| resource.table == table)
    }

    /// Replaces the resources of a definition; None removes them.
    pub(crate) fn define(&mut self, store: &mut Store, name: &str, crd: Option<&Value>) {
        self.resources.retain(|(group, _, plural), resource| {
            resource.is_builtin() || format!("{plural}.{group}") != name
        });
        if let Some(crd) = crd {
            let table = store.table(name);
            for resource in resources_of(crd, table) {
                self.insert(resource);
            }
        }
    }

    fn insert(&mut self, resource: Resource) {
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.resources.insert(key, Arc::new(resource));
    }
}
