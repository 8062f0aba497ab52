//! `metadata`: validation of client input and the fields that the server sets.

use fairlead_schema::metadata::{self, NameRule, dropped};
use fairlead_schema::normalize_numbers;
use serde_json::{Map, Value, json};

use super::{Target, UnknownFields};
use crate::failure::{Cause, Failure};
use crate::kinds::{Resource, Strategy, Times};

/// Longest `generateName` before the suffix.
const LONGEST_PREFIX: usize = 63 - 5;

/// Decodes an object: expected kind, types, known fields. The result is in the stored version.
///
/// # Errors
/// 400, in the words of kube-apiserver's decoder.
pub(super) fn decode(
    resource: &Resource,
    mut object: Value,
    unknown: UnknownFields,
) -> Result<(Value, Vec<String>), Failure> {
    let Value::Object(fields) = &mut object else {
        return Err(Failure::bad_request("the object provided is unrecognized: it is not a JSON object"));
    };
    let (kind, version) = (resource.kind.as_str(), resource.api_version());
    for (field, wanted) in [("kind", kind), ("apiVersion", version.as_str())] {
        let found = fields.entry(field).or_insert_with(|| json!(wanted));
        if found != wanted {
            return Err(Failure::bad_request(format!(
                "{} in version {:?} cannot be handled as a {kind}: the {field} in the data ({found}) does not match the expected one ({wanted:?})",
                kind, resource.version
            )));
        }
    }
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }

    let cannot = |why: String| {
        Failure::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {why}",
            resource.version
        ))
    };
    let (mut object, dropped) = match &resource.strategy {
        Strategy::Builtin(builtin) => {
            let before = object.clone();
            let times = Times::set_aside(&mut object).map_err(cannot)?;
            let mut decoded = (builtin.decode)(object).map_err(|error| cannot(error.to_string()))?;
            times.put_back(&mut decoded);
            let dropped =
                if unknown == UnknownFields::Ignore { Vec::new() } else { dropped(&before, &decoded) };
            (builtin.inward.map_or(decoded.clone(), |inward| inward(decoded)), dropped)
        }
        Strategy::Custom { schema, .. } => {
            normalize_numbers(&mut object);
            let mut part = json!({ "metadata": object["metadata"].take() });
            let times = Times::set_aside(&mut part).map_err(cannot)?;
            let mut dropped = metadata::decode(&mut part).map_err(|error| cannot(error.to_string()))?;
            times.put_back(&mut part);
            object["metadata"] = part["metadata"].take();
            dropped.extend(schema.prune(&mut object));
            (object, dropped)
        }
    };
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    let quoted: Vec<String> = dropped.iter().map(|path| format!("unknown field {path:?}")).collect();
    match unknown {
        UnknownFields::Refuse if !quoted.is_empty() => {
            Err(cannot(format!("strict decoding error: {}", quoted.join(", "))))
        }
        UnknownFields::Ignore => Ok((object, Vec::new())),
        _ => Ok((object, quoted)),
    }
}

/// Namespace and name of the body must be those of the path.
///
/// # Errors
/// 400.
pub(super) fn place(target: &Target, object: &mut Value) -> Result<(), Failure> {
    let metadata = &mut object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    if target.resource.namespaced && !namespace.is_empty() && namespace != target.namespace {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if target.resource.namespaced {
        metadata["namespace"] = json!(target.namespace);
    } else if let Value::Object(metadata) = metadata {
        metadata.remove("namespace");
    }
    if !target.name.is_empty() {
        let name = metadata["name"].as_str().unwrap_or_default();
        if !name.is_empty() && name != target.name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        metadata["name"] = json!(target.name);
    }
    Ok(())
}

/// Returns the `generateName` prefix if the object has no name.
pub(super) fn name_prefix(object: &Value) -> Option<String> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    if !text("name").is_empty() || text("generateName").is_empty() {
        return None;
    }
    Some(text("generateName").chars().take(LONGEST_PREFIX).collect())
}

/// Returns the errors in names, labels, annotations and owner references.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<Cause> {
    let rule = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => NameRule::Dns1035Label,
        ("", "namespaces") => NameRule::DnsLabel,
        ("rbac.authorization.k8s.io", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    };
    metadata::validate(&object["metadata"], rule)
}

/// Copies the fields that a client cannot change; rejects new finalizers on an object that is being deleted.
pub(super) fn carry_over(new: &mut Value, old: &Value) -> Vec<Cause> {
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        match &old["metadata"][field] {
            Value::Null => {
                if let Value::Object(metadata) = &mut new["metadata"] {
                    metadata.remove(field);
                }
            }
            value => new["metadata"][field] = value.clone(),
        }
    }
    let finalizers =
        |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !old["metadata"]["deletionTimestamp"].is_null() {
        let before = finalizers(old);
        let added: Vec<Value> = finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                json!(added)
            );
            return vec![Cause::forbidden("metadata.finalizers", &why)];
        }
    }
    Vec::new()
}

/// Drops empty fields, as kube-apiserver's encoding omits them.
pub(super) fn tidy(object: &mut Value) {
    let Value::Object(metadata) = &mut object["metadata"] else { return };
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"] {
        let empty = match metadata.get(field) {
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
    for field in ["generateName", "selfLink", "namespace"] {
        if metadata.get(field).is_some_and(|value| value == "" || value.is_null()) {
            metadata.remove(field);
        }
    }
}
