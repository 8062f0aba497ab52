//! Creating, replacing and patching objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::compare::{drop_nulls, ours, retain_known, same_but_for_times, spec_changed};
use super::{Api, Ask, Patch, Target, UnknownFields, Written, metadata};
use crate::failure::{Cause, Failure, Named};
use crate::kinds::{self, Door};
use crate::patch::{
    Author, after_apply, after_update, json_patch, list_of_duplicates, merge_patch, strategic_merge_patch,
};
use crate::store::{Key, Object};

/// Limit of an object, as of a request to etcd by default. kube-apiserver stores built-in kinds in a shorter
/// encoding, so a little larger ones fit there.
const LARGEST_OBJECT: usize = 1_572_864;

impl Api {
    /// POST.
    ///
    /// # Errors
    /// As kube-apiserver.
    pub(crate) fn create(&mut self, target: &Target, body: Value, ask: &Ask) -> Result<Written, Failure> {
        let (mut object, warnings) = metadata::decode(&target.resource, body, ask.unknown)?;
        if let Value::Object(metadata) = &mut object["metadata"] {
            metadata.remove("managedFields");
        }
        self.insert(target, object, None, warnings, ask)
    }

    /// PUT.
    ///
    /// # Errors
    /// As kube-apiserver.
    pub(crate) fn replace(&mut self, target: &Target, body: Value, ask: &Ask) -> Result<Written, Failure> {
        let (mut object, warnings) = metadata::decode(&target.resource, body, ask.unknown)?;
        metadata::place(target, &mut object)?;
        if self.store.get(target.resource.table, &target.key()).is_none() {
            let gone = !text(&object["metadata"]["uid"]).is_empty();
            if !target.resource.create_on_update || target.door == Door::Status || gone {
                return Err(target.not_found());
            }
            return self.insert(target, object, None, warnings, ask);
        }
        if text(&object["metadata"]["resourceVersion"]).is_empty() && !target.resource.unconditional_update {
            let cause = crate::failure::Cause::invalid(
                "metadata.resourceVersion",
                &json!(0),
                "must be specified for an update",
            );
            return Err(Failure::invalid(target.resource.named(), &target.name, &[cause]));
        }
        self.update(target, object, None, warnings, ask)
    }

    /// PATCH.
    ///
    /// # Errors
    /// As kube-apiserver.
    pub(crate) fn patch(&mut self, target: &Target, patch: Patch, ask: &Ask) -> Result<Written, Failure> {
        let resource = &target.resource;
        let stored = self.store.get(resource.table, &target.key()).cloned();
        let Some(stored) = stored else {
            return match patch {
                Patch::Apply(config) if target.door == Door::Object => self.apply(target, None, config, ask),
                _ => Err(target.not_found()),
            };
        };
        // Patches are written against the version of the request.
        let mut object = resource.converted(stored.value()).unwrap_or_else(|| stored.value().clone());
        match patch {
            Patch::Apply(config) => return self.apply(target, Some(&object), config, ask),
            Patch::Json(patch) => json_patch(&mut object, patch)?,
            Patch::Merge(patch) => {
                if !patch.is_object() {
                    return Err(Failure::bad_request("error decoding patch: it is not a JSON object"));
                }
                merge_patch(&mut object, &patch);
            }
            Patch::Strategic(patch) => {
                if !resource.is_builtin() {
                    return Err(Failure::unsupported_media_type(&[
                        "application/json-patch+json",
                        "application/merge-patch+json",
                        "application/apply-patch+yaml",
                    ]));
                }
                strategic_merge_patch(&mut object, &patch, &resource.shape)?;
            }
        }
        let (mut object, warnings) = metadata::decode(resource, object.clone(), ask.unknown)
            .map_err(|failure| unreadable(&object, &failure))?;
        metadata::place(target, &mut object)?;
        self.update(target, object, None, warnings, ask)
    }

