//! The CustomResourceDefinitions of all kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::ser::Error;
use serde_json::Value;

use crate::v1beta1;

/// Returns the definitions of all kinds, ready to apply.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let derived = [
        v1beta1::BFDProfile::crd(),
        v1beta1::BGPAdvertisement::crd(),
        v1beta1::BGPPeer::crd(),
        v1beta1::Community::crd(),
        v1beta1::IPAddressPool::crd(),
        v1beta1::IPClaim::crd(),
        v1beta1::L2Advertisement::crd(),
        v1beta1::PoolCooldown::crd(),
        v1beta1::Speaker::crd(),
    ];
    derived.into_iter().map(finish).collect()
}

/// Returns the contents of `config/crd`, each with its file name: one YAML file per definition, and a
/// `kustomization.yaml` that lists them.
///
/// # Errors
/// Returns an error if a definition cannot be serialized.
pub fn files() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let mut files = Vec::new();
    for definition in &definitions() {
        // A JSON value sorts its keys, which makes the output deterministic.
        let mut value = serde_json::to_value(definition).map_err(serde_yaml::Error::custom)?;
        normalize_numbers(&mut value);
        let text = serde_yaml::to_string(&value)?;
        let spec = &definition.spec;
        files.push((format!("{}_{}.yaml", spec.group, spec.names.plural), format!("{HEADER}{text}")));
    }
    let resources: String = files.iter().map(|(name, _)| format!("  - {name}\n")).collect();
    let kustomization = format!(
        "{HEADER}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{resources}labels:\n  - \
         pairs: {{app.kubernetes.io/component: crd}}\n"
    );
    files.push(("kustomization.yaml".to_owned(), kustomization));
    Ok(files)
}

/// The command that writes [`files`] into the working tree.
pub const REGENERATE: &str = "cargo run -p fairlead-crds --bin fairlead-crdgen -- config/crd";

const HEADER: &str = "# Generated from crds/src/v1beta1 by fairlead-crdgen. Do not edit.\n";

/// Removes parts of the derived schemas that do not belong into a CRD; see [`clean`].
fn finish(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let Ok(mut value) = serde_json::to_value(&definition) else { return definition };
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for schema in versions.iter_mut().filter_map(|v| v.pointer_mut("/schema/openAPIV3Schema")) {
            clean(schema);
        }
    }
    serde_json::from_value(value).unwrap_or(definition)
}

/// Removes these parts from a schema, recursively:
/// - `nullable`: with it, `has()` in a rule would be true for a field that is null. An optional field is one
///   that may be absent.
/// - `title`: it repeats the name of the kind.
/// - a default of a required field, and a default of `""` or 0: these exist only because serde requires them.
fn clean(schema: &mut Value) {
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
            clean(property);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            clean(child);
        }
    }
}

/// Converts numbers without a fraction, such as 1.0, to integers: an API server stores them so. The type of
/// schemas has floating-point bounds, but all bounds are integers.
pub fn normalize_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalize_numbers),
        Value::Object(fields) => fields.values_mut().for_each(normalize_numbers),
        Value::Number(number) => {
            // Integers below 2^53 are exact.
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *number = (float as i64).into();
            }
        }
        _ => {}
    }
}
