//! `fairlead validate`: the verdict on each object, by the same code as in a cluster.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::resolve::{Kind, ObjectRef, Objects, resolve};
use fairlead_crds::{manifests, v1beta1};
use serde_json::Value;

use crate::read::Document;

/// The verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file that contains the object.
    pub file: String,
    /// `Kind/name`.
    pub object: String,
    /// True if the object would be in force.
    pub accepted: bool,
    /// `Accepted`, or the reason of the refusal or warning.
    pub reason: String,
    /// The explanation; may be empty.
    pub message: String,
}

impl Finding {
    fn refused(file: String, object: String, (reason, message): (&str, String)) -> Self {
        Self { file, object, accepted: false, reason: reason.to_owned(), message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.accepted { "accepted" } else { "REFUSED" };
        write!(f, "{}: {} {verdict}", self.file, self.object)?;
        if !self.message.is_empty() {
            write!(f, ": {}: {}", self.reason, self.message)?;
        }
        Ok(())
    }
}

/// Validates the objects together. Ignores objects of other groups and of kinds that are not configuration.
pub(crate) fn validate(documents: Vec<Document>) -> Vec<Finding> {
    let schemas = schemas();
    let mut objects = Objects::default();
    // The objects in the order of the files, with a finding for those that cannot be resolved.
    let mut seen: Vec<(String, ObjectRef, Option<Finding>)> = Vec::new();
    let mut claims = Vec::new();
    for Document { file, value } in documents {
        if is_claim(&value) {
            claims.push((seen.len() + claims.len(), claim(file, value, &schemas)));
            continue;
        }
        let Some(kind) = kind_of(&value) else { continue };
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let object = ObjectRef { kind, name };
        let error = api_error(&value, &schemas).or_else(|| {
            let error = objects.push_json(kind, value).err()?;
            Some(("InvalidObject", error.to_string()))
        });
        let refused = error.map(|error| Finding::refused(file.clone(), object.to_string(), error));
        seen.push((file, object, refused));
    }
    let resolution = resolve(&objects);
    let mut findings: Vec<Finding> = seen
        .into_iter()
        .filter_map(|(file, object, refused)| {
            refused.or_else(|| {
                let accepted = resolution.accepted(&object)?;
                Some(Finding {
                    file,
                    object: object.to_string(),
                    accepted: accepted.status,
                    reason: accepted.reason,
                    message: accepted.message,
                })
            })
        })
        .collect();
    for (index, finding) in claims {
        findings.insert(index.min(findings.len()), finding);
    }
    findings
}

fn is_claim(value: &Value) -> bool {
    let group = value["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    value["kind"] == "IPClaim" && group.is_some_and(|(group, _)| group == v1beta1::GROUP)
}

/// Validates a claim on its own. Only the cluster can determine if its addresses are available.
fn claim(file: String, value: Value, schemas: &BTreeMap<String, Value>) -> Finding {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let object = format!("IPClaim/{name}");
    if let Some(error) = api_error(&value, schemas) {
        return Finding::refused(file, object, error);
    }
    match serde_json::from_value(value) {
        Err(error) => Finding::refused(file, object, ("InvalidObject", error.to_string())),
        Ok(claim) => match Claim::from_object(&claim).request {
            Err(refusal) => Finding::refused(file, object, ("InvalidClaim", refusal.message)),
            Ok(_) => Finding {
                file,
                object,
                accepted: true,
                reason: "Accepted".to_owned(),
                message: String::new(),
            },
        },
    }
}

/// Returns the kind of an object if it is configuration of Fairlead, in any version.
fn kind_of(value: &Value) -> Option<Kind> {
    let (group, _) = value["apiVersion"].as_str()?.split_once('/')?;
    let kind = Kind::parse(value["kind"].as_str()?)?;
    (group == v1beta1::GROUP).then_some(kind)
}

/// Returns the error for which an API server rejects the object, as reason and message.
fn api_error(value: &Value, schemas: &BTreeMap<String, Value>) -> Option<(&'static str, String)> {
    let version = value["apiVersion"].as_str().unwrap_or_default();
    if version != format!("{}/{}", v1beta1::GROUP, v1beta1::VERSION) {
        let message =
            format!("apiVersion is {version:?}: it must be \"{}/{}\"", v1beta1::GROUP, v1beta1::VERSION);
        return Some(("UnknownVersion", message));
    }
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Some(("NoName", "metadata.name must be set".to_owned()));
    }
    let schema = schemas.get(value["kind"].as_str()?)?;
    let unknown = unknown_field(&value["spec"], &schema["properties"]["spec"], "spec")?;
    Some(("UnknownField", format!("field {unknown} does not exist")))
}

/// Returns the path of the first field that is not in the schema. `kubectl apply` rejects unknown fields too;
/// most are misspelled.
fn unknown_field(value: &Value, schema: &Value, path: &str) -> Option<String> {
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(i, item)| unknown_field(item, &schema["items"], &format!("{path}[{i}]"))),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let path = format!("{path}.{name}");
            match schema["properties"].get(name) {
                Some(schema) => unknown_field(field, schema, &path),
                None if schema["properties"].is_object() => Some(path),
                None => None,
            }
        }),
        _ => None,
    }
}

