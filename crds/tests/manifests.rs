//! The manifests in `config/crd` match the types, and an API server accepts them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use fairlead_crds::manifests::{self, REGENERATE};
use serde_json::Value;

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd")
}

#[test]
fn config_crd_is_up_to_date() {
    let files = manifests::files().unwrap();
    for (name, text) in &files {
        let current = std::fs::read_to_string(directory().join(name)).unwrap_or_default();
        assert!(current == *text, "config/crd/{name} is stale; run: {REGENERATE}");
    }
    let expected: BTreeSet<String> = files.into_iter().map(|(name, _)| name).collect();
    let present: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, expected, "config/crd contains files that belong to no kind");
}

#[test]
fn kinds_except_claims_are_cluster_scoped() {
    for definition in manifests::definitions() {
        let spec = definition.spec;
        // A claim refers to a Service in its namespace.
        let scope = if spec.names.kind == "IPClaim" { "Namespaced" } else { "Cluster" };
        assert_eq!((spec.group.as_str(), spec.scope.as_str()), ("fairlead.dev", scope));
        assert_eq!(spec.versions.len(), 1);
        let version = &spec.versions[0];
        assert!((version.served, version.storage) == (true, true) && version.name == "v1beta1");
        // Nobody but the controller writes cool-downs.
        let has_status = version.subresources.as_ref().is_some_and(|all| all.status.is_some());
        assert_eq!(has_status, spec.names.kind != "PoolCooldown", "{}", spec.names.kind);
        let columns = version.additional_printer_columns.as_ref().unwrap();
        assert_eq!(columns.last().unwrap().name, "Age", "{}", spec.names.kind);
    }
}

/// Calls `visit` with each schema of a definition and its path.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{path}[]"), visit);
        }
    }
}

fn each_schema(visit: &mut dyn FnMut(&Value, &str)) {
    for definition in manifests::definitions() {
        let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        walk(&serde_json::to_value(schema).unwrap(), &definition.spec.names.kind, visit);
    }
}

#[test]
fn schemas_are_structural() {
    let types = ["object", "array", "string", "integer", "boolean"];
    each_schema(&mut |schema, path| {
        let fields = schema.as_object().unwrap();
        assert!(types.contains(&schema["type"].as_str().unwrap_or_default()), "{path} has no type");
        for forbidden in ["$ref", "oneOf", "anyOf", "allOf", "not", "nullable", "definitions", "uniqueItems"]
        {
            assert!(!fields.contains_key(forbidden), "{path} has {forbidden}");
        }
        if let Some(required) = schema["required"].as_array() {
            for name in required {
                let property = &schema["properties"][name.as_str().unwrap()];
                assert!(property.is_object(), "{path} requires {name}, which it does not have");
                assert!(property.get("default").is_none(), "{path}.{name} is required and has a default");
            }
        }
        if schema["x-kubernetes-list-type"] == "map" {
            for key in schema["x-kubernetes-list-map-keys"].as_array().unwrap() {
                let required = schema["items"]["required"].as_array().unwrap();
                assert!(required.contains(key), "{path}: key {key} of the list must be required");
            }
        }
        let properties = schema["properties"].is_object()
            || schema["additionalProperties"].is_object()
            || (path.contains(".status.inForce.") && schema["x-kubernetes-preserve-unknown-fields"] == true);
        assert!(schema["type"] != "object" || properties, "{path} does not define its fields");
    });
}

#[test]
fn every_field_has_a_description() {
    each_schema(&mut |schema, path| {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|d| d.len() > 8), "{path}.{name}");
        }
    });
}

/// The worst-case cost of every rule is limited: the lists and strings that it reads have a maximum size, and
/// so does the number of places at which it is evaluated.
#[test]
fn rules_read_only_limited_values() {
    fn bounded(schema: &Value, path: &str) {
        // Rules read single fields of an object, which have limits of their own.
        walk(schema, path, &mut |inner, inner_path| {
            if inner["type"] == "array" {
                assert!(
                    inner["maxItems"].is_u64() || inner["maxItems"].is_i64(),
                    "{inner_path} needs maxItems"
                );
            }
            if inner["type"] == "string" {
                let fixed = inner["enum"].is_array() || inner["format"] == "date-time";
                assert!(fixed || inner["maxLength"].is_i64(), "{inner_path} needs maxLength");
            }
            if inner["additionalProperties"].is_object() {
                assert!(inner["maxProperties"].is_i64(), "{inner_path} needs maxProperties");
            }
        });
    }
    let mut rules = 0;
    each_schema(&mut |schema, path| {
        if path.ends_with(".spec") {
            bounded(schema, path);
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            assert!(path.contains(".spec"), "{path}: rules are allowed only in the spec");
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(
                !message.is_empty() && !message.contains('\n'),
                "{path}: a rule requires a message of one line"
            );
        }
    });
    assert!(rules > 20, "only {rules} rules");
}

/// Names that serde would spell differently without a rename, and defaults that manifests for MetalLB rely
/// on.
#[test]
fn fields_have_the_names_and_defaults_of_metallb() {
    let mut fields = BTreeSet::new();
    let mut defaults = Vec::new();
    each_schema(&mut |schema, path| {
        fields.insert(path.to_owned());
        if let Some(default) = schema.get("default") {
            defaults.push(format!("{path}={default}"));
        }
    });
    for field in [
        "BFDProfile.spec.minimumTtl",
        "BGPAdvertisement.spec.aggregationLengthV6",
        "BGPAdvertisement.spec.ipAddressPoolSelectors",
        "BGPPeer.spec.disableMP",
        "BGPPeer.spec.dualStackAddressFamily",
        "BGPPeer.spec.dynamicASN",
        "BGPPeer.spec.ebgpMultiHop",
        "BGPPeer.spec.enableGracefulRestart",
        "BGPPeer.spec.gracefulRestartTime",
        "BGPPeer.spec.localASN",
        "BGPPeer.spec.myASN",
        "BGPPeer.spec.passwordSecret.name",
        "BGPPeer.spec.routerID",
        "BGPPeer.spec.ttlSecurity",
        "IPAddressPool.spec.avoidBuggyIPs",
        "IPAddressPool.spec.serviceAllocation.namespaceSelectors",
        "IPAddressPool.status.assignedIPv4",
        "IPAddressPool.status.availableIPv6",
        "L2Advertisement.spec.preferredNodeSelectors[].preference",
    ] {
        assert!(fields.contains(field), "{field}");
    }
    assert!(!fields.contains("BGPPeer.spec.password"), "passwords must be in Secrets");
    assert_eq!(
        defaults,
        [
            "BGPAdvertisement.spec.aggregationLength=32",
            "BGPAdvertisement.spec.aggregationLengthV6=128",
            "BGPPeer.spec.disableMP=false",
            "BGPPeer.spec.dualStackAddressFamily=false",
            "BGPPeer.spec.peerPort=179",
            "IPAddressPool.spec.autoAssign=true",
            "IPAddressPool.spec.avoidBuggyIPs=false",
            "IPAddressPool.spec.disabled=false",
            "IPAddressPool.spec.reclaim=\"Retain\"",
            "IPAddressPool.spec.sharing=\"AnyNamespace\"",
            "Speaker.status.l2.conflicts[].announced=false",
            "Speaker.status.sessions[].families[].endOfRIBReceived=false",
            "Speaker.status.sessions[].families[].endOfRIBSent=false",
        ]
    );
}
