//! Consequences of a change: the resources of a definition, the dependents of an owner, the deletion of a
//! namespace.

use std::sync::Arc;

use serde_json::Value;

use super::{Api, Ask, DeleteOptions, Target};
use crate::failure::Failure;
use crate::kinds::{self, Door};
use crate::store::{Key, Object, Table};

impl Api {
    /// Removes an object permanently, with the objects that depend on it alone.
    pub(super) fn remove(&mut self, target: &Target, ask: &Ask) -> Option<Arc<Object>> {
        let table = target.resource.table;
        if table == self.registry.definitions {
            self.drop_custom_resources(&target.name);
        }
        let last = self.store.remove(table, &target.key())?;
        kinds::forget(&target.resource, last.value(), &mut self.addresses);
        self.addresses.commit();
        if table == self.registry.definitions {
            self.registry.define(&mut self.store, &target.name, None);
        }
        self.collect_dependents(last.uid(), ask);
        self.finish_namespace(&target.namespace, ask);
        Some(last)
    }

    /// Performs the consequences of a stored object.
    pub(super) fn after_change(&mut self, table: Table, object: Option<&Arc<Object>>) {
        if table == self.registry.definitions
            && let Some(object) = object
        {
            let name = object.value()["metadata"]["name"].as_str().unwrap_or_default();
            self.registry.define(&mut self.store, name, Some(object.value()));
        }
    }

    /// # Errors
    /// 404 if the namespace does not exist, 403 if it is being deleted.
    pub(super) fn admit_namespace(&self, target: &Target, name: &str) -> Result<(), Failure> {
        if !target.resource.namespaced {
            return Ok(());
        }
        let key = Key::new("", target.namespace.clone());
        let Some(namespace) = self.store.get(self.registry.namespaces, &key) else {
            let named = crate::failure::Named { group: "", plural: "namespaces", kind: "Namespace" };
            return Err(Failure::not_found(named, &target.namespace));
        };
        if namespace.value()["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            target.namespace
        );
        Err(Failure::forbidden(target.resource.named(), name, &why))
    }

    /// A namespace remains while it contains objects.
    pub(super) fn namespace_is_not_empty(&self, target: &Target) -> bool {
        target.resource.table == self.registry.namespaces
            && self
                .registry
                .iter()
                .filter(|resource| resource.namespaced)
                .any(|resource| self.store.iter(resource.table, Some(&target.name)).next().is_some())
    }

    /// Deletes every object in a namespace that is being deleted, then the namespace.
    pub(super) fn empty_namespace(&mut self, namespace: &str, ask: &Ask) {
        let resources: Vec<_> =
            self.registry.iter().filter(|resource| resource.namespaced).cloned().collect();
        for resource in resources {
            let names: Vec<String> =
                self.store.iter(resource.table, Some(namespace)).map(|(key, _)| key.name.clone()).collect();
            for name in names {
                let target = Target {
                    resource: resource.clone(),
                    namespace: namespace.to_owned(),
                    name,
                    door: Door::Object,
                };
                // It may be deleted already, as a dependent of another object.
                let _ = self.delete(&target, &DeleteOptions::default(), ask);
            }
        }
        self.finish_namespace(namespace, ask);
    }

    /// Removes a namespace that is being deleted if it is empty.
    fn finish_namespace(&mut self, namespace: &str, ask: &Ask) {
        let key = Key::new("", namespace);
        let Some(object) = self.store.get(self.registry.namespaces, &key) else { return };
        let metadata = &object.value()["metadata"];
        let held = !metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        if metadata["deletionTimestamp"].is_null() || held {
            return;
        }
        let Some(resource) = self.registry.get("", "v1", "namespaces").cloned() else { return };
        let target =
            Target { resource, namespace: String::new(), name: namespace.to_owned(), door: Door::Object };
        if !self.namespace_is_not_empty(&target) {
            self.remove(&target, ask);
        }
    }

    /// Deletes the objects whose last owner was deleted; the others lose the reference.
    fn collect_dependents(&mut self, uid: &str, ask: &Ask) {
        for (table, key) in self.store.dependents(uid) {
            if self.disown(table, &key, uid) {
                let Some(resource) = self.registry.of_table(table).cloned() else { continue };
                let target =
                    Target { resource, namespace: key.namespace, name: key.name, door: Door::Object };
                // It may be deleted already, as a dependent of a dependent.
                let _ = self.delete(&target, &DeleteOptions::default(), ask);
            }
        }
    }

    pub(super) fn orphan_dependents(&mut self, uid: &str) {
        for (table, key) in self.store.dependents(uid) {
            let Some(object) = self.store.get(table, &key) else { continue };
            let mut value = object.value().clone();
            retain_owners(&mut value, uid);
            self.store.put(table, key, value);
        }
    }

    /// Returns true if no owner remains; otherwise removes the reference to this owner.
    fn disown(&mut self, table: Table, key: &Key, uid: &str) -> bool {
        let Some(object) = self.store.get(table, key) else { return false };
        if object.owners().count() <= 1 {
            return true;
        }
        let mut value = object.value().clone();
        retain_owners(&mut value, uid);
        self.store.put(table, key.clone(), value);
        false
    }

    /// Deleting a definition deletes its objects, regardless of their finalizers.
    fn drop_custom_resources(&mut self, definition: &str) {
        let table = self.store.table(definition);
        let keys: Vec<Key> = self.store.iter(table, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.store.remove(table, &key);
        }
    }
}

fn retain_owners(value: &mut Value, gone: &str) {
    let Value::Object(metadata) = &mut value["metadata"] else { return };
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        owners.retain(|owner| owner["uid"] != gone);
        if owners.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
}
