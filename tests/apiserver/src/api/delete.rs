//! Deleting objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Ask, Target};
use crate::failure::Failure;
use crate::selectors::Selector;
use crate::store::{Key, Object};

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// Keeps dependents without the owner reference.
    pub orphan: bool,
}

/// Result of a deletion.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// The object is deleted; its last state.
    Gone(Arc<Object>),
    /// The object waits for its finalizers.
    Waits(Arc<Object>),
}

impl DeleteOptions {
    /// Parses the body of a request.
    pub(crate) fn read(body: &Value) -> DeleteOptions {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        DeleteOptions {
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            orphan: body["propagationPolicy"] == "Orphan" || body["orphanDependents"] == true,
        }
    }
}

impl Api {
    /// DELETE.
    ///
    /// # Errors
    /// As kube-apiserver.
    pub(crate) fn delete(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
        ask: &Ask,
    ) -> Result<Deleted, Failure> {
        let resource = &target.resource;
        let Some(stored) = self.store.get(resource.table, &target.key()).cloned() else {
            return Err(target.not_found());
        };
        let metadata = &stored.value()["metadata"];
        for (what, wanted, found) in [
            ("UID", &options.uid, &metadata["uid"]),
            ("ResourceVersion", &options.resource_version, &metadata["resourceVersion"]),
        ] {
            if let Some(wanted) = wanted
                && found != wanted
            {
                let found = found.as_str().unwrap_or_default();
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                );
                return Err(Failure::conflict(resource.named(), &target.name, &why));
            }
        }
        if resource.group.is_empty()
            && resource.plural == "namespaces"
            && ["default", "kube-system", "kube-public"].contains(&target.name.as_str())
        {
            return Err(Failure::forbidden(
                resource.named(),
                &target.name,
                "this namespace may not be deleted",
            ));
        }
        if ask.dry_run {
            return Ok(Deleted::Gone(stored));
        }
        if options.orphan {
            self.orphan_dependents(stored.uid());
        }
        let waits = !metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        let is_namespace = resource.table == self.registry.namespaces;
        if !waits && !is_namespace {
            return Ok(match self.remove(target, ask) {
                Some(last) => Deleted::Gone(last),
                None => return Err(target.not_found()),
            });
        }
        let mut object = stored;
        if metadata_of(&object)["deletionTimestamp"].is_null() {
            let mut value = object.value().clone();
            value["metadata"]["deletionTimestamp"] = json!(ask.now);
            value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if resource.has_generation {
                let generation = value["metadata"]["generation"].as_i64().unwrap_or_default();
                value["metadata"]["generation"] = json!(generation + 1);
            }
            if is_namespace {
                value["status"]["phase"] = json!("Terminating");
            }
            object = self.store.put(resource.table, target.key(), value);
            self.after_change(resource.table, Some(&object));
        }
        if is_namespace {
            self.empty_namespace(&target.name, ask);
            if self.store.get(resource.table, &target.key()).is_none() {
                return Ok(Deleted::Gone(object));
            }
        }
        Ok(Deleted::Waits(object))
    }

    /// DELETE on a collection. Returns the objects to delete.
    ///
    /// # Errors
    /// As kube-apiserver; objects deleted before an error stay deleted.
    pub(crate) fn delete_collection(
        &mut self,
        target: &Target,
        selector: &Selector,
        options: &DeleteOptions,
        ask: &Ask,
    ) -> Result<Vec<Arc<Object>>, Failure> {
        let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
        let selected: Vec<(Key, Arc<Object>)> = self
            .store
            .iter(target.resource.table, namespace)
            .filter(|(_, object)| selector.matches(object.value()))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let mut deleted = Vec::new();
        for (key, object) in selected {
            let each = Target { namespace: key.namespace, name: key.name, ..target.clone() };
            match self.delete(&each, options, ask) {
                Ok(_) => deleted.push(object),
                Err(failure) if failure.code == 404 => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(deleted)
    }
}

fn metadata_of(object: &Object) -> &Value {
    &object.value()["metadata"]
}
