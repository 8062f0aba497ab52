//! The CustomResourceDefinitions of all kinds, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::ser::Error;
use serde_json::Value;

use crate::v1beta1;

/// Definitions of all kinds, ready to apply.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let derived = [
        v1beta1::BFDProfile::crd(),
        v1beta1::BGPAdvertisement::crd(),
        v1beta1::BGPPeer::crd(),
        v1beta1::Community::crd(),
        v1beta1::IPAddressPool::crd(),
        v1beta1::IPClaim::crd(),
        v1beta1::L2Advertisement::crd(),
        v1beta1::Speaker::crd(),
    ];
    derived.into_iter().map(finish).collect()
}

/// The definitions as YAML, each with the name of its file, and a `kustomization.yaml` of them all.
pub fn files() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let mut files = Vec::new();
    for definition in &definitions() {
        // By way of a JSON value, whose keys are sorted: the text depends on the content alone.
        let mut value = serde_json::to_value(definition).map_err(serde_yaml::Error::custom)?;
        whole_numbers(&mut value);
        let text = serde_yaml::to_string(&value)?;
        let spec = &definition.spec;
        files.push((format!("{}_{}.yaml", spec.group, spec.names.plural), format!("{HEADER}{text}")));
    }
    let resources: String = files.iter().map(|(name, _)| format!("  - {name}\n")).collect();
    let kustomization = format!(
        "{HEADER}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{resources}"
    );
    files.push(("kustomization.yaml".to_owned(), kustomization));
    Ok(files)
}

/// The command that writes [`files`] where they belong.
pub const REGENERATE: &str = "cargo run -p fairlead-crds --bin fairlead-crdgen -- config/crd";

const HEADER: &str = "# Generated from crds/src/api by fairlead-crdgen. Do not edit.\n";

/// Takes back what deriving adds and an API server should not get.
fn finish(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let Ok(mut value) = serde_json::to_value(&definition) else { return definition };
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for schema in versions.iter_mut().filter_map(|v| v.pointer_mut("/schema/openAPIV3Schema")) {
            walk(schema);
        }
    }
    serde_json::from_value(value).unwrap_or(definition)
}

/// An optional field is one that may be left out, not one that may be null: with `nullable`, `has()` in a rule
/// would be true of a null. A required field has no default, one of nothing (`""`, 0) only says in Rust that the
/// field may be left out, and the title repeats the kind.
fn walk(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("nullable");
    object.remove("title");
    if object.get("default").is_some_and(|value| value == "" || value == 0) {
        object.remove("default");
    }
    let required: Vec<String> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            if required.contains(name)
                && let Some(property) = property.as_object_mut()
            {
                property.remove("default");
            }
            walk(property);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            walk(child);
        }
    }
}

/// The bounds of numbers are floating-point in the type of a schema; all of ours are whole.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            // Exact below 2^53, far above every bound.
            if let Some(float) = number.as_f64()
                && number.is_f64()
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *number = (float as i64).into();
            }
        }
        _ => {}
    }
}