    /// Applies server-side onto `live`, in the version of the request.
    fn apply(
        &mut self,
        target: &Target,
        live: Option<&Value>,
        mut config: Value,
        ask: &Ask,
    ) -> Result<Written, Failure> {
        let resource = &target.resource;
        drop_nulls(&mut config);
        for field in ["apiVersion", "kind"] {
            if config[field].as_str().is_none_or(str::is_empty) {
                return Err(Failure::bad_request(format!("invalid object: {field} must be set for apply")));
            }
        }
        if config["metadata"]
            .get("managedFields")
            .is_some_and(|fields| !fields.as_array().is_none_or(Vec::is_empty))
        {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        // Types and names are checked before merging; the merge uses the client's configuration.
        let (checked, mut warnings) = metadata::decode(resource, config.clone(), ask.unknown)?;
        let mut placed = checked;
        metadata::place(target, &mut placed)?;
        let wanted_revision = text(&config["metadata"]["resourceVersion"]);
        for field in ["namespace", "name"] {
            match &placed["metadata"][field] {
                Value::Null => {}
                value => config["metadata"][field] = value.clone(),
            }
        }
        retain_known(&mut config, &resource.converted(&placed).unwrap_or(placed));
        let duplicates = list_of_duplicates(&config, &resource.shape);
        if let Some(path) = duplicates.first() {
            return Err(Failure::unknown(format!(
                "failed to create manager for existing fields: failed to convert new object to smd typed: errors:\n  {path}: duplicate entries for key, or a key is missing"
            )));
        }
        let nothing = json!({});
        let mut base = live.cloned().unwrap_or(nothing);
        if let Value::Object(metadata) = &mut config["metadata"] {
            metadata.remove("resourceVersion");
        }
        let author = self.author(target, ask);
        let (mut merged, managed) = after_apply(&base, &config, &resource.shape, &author, ask.force)?;
        base["metadata"]["managedFields"] = managed.clone();
        if !wanted_revision.is_empty() {
            merged["metadata"]["resourceVersion"] = json!(wanted_revision);
        }
        merged["metadata"]["managedFields"] = managed.clone();
        let (object, more) = metadata::decode(resource, merged, UnknownFields::Ignore)?;
        warnings.extend(more);
        match live {
            Some(_) => self.update(target, object, Some(managed), warnings, ask),
            None => self.insert(target, object, Some(managed), warnings, ask),
        }
    }

    fn insert(
        &mut self,
        target: &Target,
        mut object: Value,
        managed: Option<Value>,
        warnings: Vec<String>,
        ask: &Ask,
    ) -> Result<Written, Failure> {
        let resource = target.resource.clone();
        metadata::place(target, &mut object)?;
        if !text(&object["metadata"]["resourceVersion"]).is_empty() {
            return Err(if managed.is_some() || !target.name.is_empty() {
                Failure::modified(resource.named(), &target.name)
            } else {
                Failure::unknown("resourceVersion should not be set on objects to be created")
            });
        }
        if let Some(prefix) = metadata::name_prefix(&object) {
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.new_suffix()));
        }
        let name = text(&object["metadata"]["name"]);
        self.admit_namespace(target, &name)?;
        let key = Key::new(target.namespace.clone(), name.clone());
        if self.store.get(resource.table, &key).is_some() {
            return Err(Failure::already_exists(resource.named(), &name));
        }

