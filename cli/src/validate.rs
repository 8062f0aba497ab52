//! What Fairlead would say of objects, decided by the code that decides it in a cluster.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::resolve::{Kind, ObjectRef, Objects, resolve};
use fairlead_crds::{manifests, v1beta1};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::read::Document;

/// What there is to say of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File it is from.
    pub file: String,
    /// `kind/name`.
    pub object: String,
    /// Whether it would be in force.
    pub accepted: bool,
    /// `Accepted`, or the reason in one word.
    pub reason: String,
    /// The reason in a sentence; may be empty.
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

/// Judges the objects together. Objects of other groups and of kinds that are no configuration are left out.
pub(crate) fn validate(documents: Vec<Document>) -> Vec<Finding> {
    let schemas = schemas();
    let mut objects = Objects::default();
    // Objects in the order of the files, each with its finding where it cannot even be resolved.
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
        let broken = flaw(&value, &schemas).or_else(|| add(&mut objects, kind, value).err());
        let broken = broken.map(|why| Finding::refused(file.clone(), object.to_string(), why));
        seen.push((file, object, broken));
    }
    let resolution = resolve(&objects);
    let mut findings: Vec<Finding> = seen
        .into_iter()
        .filter_map(|(file, object, broken)| {
            broken.or_else(|| {
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
    for (place, finding) in claims {
        findings.insert(place.min(findings.len()), finding);
    }
    findings
}

fn is_claim(value: &Value) -> bool {
    let group = value["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    value["kind"] == "IPClaim" && group.is_some_and(|(group, _)| group == v1beta1::GROUP)
}

/// A claim by itself: whether its addresses can be had, only the cluster knows.
fn claim(file: String, value: Value, schemas: &BTreeMap<String, Value>) -> Finding {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let object = format!("IPClaim/{name}");
    if let Some(why) = flaw(&value, schemas) {
        return Finding::refused(file, object, why);
    }
    match serde_json::from_value(value) {
        Err(error) => Finding::refused(file, object, ("InvalidObject", error.to_string())),
        Ok(claim) => match Claim::from_object(&claim).wanted {
            Err(why) => Finding::refused(file, object, ("InvalidClaim", why.message)),
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

/// The kind, if it is configuration of Fairlead, in whatever version.
fn kind_of(value: &Value) -> Option<Kind> {
    let (group, _) = value["apiVersion"].as_str()?.split_once('/')?;
    let kinds = [
        Kind::IPAddressPool,
        Kind::L2Advertisement,
        Kind::BGPAdvertisement,
        Kind::BGPPeer,
        Kind::BFDProfile,
        Kind::Community,
    ];
    let name = value["kind"].as_str()?;
    kinds.into_iter().find(|kind| group == v1beta1::GROUP && kind.to_string() == name)
}

/// What an API server refuses before anything of ours sees the object.
fn flaw(value: &Value, schemas: &BTreeMap<String, Value>) -> Option<(&'static str, String)> {
    let version = value["apiVersion"].as_str().unwrap_or_default();
    if version != format!("{}/{}", v1beta1::GROUP, v1beta1::VERSION) {
        let message =
            format!("apiVersion is {version:?}: it must be \"{}/{}\"", v1beta1::GROUP, v1beta1::VERSION);
        return Some(("UnknownVersion", message));
    }
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Some(("NoName", "metadata.name is not set".to_owned()));
    }
    let schema = schemas.get(value["kind"].as_str()?)?;
    let unknown = unknown_field(&value["spec"], &schema["properties"]["spec"], "spec")?;
    Some(("UnknownField", format!("there is no field {unknown}")))
}

/// Path of the first field that the schema does not have. `kubectl apply` refuses such a field too, which is most
/// often a misspelling.
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

fn add(objects: &mut Objects, kind: Kind, value: Value) -> Result<(), (&'static str, String)> {
    fn read<T: DeserializeOwned>(value: Value) -> Result<T, (&'static str, String)> {
        serde_json::from_value(value).map_err(|error| ("InvalidObject", error.to_string()))
    }
    match kind {
        Kind::IPAddressPool => objects.pools.push(read(value)?),
        Kind::L2Advertisement => objects.l2_advertisements.push(read(value)?),
        Kind::BGPAdvertisement => objects.bgp_advertisements.push(read(value)?),
        Kind::BGPPeer => objects.peers.push(read(value)?),
        Kind::BFDProfile => objects.bfd_profiles.push(read(value)?),
        Kind::Community => objects.communities.push(read(value)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    fn findings(yaml: &str) -> Vec<String> {
        let documents = read::documents(&["-".into()], &mut yaml.as_bytes()).unwrap();
        validate(documents).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn objects_are_judged_in_the_order_of_the_files() {
        let said = findings(
            "
{apiVersion: fairlead.dev/v1beta1, kind: L2Advertisement, metadata: {name: lan}, spec: {ipAddressPools: [lan]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: lan}, spec: {addresses: [192.0.2.9-192.0.2.1]}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: dmz}, spec: {addresses: [192.0.2.0/24]}}
---
{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: old}, spec: {addresses: [192.0.2.0/24]}}
---
{apiVersion: fairlead.dev/v1beta1, kind: Speaker, metadata: {name: node1}, spec: {}}
",
        );
        assert_eq!(
            said,
            [
                "-: L2Advertisement/lan accepted: PoolNotFound: IPAddressPool \"lan\" does not exist or is refused",
                "-: IPAddressPool/lan REFUSED: ReversedRange: 192.0.2.9-192.0.2.1 is reversed: the first address must not be higher than the last",
                "-: IPAddressPool/dmz accepted",
            ]
        );
    }

    #[test]
    fn what_an_api_server_would_refuse_is_refused() {
        let table = [
            ("fairlead.dev/v1", "a", "{addresses: [192.0.2.0/24]}", "UnknownVersion"),
            ("fairlead.dev/v1beta1", "''", "{addresses: [192.0.2.0/24]}", "NoName"),
            (
                "fairlead.dev/v1beta1",
                "a",
                "{adresses: [192.0.2.0/24]}",
                "UnknownField: there is no field spec.adresses",
            ),
            (
                "fairlead.dev/v1beta1",
                "a",
                "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchlabels: {a: b}}]}}",
                "spec.serviceAllocation.serviceSelectors[0].matchlabels",
            ),
            ("fairlead.dev/v1beta1", "a", "{addresses: 192.0.2.0/24}", "InvalidObject"),
            ("fairlead.dev/v1beta1", "a", "", "InvalidObject"),
        ];
        for (version, name, spec, reason) in table {
            let said = findings(&format!(
                "apiVersion: {version}\nkind: IPAddressPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            ));
            assert!(
                said.len() == 1 && said[0].contains("REFUSED") && said[0].contains(reason),
                "{spec}: {said:?}"
            );
        }
        // Labels have whatever names they like.
        let labels = "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchLabels: {any: thing}}]}}";
        let said = findings(&format!(
            "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {{name: a}}\nspec: {labels}\n"
        ));
        assert_eq!(said, ["-: IPAddressPool/a accepted"]);
    }

    #[test]
    fn claims_are_judged_too() {
        let said = findings(
            "
{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: lan}, spec: {addresses: [192.0.2.0/24]}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPClaim, metadata: {name: a}, spec: {serviceName: web, pool: lan}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPClaim, metadata: {name: b}, spec: {serviceName: web, addresses: [web]}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: dmz}, spec: {addresses: [198.51.100.0/24]}}
---
{apiVersion: fairlead.dev/v1beta1, kind: IPClaim, metadata: {name: c}, spec: {service: web, pool: lan}}
",
        );
        assert_eq!(
            said,
            [
                "-: IPAddressPool/lan accepted",
                "-: IPClaim/a accepted",
                "-: IPClaim/b REFUSED: InvalidClaim: \"web\" is not an IP address",
                "-: IPAddressPool/dmz accepted",
                "-: IPClaim/c REFUSED: UnknownField: there is no field spec.service",
            ]
        );
    }

    #[test]
    fn an_object_twice_is_refused_twice() {
        let pool = "{apiVersion: fairlead.dev/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [192.0.2.0/24]}}";
        let said = findings(&format!("{pool}\n---\n{pool}\n"));
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|line| line.contains("REFUSED: DuplicateName")), "{said:?}");
    }
}
