//! Structural schemas: dropping unknown fields, setting defaults, and validation of the schema.

use serde_json::{Map, Value};

use crate::Cause;

/// Path of a field that the schema does not contain, such as `spec.foo`.
pub type Unknown = String;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// Drops unknown fields. `apiVersion`, `kind` and `metadata` are always known.
pub(crate) fn prune(object: &mut Value, schema: &Value) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    if let Value::Object(fields) = object {
        prune_fields(fields, schema, true, "", &mut unknown);
    }
    unknown
}

fn prune_value(value: &mut Value, schema: &Value, path: &str, unknown: &mut Vec<Unknown>) {
    match value {
        Value::Object(fields) => prune_fields(fields, schema, schema[EMBEDDED] == true, path, unknown),
        Value::Array(items) if schema["items"].is_object() => {
            for (at, item) in items.iter_mut().enumerate() {
                prune_value(item, &schema["items"], &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

fn prune_fields(
    fields: &mut Map<String, Value>,
    schema: &Value,
    is_resource: bool,
    path: &str,
    unknown: &mut Vec<Unknown>,
) {
    let known = schema["properties"].as_object();
    let rest = &schema["additionalProperties"];
    let mut gone = Vec::new();
    for (name, value) in fields.iter_mut() {
        if is_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let Some(schema) = known.and_then(|known| known.get(name)) {
            prune_value(value, schema, &path, unknown);
        } else if rest.is_object() {
            prune_value(value, rest, &path, unknown);
        } else if *rest != Value::Bool(true) && schema[PRESERVE] != true {
            gone.push(name.clone());
            unknown.push(path);
        }
    }
    for name in gone {
        fields.remove(&name);
    }
}

/// Sets defaults. A null that is not allowed counts as absent if there is a default.
pub(crate) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = schema.get("default") {
                    let absent = match fields.get(name) {
                        None => true,
                        Some(value) => value.is_null() && schema["nullable"] != true,
                    };
                    if absent {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                if let Some(value) = fields.get_mut(name) {
                    default(value, schema);
                }
            }
            let rest = &schema["additionalProperties"];
            if rest.is_object() {
                fields.values_mut().for_each(|value| default(value, rest));
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            items.iter_mut().for_each(|item| default(item, &schema["items"]));
        }
        _ => {}
    }
}

/// Returns the reasons for which kube-apiserver rejects a schema.
pub(crate) fn problems(schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if schema["type"] != "object" {
        causes.push(Cause::invalid("type", &schema["type"], "must be object at the root"));
    }
    walk(schema, "", &mut causes);
    causes
}

fn walk(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let Value::Object(fields) = schema else {
        causes.push(Cause::required(path, "must be a schema"));
        return;
    };
    let untyped = schema[INT_OR_STRING] == true || schema[PRESERVE] == true;
    if !fields.contains_key("type") && !untyped {
        causes.push(Cause::required(at("type"), "must not be empty for specified object fields"));
    }
    for forbidden in ["$ref", "definitions", "dependencies", "patternProperties", "deprecated", "id"] {
        if fields.contains_key(forbidden) {
            causes.push(Cause::forbidden(at(forbidden), "must not be set"));
        }
    }
    if schema["uniqueItems"] == true {
        causes.push(Cause::forbidden(at("uniqueItems"), "uniqueItems cannot be set to true"));
    }
    if fields.contains_key("properties") && schema["additionalProperties"].is_object() {
        causes.push(Cause::forbidden(
            at("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        causes.push(Cause::required(at("items"), "must be specified"));
    }
    if schema["x-kubernetes-list-type"] == "map" {
        let keys = schema["x-kubernetes-list-map-keys"].as_array();
        if keys.is_none_or(Vec::is_empty) {
            causes.push(Cause::required(
                at("x-kubernetes-list-map-keys"),
                "must not be empty if x-kubernetes-list-type is map",
            ));
        }
        for key in keys.into_iter().flatten().filter_map(Value::as_str) {
            let item = &schema["items"];
            let required =
                item["required"].as_array().is_some_and(|names| names.iter().any(|name| name == key));
            if !required && item["properties"][key].get("default").is_none() {
                causes.push(Cause::required(
                    at(&format!("items.properties[{key}].default")),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                ));
            }
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &at(&format!("properties[{name}]")), causes);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &at(inner), causes);
        }
    }
}