        let uid = self.new_uid();
        if let Value::Object(metadata) = &mut object["metadata"] {
            for field in [
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
                "generation",
                "resourceVersion",
            ] {
                metadata.remove(field);
            }
            metadata.insert("uid".into(), json!(uid));
            metadata.insert("creationTimestamp".into(), json!(ask.now));
            if resource.has_generation {
                metadata.insert("generation".into(), json!(1));
            }
        }
        let causes = metadata::validate(&resource, &object);
        if !causes.is_empty() {
            return Err(Failure::invalid(resource.named(), &name, &causes));
        }
        let wanted = object.clone();
        let mut object = self.admitted(target, object, None, ask)?;
        object["metadata"]["managedFields"] = match managed {
            Some(managed) => managed,
            None => after_update(None, &ours(&wanted, &object), &resource.shape, &self.author(target, ask)),
        };
        metadata::tidy(&mut object);
        Ok(Written { object: self.commit(target, key, object, ask)?, created: true, warnings })
    }

    fn update(
        &mut self,
        target: &Target,
        mut object: Value,
        managed: Option<Value>,
        warnings: Vec<String>,
        ask: &Ask,
    ) -> Result<Written, Failure> {
        let resource = target.resource.clone();
        let key = target.key();
        let Some(stored) = self.store.get(resource.table, &key).cloned() else {
            return Err(target.not_found());
        };
        let old = stored.value();
        let uid = text(&object["metadata"]["uid"]);
        if !uid.is_empty() && uid != stored.uid() {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                stored.uid()
            );
            return Err(Failure::conflict(resource.named(), &target.name, &why));
        }
        let revision = text(&object["metadata"]["resourceVersion"]);
        if !revision.is_empty() && object["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
        {
            return Err(Failure::modified(resource.named(), &target.name));
        }
        let mut causes = metadata::carry_over(&mut object, old);
        causes.extend(metadata::validate(&resource, &object));
        if !causes.is_empty() {
            return Err(Failure::invalid(resource.named(), &target.name, &causes));
        }
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        let reset = object["metadata"]["managedFields"] == json!([{}]);

        let mut object = self.admitted(target, object, Some(old), ask)?;
        if resource.has_generation && spec_changed(old, &object) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        object["metadata"]["managedFields"] = match managed {
            Some(managed) => managed,
            None if reset => json!([]),
            None => after_update(Some(old), &object, &resource.shape, &self.author(target, ask)),
        };
        metadata::tidy(&mut object);
        if same_but_for_times(old, &object) {
            self.addresses.rollback();
            return Ok(Written { object: stored, created: false, warnings });
        }
        let going = !object["metadata"]["deletionTimestamp"].is_null()
            && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if going && !ask.dry_run && !self.namespace_is_not_empty(target) {
            // Removing the last finalizer deletes the object; watches receive only the deletion.
            self.addresses.rollback();
            self.remove(target, ask);
            let object = Arc::new(Object::new(object, self.store.revision()));
            return Ok(Written { object, created: false, warnings });
        }
        let object = self.commit(target, key, object, ask)?;
        Ok(Written { object, created: false, warnings })
    }

    fn admitted(
        &mut self,
        target: &Target,
        object: Value,
        old: Option<&Value>,
        ask: &Ask,
    ) -> Result<Value, Failure> {
        let name = text(&object["metadata"]["name"]);
        kinds::admit(&target.resource, object, old, target.door, &mut self.addresses, &ask.now).map_err(
            |causes| {
                self.addresses.rollback();
                if let [only] = &causes[..]
                    && only.reason == "InternalError"
                {
                    return Failure::internal(only.message.clone());
                }
                Failure::invalid(target.resource.named(), &name, &causes)
            },
        )
    }

    /// Stores the object, except in a dry run.
    ///
    /// # Errors
    /// 500 for an object that etcd does not accept.
    fn commit(
        &mut self,
        target: &Target,
        key: Key,
        object: Value,
        ask: &Ask,
    ) -> Result<Arc<Object>, Failure> {
        if ask.dry_run {
            self.addresses.rollback();
            return Ok(Arc::new(Object::new(object, self.store.revision())));
        }
        if encoded_size(&object) > LARGEST_OBJECT {
            self.addresses.rollback();
            return Err(Failure::unknown("etcdserver: request is too large"));
        }
        self.addresses.commit();
        let object = self.store.put(target.resource.table, key, object);
        self.after_change(target.resource.table, Some(&object));
        Ok(object)
    }

    fn author(&self, target: &Target, ask: &Ask) -> Author {
        Author {
            manager: ask.manager.clone(),
            api_version: target.resource.api_version(),
            subresource: if target.door == Door::Status { "status".into() } else { String::new() },
            time: ask.now.clone(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// 422: a patched object that cannot be decoded is an error of the patch.
fn unreadable(patched: &Value, failure: &Failure) -> Failure {
    let nameless = Named { group: "", plural: "", kind: "" };
    let cause = Cause::invalid("patch", &json!(patched.to_string()), &failure.message);
    Failure::invalid(nameless, "", &[cause])
}

/// Returns the length of an object's JSON text.
fn encoded_size(object: &Value) -> usize {
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0 += text.len();
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    // A value always has a text, and counting does not fail.
    let _ = serde_json::to_writer(&mut length, object);
    length.0
}
