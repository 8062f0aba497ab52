//! CustomResourceDefinitions: validation, immediate establishment, and conversion into resources.

use std::sync::Arc;

use fairlead_schema::Schema;
use serde_json::{Value, json};

use super::{Resource, Strategy};
use crate::failure::Cause;

use crate::patch::Shape;
use crate::store::Table;

/// Defaults names and strategy.
pub(crate) fn default(crd: &mut Value) {
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut crd["spec"]["names"];
    if names["singular"].as_str().is_none_or(str::is_empty) {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names["listKind"].as_str().is_none_or(str::is_empty) {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if crd["spec"]["conversion"].is_null() {
        crd["spec"]["conversion"] = json!({ "strategy": "None" });
    }
}

/// Returns the errors that kube-apiserver reports. It also refuses rules that are too expensive.
pub(crate) fn validate(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = format!("{plural}.{group}");
    if crd["metadata"]["name"] != name.as_str() {
        let why = format!("must be spec.names.plural+\".\"+spec.group ({name})");
        causes.push(Cause::invalid("metadata.name", &crd["metadata"]["name"], &why));
    }
    if !["Cluster", "Namespaced"].contains(&text(&spec["scope"]).as_str()) {
        causes.push(Cause::unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!("array"), why));
    }
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}].schema.openAPIV3Schema");
        let source = &version["schema"]["openAPIV3Schema"];
        if source.is_null() {
            causes.push(Cause::required(path, "schemas are required"));
            continue;
        }
        match Schema::compile(source, &group, &text(&version["name"]), &text(&spec["names"]["kind"])) {
            Ok(_) => {}
            Err(problems) => causes.extend(problems.into_iter().map(|cause| {
                let field =
                    if cause.field.is_empty() { path.clone() } else { format!("{path}.{}", cause.field) };
                Cause { field, ..cause }
            })),
        }
    }
    causes
}

/// Sets the status of a definition whose names are accepted, immediately.
pub(crate) fn establish(crd: &mut Value, now: &str) {
    let mut names = crd["spec"]["names"].clone();
    if let Value::Object(names) = &mut names {
        names.remove("categories");
    }
    let old = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = |sort: &str, reason: &str, message: &str| {
        let since = old
            .iter()
            .find(|condition| condition["type"] == sort && condition["status"] == "True")
            .and_then(|condition| condition["lastTransitionTime"].as_str())
            .unwrap_or(now);
        json!({
            "type": sort, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since,
        })
    };
    let storage = crd["spec"]["versions"].as_array().into_iter().flatten();
    let storage: Vec<&Value> =
        storage.filter(|version| version["storage"] == true).map(|version| &version["name"]).collect();
    let mut stored = crd["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    for name in storage {
        if !stored.contains(name) {
            stored.push(name.clone());
        }
    }
    crd["status"] = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": crd["spec"]["names"],
        "storedVersions": stored,
    });
}

/// Returns the resources of a definition, one for each served version that compiles.
pub(crate) fn resources_of(crd: &Value, table: Table) -> Vec<Resource> {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let names = &spec["names"];
    let (group, kind) = (text(&spec["group"]), text(&names["kind"]));
    let versions =
        spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
    versions
        .filter_map(|version| {
            let name = text(&version["name"]);
            let schema = Schema::compile(&version["schema"]["openAPIV3Schema"], &group, &name, &kind).ok()?;
            let columns = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
            let fields = version["selectableFields"].as_array().into_iter().flatten();
            Some(Resource {
                group: group.clone(),
                version: name,
                plural: text(&names["plural"]),
                singular: text(&names["singular"]),
                kind: kind.clone(),
                list_kind: text(&names["listKind"]),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                has_status: version["subresources"]["status"].is_object(),
                has_generation: true,
                unconditional_update: false,
                create_on_update: false,
                returns_deleted: false,
                fields: fields
                    .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                    .collect(),
                shape: Shape::from_schema(schema.source()).with_metadata(),
                table,
                strategy: Strategy::Custom { schema: Arc::new(schema), columns: Arc::new(columns) },
            })
        })
        .collect()
}
