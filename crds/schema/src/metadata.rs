//! `metadata` of an object: types, unknown fields, names, labels, annotations and owner references.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::Cause;
use crate::names::{
    is_1035_label, is_dns_label, is_label_value, is_path_segment, is_qualified_name, is_subdomain,
};

/// The rule for the names of a kind (Kubernetes: "Object Names and IDs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NameRule {
    Subdomain,
    DnsLabel,
    Dns1035Label,
    PathSegment,
}

impl NameRule {
    /// Returns whether a name is valid, and the rule in words.
    fn check(self, name: &str) -> (bool, &'static str) {
        match self {
            Self::Dns1035Label => (
                is_1035_label(name),
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                 alphabetic character, and end with an alphanumeric character",
            ),
            Self::DnsLabel => (
                is_dns_label(name),
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                 must start and end with an alphanumeric character",
            ),
            Self::PathSegment => (is_path_segment(name), "may not contain '/' or '%'"),
            Self::Subdomain => (
                is_subdomain(name),
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                 '.', and must start and end with an alphanumeric character",
            ),
        }
    }
}

/// Converts `metadata` of an object to its typed form and back. Returns the paths of unknown fields, which
/// are dropped.
///
/// # Errors
/// Returns an error if a field has another type.
pub fn decode(object: &mut Value) -> Result<Vec<String>, serde_json::Error> {
    let mut before = object["metadata"].take();
    // Go decodes null as the empty string.
    for field in ["labels", "annotations"] {
        let values = before.get_mut(field).and_then(Value::as_object_mut);
        for (_, value) in values.into_iter().flatten() {
            if value.is_null() {
                *value = json!("");
            }
        }
    }
    let typed: ObjectMeta = serde_json::from_value(before.clone())?;
    let metadata = serde_json::to_value(typed)?;
    let dropped = dropped(&before, &metadata).into_iter().map(|path| format!("metadata.{path}")).collect();
    object["metadata"] = metadata;
    Ok(dropped)
}

/// Returns the errors in names, labels, annotations and owner references.
pub fn validate(metadata: &Value, rule: NameRule) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        let (legal, message) = rule.check(name);
        if !legal {
            causes.push(Cause::invalid("metadata.name", &json!(name), message));
        }
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified_name(key) {
            causes.push(Cause::invalid(
                "metadata.labels",
                &json!(key),
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
        if !value.as_str().is_some_and(is_label_value) {
            causes.push(Cause::invalid("metadata.labels", value, "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"));
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &json!(key),
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
    }
    if size > 256 * 1024 {
        let message = "Too long: may not be more than 262144 bytes".into();
        causes.push(Cause { reason: "FieldValueTooLong", field: "metadata.annotations".into(), message });
    }
    for (at, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let path = format!("metadata.ownerReferences[{at}].{field}");
                causes.push(Cause::invalid(path, &owner[field], "must not be empty"));
            }
        }
    }
    causes
}

/// Returns the paths of fields whose value decoding dropped.
pub fn dropped(before: &Value, after: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    lost(before, after, "", &mut paths);
    paths
}

fn lost(before: &Value, after: &Value, path: &str, paths: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match after.get(name) {
                    Some(after) => lost(value, after, &path, paths),
                    None if value.is_null() => {}
                    None => paths.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                lost(before, after, &format!("{path}[{at}]"), paths);
            }
        }
        _ => {}
    }
}
