//! Discovery of groups, versions and resources.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::Registry;
use crate::kinds::Resource;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": concat!("v1.33.0+fairlead.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// `/`.
pub(crate) fn paths(registry: &Registry) -> Value {
    let mut paths = BTreeSet::from(
        [
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
            "/faults",
        ]
        .map(str::to_owned),
    );
    for resource in registry.iter() {
        if resource.group.is_empty() {
            paths.insert(format!("/api/{}", resource.version));
        } else {
            paths.insert(format!("/apis/{}", resource.group));
            paths.insert(format!("/apis/{}/{}", resource.group, resource.version));
        }
    }
    json!({ "paths": paths })
}

/// `/api`.
pub(crate) fn legacy() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// `/apis`.
pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        versions(registry).iter().map(|(group, versions)| entry(group, versions)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`.
pub(crate) fn group(registry: &Registry, group: &str) -> Option<Value> {
    let versions = versions(registry);
    let mut entry = entry(group, versions.get(group)?);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in registry.iter().filter(|resource| resource.group == group && resource.version == version)
    {
        let mut entry = listed(resource, &resource.plural, &VERBS);
        entry["singularName"] = json!(resource.singular);
        entry["storageVersionHash"] = json!("");
        for (field, names) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
            if !names.is_empty() {
                entry[field] = json!(names);
            }
        }
        resources.push(entry);
        if resource.has_status {
            let name = format!("{}/status", resource.plural);
            resources.push(listed(resource, &name, &["get", "patch", "update"]));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

fn listed(resource: &Resource, name: &str, verbs: &[&str]) -> Value {
    json!({
        "name": name,
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs,
    })
}

fn versions(registry: &Registry) -> BTreeMap<String, BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for resource in registry.iter().filter(|resource| !resource.group.is_empty()) {
        groups.entry(resource.group.clone()).or_default().insert(resource.version.clone());
    }
    groups
}

fn entry(group: &str, versions: &BTreeSet<String>) -> Value {
    let version =
        |version: &String| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    // A stable version is preferred; among others, the last name.
    let preferred = versions.iter().rev().min_by_key(|name| name.contains("alpha") || name.contains("beta"));
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": preferred.map(version),
    })
}