fn schemas() -> BTreeMap<String, Value> {
    manifests::definitions()
        .into_iter()
        .filter_map(|definition| {
            let version = definition.spec.versions.into_iter().next()?;
            let schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
            Some((definition.spec.names.kind, schema))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    const OURS: &str = "fairlead.dev/v1beta1";

    /// Returns YAML documents from `apiVersion`, kind, name and spec.
    fn manifests(objects: &[(&str, &str, &str, &str)]) -> String {
        let document = |(version, kind, name, spec): &(&str, &str, &str, &str)| {
            format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}\n")
        };
        objects.iter().map(document).collect::<Vec<_>>().join("---\n")
    }

    fn lines(yaml: &str) -> Vec<String> {
        let documents = read::documents(&["-".into()], &mut yaml.as_bytes()).unwrap();
        validate(documents).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn findings_have_the_order_of_the_files() {
        let lines = lines(&manifests(&[
            (OURS, "L2Advertisement", "lan", "{ipAddressPools: [lan]}"),
            ("v1", "Service", "web", "{}"),
            (OURS, "IPAddressPool", "lan", "{addresses: [192.0.2.9-192.0.2.1]}"),
            (OURS, "IPAddressPool", "dmz", "{addresses: [192.0.2.0/24]}"),
            ("metallb.io/v1beta1", "IPAddressPool", "old", "{addresses: [192.0.2.0/24]}"),
            (OURS, "Speaker", "node1", "{}"),
        ]));
        assert_eq!(
            lines,
            [
                "-: L2Advertisement/lan accepted: PoolNotFound: IPAddressPool \"lan\" does not exist or is \
                 refused",
                "-: IPAddressPool/lan REFUSED: ReversedRange: 192.0.2.9-192.0.2.1 is reversed: the first \
                 address must not be higher than the last",
                "-: IPAddressPool/dmz accepted",
            ]
        );
    }

    #[test]
    fn object_that_the_api_server_rejects_is_refused() {
        let table = [
            ("fairlead.dev/v1", "a", "{addresses: [192.0.2.0/24]}", "UnknownVersion"),
            (OURS, "''", "{addresses: [192.0.2.0/24]}", "NoName"),
            (
                "fairlead.dev/v1beta1",
                "a",
                "{adresses: [192.0.2.0/24]}",
                "UnknownField: field spec.adresses does not exist",
            ),
            (
                "fairlead.dev/v1beta1",
                "a",
                "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchlabels: {a: b}}]}}",
                "spec.serviceAllocation.serviceSelectors[0].matchlabels",
            ),
            (OURS, "a", "{addresses: 192.0.2.0/24}", "InvalidObject"),
            (OURS, "a", "", "InvalidObject"),
        ];
        for (version, name, spec, reason) in table {
            let lines = lines(&format!(
                "apiVersion: {version}\nkind: IPAddressPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            ));
            assert!(
                lines.len() == 1 && lines[0].contains("REFUSED") && lines[0].contains(reason),
                "{spec}: {lines:?}"
            );
        }
        // Labels can have any name.
        let labels = "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchLabels: \
            {any: thing}}]}}";
        let lines = lines(&format!(
            "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {{name: a}}\nspec: {labels}\n"
        ));
        assert_eq!(lines, ["-: IPAddressPool/a accepted"]);
    }

    #[test]
    fn claims_are_validated() {
        let lines = lines(&manifests(&[
            (OURS, "IPAddressPool", "lan", "{addresses: [192.0.2.0/24]}"),
            (OURS, "IPClaim", "a", "{serviceName: web, pool: lan}"),
            (OURS, "IPClaim", "b", "{serviceName: web, addresses: [web]}"),
            (OURS, "IPAddressPool", "dmz", "{addresses: [198.51.100.0/24]}"),
            (OURS, "IPClaim", "c", "{service: web, pool: lan}"),
        ]));
        assert_eq!(
            lines,
            [
                "-: IPAddressPool/lan accepted",
                "-: IPClaim/a accepted",
                "-: IPClaim/b REFUSED: InvalidClaim: \"web\" is not an IP address",
                "-: IPAddressPool/dmz accepted",
                "-: IPClaim/c REFUSED: UnknownField: field spec.service does not exist",
            ]
        );
    }

    #[test]
    fn duplicate_object_is_refused_twice() {
        let pool = (OURS, "IPAddressPool", "a", "{addresses: [192.0.2.0/24]}");
        let lines = lines(&manifests(&[pool, pool]));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains("REFUSED: DuplicateName")), "{lines:?}");
    }
}
