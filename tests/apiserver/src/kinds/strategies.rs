//! Completes and validates objects, kind by kind.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::addresses::Addresses;
use super::builtin::{Builtin, Rules};
use super::{Door, Resource, Strategy, crd, event, service, service_cidr};
use crate::failure::Cause;

/// Completes and validates a decoded object in its stored version.
///
/// # Errors
/// All field errors.
pub(crate) fn admit(
    resource: &Resource,
    mut object: Value,
    old: Option<&Value>,
    door: Door,
    addresses: &mut Addresses,
    now: &str,
) -> Result<Value, Vec<Cause>> {
    let causes = match &resource.strategy {
        Strategy::Custom { schema, .. } => {
            split_custom(resource, &mut object, old, door);
            schema.default(&mut object);
            schema.validate(&object, old)
        }
        Strategy::Builtin(builtin) => {
            if builtin.rules == Rules::Service {
                return service::admit(object, old, door, addresses);
            }
            split_builtin(builtin, &mut object, old, door);
            complete(builtin, &mut object, old, door, now)
        }
    };
    if causes.is_empty() { Ok(object) } else { Err(causes) }
}

/// Releases the cluster resources of a deleted object.
pub(crate) fn forget(resource: &Resource, object: &Value, addresses: &mut Addresses) {
    if let Strategy::Builtin(builtin) = &resource.strategy
        && builtin.rules == Rules::Service
    {
        service::release(object, addresses);
    }
}

/// A write to `/status` changes only the status of a custom resource; a write to the object changes
/// everything else.
fn split_custom(resource: &Resource, object: &mut Value, old: Option<&Value>, door: Door) {
    if !resource.has_status {
        return;
    }
    match (door, old) {
        (Door::Status, Some(old)) => {
            let managed = object["metadata"]["managedFields"].take();
            let status = object.get("status").cloned();
            *object = old.clone();
            set(object, "status", status);
            object["metadata"]["managedFields"] = managed;
        }
        (_, old) => set(object, "status", old.and_then(|old| old.get("status")).cloned()),
    }
}

/// Like [`split_custom`], but a status update of a built-in kind also changes metadata.
fn split_builtin(builtin: &Builtin, object: &mut Value, old: Option<&Value>, door: Door) {
    if !builtin.traits.status {
        return;
    }
    match (door, old) {
        (Door::Status, Some(old)) => set(object, "spec", old.get("spec").cloned()),
        (_, Some(old)) => set(object, "status", old.get("status").cloned()),
        // A kubelet creates its node with a status.
        (_, None) if builtin.rules == Rules::Node => {}
        (_, None) => set(object, "status", None),
    }
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Value::Object(fields) = object else { return };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}

fn complete(builtin: &Builtin, object: &mut Value, old: Option<&Value>, door: Door, now: &str) -> Vec<Cause> {
    match builtin.rules {
        Rules::Generic | Rules::Rbac => Vec::new(),
        Rules::Service => Vec::new(),
        Rules::ConfigMap => immutable(object, old, &["data", "binaryData"]),
        Rules::Secret => secret(object, old),
        Rules::Namespace => {
            namespace(object);
            Vec::new()
        }
        Rules::Node => {
            for field in ["spec", "status"] {
                if object[field].is_null() {
                    object[field] = json!({});
                }
            }
            Vec::new()
        }
        Rules::Pod => {
            pod(object);
            Vec::new()
        }
        Rules::Lease => lease(object),
        Rules::EndpointSlice => endpoint_slice(object, old),
        Rules::ServiceCidr => service_cidr::validate(object, old),
        Rules::Event => {
            event::default(object);
            event::validate(object, builtin.inward.is_some(), old.is_none())
        }
        Rules::CustomResourceDefinition => {
            if door == Door::Status {
                return Vec::new();
            }
            crd::default(object);
            let causes = crd::validate(object);
            if causes.is_empty() {
                crd::establish(object, now);
            }
            causes
        }
    }
}

fn secret(secret: &mut Value, old: Option<&Value>) -> Vec<Cause> {
    let Value::Object(fields) = secret else { return Vec::new() };
    fields.entry("type").or_insert_with(|| json!("Opaque"));
    if let Some(Value::Object(plain)) = fields.remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
        for (key, value) in plain {
            data[key] = json!(BASE64.encode(value.as_str().unwrap_or_default()));
        }
    }
    let mut causes = Vec::new();
    if let Some(old) = old
        && old["type"] != secret["type"]
    {
        causes.push(Cause::invalid("type", &secret["type"], "field is immutable"));
    }
    let legal =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    for key in secret["data"].as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| !legal(key))
    {
        let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        causes.push(Cause::invalid(format!("data[{key}]"), &json!(key), why));
    }
    causes.extend(immutable(secret, old, &["data"]));
    causes
}

/// `immutable: true` cannot be unset, and protects the data.
fn immutable(object: &Value, old: Option<&Value>, fields: &[&str]) -> Vec<Cause> {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return Vec::new() };
    let why = "field is immutable when `immutable` is set";
    let mut changed: Vec<&str> =
        fields.iter().copied().filter(|field| old[*field] != object[*field]).collect();
    if object["immutable"] != true {
        changed.push("immutable");
    }
    changed.into_iter().map(|field| Cause::forbidden(field, why)).collect()
}

fn namespace(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    if namespace["spec"]["finalizers"].is_null() {
        namespace["spec"]["finalizers"] = json!(["kubernetes"]);
    }
    let deleted = !namespace["metadata"]["deletionTimestamp"].is_null();
    namespace["status"]["phase"] = json!(if deleted { "Terminating" } else { "Active" });
}

fn pod(pod: &mut Value) {
    if pod["status"]["phase"].is_null() {
        pod["status"]["phase"] = json!("Pending");
    }
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("serviceAccountName", "default"),
    ] {
        if spec[field].is_null() {
            spec[field] = json!(value);
        }
    }
}

fn lease(lease: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &lease["spec"];
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.push(Cause::invalid(
            "spec.leaseDurationSeconds",
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("spec.leaseTransitions", &spec["leaseTransitions"], why));
    }
    causes
}

fn endpoint_slice(slice: &mut Value, old: Option<&Value>) -> Vec<Cause> {
    for port in slice["ports"].as_array_mut().into_iter().flatten() {
        for (field, value) in [("name", ""), ("protocol", "TCP")] {
            if port[field].is_null() {
                port[field] = json!(value);
            }
        }
    }
    if slice["endpoints"].is_null() {
        slice["endpoints"] = json!([]);
    }
    let mut causes = Vec::new();
    let family = slice["addressType"].as_str().unwrap_or_default().to_owned();
    let families = ["FQDN", "IPv4", "IPv6"];
    if !families.contains(&family.as_str()) {
        causes.push(Cause::unsupported("addressType", &json!(family), &families));
    }
    if let Some(old) = old
        && old["addressType"] != slice["addressType"]
    {
        causes.push(Cause::invalid("addressType", &slice["addressType"], "field is immutable"));
    }
    for (at, endpoint) in slice["endpoints"].as_array().into_iter().flatten().enumerate() {
        let addresses = endpoint["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        if addresses.is_empty() {
            causes.push(Cause::required(
                format!("endpoints[{at}].addresses"),
                "must contain at least 1 address",
            ));
        }
        for (index, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let fits = match family.as_str() {
                "IPv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !fits {
                let why = format!("must be an {family} address");
                causes.push(Cause::invalid(format!("endpoints[{at}].addresses[{index}]"), address, &why));
            }
        }
    }
    causes
}
