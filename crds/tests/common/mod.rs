//! Builders of objects, and validation as in the API server.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::LazyLock;

use fairlead_crds::manifests;
use fairlead_crds::resolve::{Kind, ObjectRef, ObjectVerdict, Objects, RefusalReason, Resolution, resolve};
use fairlead_crds::v1beta1;
use serde_json::{Value, json};

/// Parses YAML with any number of objects. Kinds that are not configuration are ignored.
pub(crate) fn objects(yaml: &str) -> Objects {
    use serde::Deserialize;
    let mut objects = Objects::default();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).expect("YAML");
        if !value.is_null() {
            add(&mut objects, value);
        }
    }
    objects
}

/// Adds an object in the form in which a watch returns it.
pub(crate) fn add(objects: &mut Objects, value: Value) {
    if let Some(kind) = Kind::parse(value["kind"].as_str().expect("a kind")) {
        objects.push_json(kind, value).expect("an object of its kind");
    }
}

/// Returns an object with a spec in YAML. The higher `age`, in hours, the older the object.
pub(crate) fn object(kind: &str, name: &str, age: i64, spec: &str) -> Value {
    let spec: Value = serde_yaml::from_str(spec).expect("YAML");
    let created = format!("2026-01-01T{:02}:00:00Z", 23 - age);
    json!({
        "apiVersion": format!("{}/{}", v1beta1::GROUP, v1beta1::VERSION),
        "kind": kind,
        "metadata": { "name": name, "creationTimestamp": created },
        "spec": if spec.is_null() { json!({}) } else { spec },
    })
}

/// An object: kind, name, age (higher is older) and spec.
pub(crate) type Given = (&'static str, &'static str, i64, &'static str);

pub(crate) fn given(rows: &[Given]) -> Resolution {
    let mut objects = Objects::default();
    for (kind, name, age, spec) in rows {
        add(&mut objects, object(kind, name, *age, spec));
    }
    resolve(&objects)
}

pub(crate) fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("a configuration kind")
}

pub(crate) fn verdict<'a>(resolution: &'a Resolution, kind: Kind, name: &str) -> &'a ObjectVerdict {
    &resolution.verdicts[&ObjectRef { kind, name: name.to_owned() }]
}

/// Returns the reason of a refusal; `None` for an accepted object.
pub(crate) fn reason(verdict: &ObjectVerdict) -> Option<RefusalReason> {
    match verdict {
        ObjectVerdict::Accepted => None,
        ObjectVerdict::Refused { reason, .. } => Some(*reason),
    }
}

static SCHEMAS: LazyLock<HashMap<String, Value>> = LazyLock::new(|| {
    manifests::definitions()
        .into_iter()
        .map(|definition| {
            let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            (definition.spec.names.kind, serde_json::to_value(schema).unwrap())
        })
        .collect()
});

/// Validates an object by its schema and rules, as the API server does at `kubectl apply`. Returns all
/// errors. Defaults are set first.
pub(crate) fn apply(object: &Value) -> Result<(), Vec<String>> {
    let schema = &SCHEMAS[object["kind"].as_str().unwrap()];
    let object = kube::core::cel::apply_defaults(schema, object);
    let mut errors: Vec<String> = jsonschema::validator_for(schema)
        .expect("a schema")
        .iter_errors(&object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    // The server evaluates rules only if the schema is satisfied.
    if errors.is_empty()
        && let Err(violations) = kube::core::cel::Validator::new().validate(schema, &object, None)
    {
        errors.extend(violations.iter().map(|error| format!("{}: {}", error.field_path, error.message)));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
