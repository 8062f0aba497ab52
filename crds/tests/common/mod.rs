//! Objects from YAML, and what an API server with our definitions would say of them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::LazyLock;

use fairlead_crds::manifests;
use fairlead_crds::resolve::{Kind, ObjectRef, ObjectVerdict, Objects, RefusalReason, Resolution, resolve};
use fairlead_crds::v1beta1;
use serde_json::{Value, json};

/// Reads YAML of one or more objects into what is resolved. Kinds that are not ours are left out.
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

/// Adds one object, as it comes from a watch.
pub(crate) fn add(objects: &mut Objects, value: Value) {
    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object of its kind")
    }
    match value["kind"].as_str().expect("a kind") {
        "IPAddressPool" => objects.pools.push(read(value)),
        "L2Advertisement" => objects.l2_advertisements.push(read(value)),
        "BGPAdvertisement" => objects.bgp_advertisements.push(read(value)),
        "BGPPeer" => objects.peers.push(read(value)),
        "BFDProfile" => objects.bfd_profiles.push(read(value)),
        "Community" => objects.communities.push(read(value)),
        _ => {}
    }
}

/// An object of a kind with a spec in YAML. `age` in seconds: the higher, the older.
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

/// An object: kind, name, age (higher is older), spec.
pub(crate) type Given = (&'static str, &'static str, i64, &'static str);

pub(crate) fn given(rows: &[Given]) -> Resolution {
    let mut objects = Objects::default();
    for (kind, name, age, spec) in rows {
        add(&mut objects, object(kind, name, *age, spec));
    }
    resolve(&objects)
}

pub(crate) fn kind(name: &str) -> Kind {
    match name {
        "IPAddressPool" => Kind::IPAddressPool,
        "L2Advertisement" => Kind::L2Advertisement,
        "BGPAdvertisement" => Kind::BGPAdvertisement,
        "BGPPeer" => Kind::BGPPeer,
        "BFDProfile" => Kind::BFDProfile,
        "Community" => Kind::Community,
        other => panic!("{other} is not configuration"),
    }
}

pub(crate) fn verdict<'a>(resolution: &'a Resolution, kind: Kind, name: &str) -> &'a ObjectVerdict {
    &resolution.verdicts[&ObjectRef { kind, name: name.to_owned() }]
}

/// The reason of a refusal; `None` for an accepted object.
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

/// What an API server says when the object is applied: `Err` with all complaints of schema and rules. Defaults are
/// filled in first, as it does.
pub(crate) fn apply(object: &Value) -> Result<(), Vec<String>> {
    let schema = &SCHEMAS[object["kind"].as_str().unwrap()];
    let object = kube::core::cel::apply_defaults(schema, object);
    let mut complaints: Vec<String> = jsonschema::validator_for(schema)
        .expect("a schema")
        .iter_errors(&object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    // A server evaluates rules only on what has the right shape.
    if complaints.is_empty()
        && let Err(errors) = kube::core::cel::Validator::new().validate(schema, &object, None)
    {
        complaints.extend(errors.iter().map(|error| format!("{}: {}", error.field_path, error.message)));
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}
