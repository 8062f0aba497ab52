//! `fairlead validate`: the verdict on each object, by the same code as in a cluster.
//!
//! An object is checked as an API server checks it on `kubectl apply` (metadata, schema, CEL rules, with
//! strict field validation). The objects that it would store are resolved together, as in the controller and
//! in the speakers.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::resolve::{Kind, ObjectRef, Objects, Resolution, resolve};
use fairlead_crds::text::{MAX_NAME, message, printable};
use fairlead_crds::{manifests, v1beta1};
use fairlead_schema::{Cause, Definition};
use serde_json::Value;

use crate::read::Document;
use crate::yaml::{Node, Position};

/// The verdict on an object, or one of several errors in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file that contains the object.
    pub file: String,
    /// The place in the file: of the object, or of the field with the error.
    pub position: Position,
    /// `Kind/name`, printable.
    pub object: String,
    /// True if the object would be in force.
    pub accepted: bool,
    /// True if a form that was accepted before would stay in force in a cluster.
    pub keeps_form: bool,
    /// `Accepted`, or the reason of the refusal or warning.
    pub reason: String,
    /// The explanation; may be empty.
    pub message: String,
}

/// One line. Its parts are escaped and cut, because files can contain any text.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.accepted { "accepted" } else { "REFUSED" };
        write!(f, "{}:{}: {} {verdict}", message(&*self.file), self.position, self.object)?;
        if !self.message.is_empty() {
            write!(f, ": {}: {}", self.reason, message(&*self.message))?;
        }
        Ok(())
    }
}

/// An object of one of our kinds, in the order of the files.
struct Candidate {
    file: String,
    node: Node,
    object: String,
    state: State,
}

enum State {
    /// An API server rejects the object. If it is configuration whose types are right, the resolution
    /// explains the values further.
    Rejected(Vec<Error>, Option<ObjectRef>),
    /// The verdict is that of the resolution of all objects.
    Configuration(ObjectRef),
    /// Only the claim itself is checked.
    Claim(Value),
    /// The object is no configuration; Fairlead writes it.
    Stored,
}

/// An error in an object.
struct Error {
    position: Position,
    reason: &'static str,
    message: String,
}

/// Validates the objects together. Ignores objects of other groups.
pub(crate) fn validate(documents: Vec<Document>) -> Vec<Finding> {
    let definitions = definitions();
    let mut objects = Objects::default();
    let mut rejected = Objects::default();
    let candidates: Vec<Candidate> = documents
        .into_iter()
        .filter(|document| is_ours(&document.node, &definitions))
        .map(|document| candidate(document, &definitions, &mut objects, &mut rejected))
        .collect();
    let resolution = resolve(&objects);
    let with_rejected = if rejected == Objects::default() {
        Resolution::default()
    } else {
        objects.append(rejected);
        resolve(&objects)
    };
    let mut findings = Vec::new();
    for Candidate { file, node, object, state } in candidates {
        let keeps_form = match &state {
            State::Rejected(_, reference) => reference.as_ref(),
            State::Configuration(reference) => Some(reference),
            State::Claim(_) | State::Stored => None,
        };
        let keeps_form = keeps_form.is_some_and(|reference| reference.kind != Kind::IPAddressPool);
        let finding = |position, accepted, reason: &str, message| Finding {
            file: file.clone(),
            position,
            object: object.clone(),
            accepted,
            keeps_form,
            reason: reason.to_owned(),
            message,
        };
        match state {
            State::Rejected(errors, object) => {
                findings.extend(
                    errors
                        .into_iter()
                        .map(|error| finding(error.position, false, error.reason, error.message)),
                );
                let verdict = object.and_then(|object| with_rejected.accepted(&object));
                findings.extend(
                    verdict
                        .filter(|verdict| !verdict.status)
                        .map(|verdict| finding(node.position, false, &verdict.reason, verdict.message)),
                );
            }
            State::Configuration(object) => {
                if let Some(accepted) = resolution.accepted(&object) {
                    findings.push(finding(
                        node.position,
                        accepted.status,
                        &accepted.reason,
                        accepted.message,
                    ));
                }
            }
            State::Claim(value) => findings.push(match claim_error(value) {
                Some((reason, message)) => finding(node.position_of("spec"), false, reason, message),
                None => finding(node.position, true, "Accepted", String::new()),
            }),
            State::Stored => findings.push(finding(node.position, true, "Accepted", String::new())),
        }
    }
    findings
}

/// Returns true for an object of our group, and for one of our kinds without a version.
fn is_ours(node: &Node, definitions: &BTreeMap<String, Definition>) -> bool {
    let text = |field| node.get(field).and_then(Node::as_str).unwrap_or_default();
    match text("apiVersion") {
        "" => definitions.contains_key(text("kind")),
        version => version.split('/').next() == Some(v1beta1::GROUP),
    }
}

fn candidate(
    Document { file, node }: Document,
    definitions: &BTreeMap<String, Definition>,
    objects: &mut Objects,
    rejected: &mut Objects,
) -> Candidate {
    let mut value = node.value();
    fairlead_schema::normalize_numbers(&mut value);
    let kind = value["kind"].as_str().unwrap_or_default();
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let object = format!("{}/{}", printable(kind, MAX_NAME), printable(&*name, MAX_NAME));
    let errors = api_errors(&node, &value, definitions);
    let state = match Kind::parse(kind) {
        Some(kind) if errors.is_empty() => match objects.push_json(kind, value) {
            Ok(()) => State::Configuration(ObjectRef { kind, name }),
            Err(error) => {
                let message = error.to_string();
                let error = Error { position: node.position, reason: "InvalidObject", message };
                State::Rejected(vec![error], None)
            }
        },
        Some(kind) => {
            let readable = rejected.push_json(kind, value).is_ok();
            State::Rejected(errors, readable.then_some(ObjectRef { kind, name }))
        }
        None if !errors.is_empty() => State::Rejected(errors, None),
        None if kind == "IPClaim" => State::Claim(value),
        None => State::Stored,
    };
    Candidate { file, node, object, state }
}

/// Returns the reason and message for which a claim has no effect. Only the cluster can determine if its
/// addresses are available.
fn claim_error(value: Value) -> Option<(&'static str, String)> {
    match serde_json::from_value(value) {
        Err(error) => Some(("InvalidObject", error.to_string())),
        Ok(claim) => {
            Claim::from_object(&claim).request.err().map(|refusal| ("InvalidClaim", refusal.message))
        }
    }
}

/// Returns all errors for which an API server rejects the object.
fn api_errors(node: &Node, value: &Value, definitions: &BTreeMap<String, Definition>) -> Vec<Error> {
    let version = value["apiVersion"].as_str().unwrap_or_default();
    let kind = value["kind"].as_str().unwrap_or_default();
    let expected = format!("{}/{}", v1beta1::GROUP, v1beta1::VERSION);
    if version != expected {
        let message = format!("apiVersion is {version:?}: it must be {expected:?}");
        return vec![Error { position: node.position_of("apiVersion"), reason: "UnknownVersion", message }];
    }
    let Some(definition) = definitions.get(kind) else {
        let kinds: Vec<&str> = definitions.keys().map(String::as_str).collect();
        let message = format!("{expected} has no kind {kind:?}: it has {}", kinds.join(", "));
        return vec![Error { position: node.position_of("kind"), reason: "UnknownKind", message }];
    };
    let duplicates = node.duplicate_keys().into_iter().map(|(path, position)| Error {
        position,
        reason: "DuplicateField",
        message: format!("{path}: the field is already set"),
    });
    let causes = definition.check_new(value.clone()).into_iter().map(|Cause { reason, field, message }| {
        Error { position: node.position_of(&field), reason, message: format!("{field}: {message}") }
    });
    let mut errors: Vec<Error> = duplicates.chain(causes).collect();
    errors.sort_by_key(|error| error.position);
    errors
}

/// Returns the definitions by kind.
fn definitions() -> BTreeMap<String, Definition> {
    manifests::definitions()
        .iter()
        .filter_map(|definition| serde_json::to_value(definition).ok())
        .filter_map(|definition| Definition::versions(&definition).ok())
        .flatten()
        .map(|definition| (definition.kind.clone(), definition))
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
        let documents = read::documents(&["-".into()], false, &mut yaml.as_bytes()).unwrap();
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
                "-:1:1: L2Advertisement/lan accepted: PoolNotFound: IPAddressPool \"lan\" does not exist or is \
                 refused",
                "-:5:87: IPAddressPool/lan REFUSED: FieldValueInvalid: spec.addresses: Invalid value: \"array\": \
                 the first address of a range must not be higher than the last",
                "-:5:1: IPAddressPool/lan REFUSED: ReversedRange: 192.0.2.9-192.0.2.1 is reversed: the first \
                 address must not be higher than the last",
                "-:7:1: IPAddressPool/dmz accepted",
                "-:11:1: Speaker/node1 accepted",
            ]
        );
    }

    #[test]
    fn object_that_the_api_server_rejects_is_refused() {
        let table = [
            (
                "fairlead.dev/v1",
                "a",
                "{addresses: [192.0.2.0/24]}",
                "1:1: IPAddressPool/a REFUSED: UnknownVersion",
            ),
            ("fairlead.dev", "a", "{addresses: [192.0.2.0/24]}", "UnknownVersion"),
            ("''", "a", "{addresses: [192.0.2.0/24]}", "UnknownVersion"),
            (OURS, "''", "{addresses: [192.0.2.0/24]}", "FieldValueRequired: metadata.name"),
            (
                OURS,
                "Lan",
                "{addresses: [192.0.2.0/24]}",
                "3:12: IPAddressPool/Lan REFUSED: FieldValueInvalid",
            ),
            (OURS, "a.-b", "{addresses: [192.0.2.0/24]}", "FieldValueInvalid: metadata.name"),
            (
                OURS,
                "a",
                "{addresses: [192.0.2.0/24], adresses: [192.0.2.0/24]}",
                "4:35: IPAddressPool/a REFUSED: UnknownField: spec.adresses: ",
            ),
            (
                OURS,
                "a",
                "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchlabels: {a: b}}]}}",
                "UnknownField: spec.serviceAllocation.serviceSelectors[0].matchlabels",
            ),
            (
                OURS,
                "a",
                "{addresses: [192.0.2.0/24], addresses: []}",
                "4:35: IPAddressPool/a REFUSED: DuplicateField",
            ),
            (
                OURS,
                "a",
                "{addresses: 192.0.2.0/24}",
                "4:8: IPAddressPool/a REFUSED: FieldValueTypeInvalid: spec.addresses",
            ),
            (OURS, "a", "{addresses: []}", "FieldValueInvalid: spec.addresses"),
            (OURS, "a", "", "FieldValue"),
        ];
        for (version, name, spec, reason) in table {
            let lines = lines(&format!(
                "apiVersion: {version}\nkind: IPAddressPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            ));
            assert!(lines.iter().all(|line| line.contains("REFUSED")), "{spec}: {lines:?}");
            assert!(lines.iter().any(|line| line.contains(reason)), "{spec}: {lines:?}");
        }
        // Labels can have any name.
        let labels = "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchLabels: \
            {any: thing}}]}}";
        let lines = lines(&format!(
            "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {{name: a}}\nspec: {labels}\n"
        ));
        assert_eq!(lines, ["-:1:1: IPAddressPool/a accepted"]);
    }

    #[test]
    fn unknown_kind_of_our_group_is_refused() {
        let lines = lines(&manifests(&[
            (OURS, "IPAddresspool", "lan", "{addresses: [192.0.2.0/24]}"),
            ("metallb.io/v1beta1", "IPAddresspool", "lan", "{}"),
        ]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("-:1:36: IPAddresspool/lan REFUSED: UnknownKind: "), "{lines:?}");
    }

    #[test]
    fn all_errors_of_an_object_are_reported() {
        let lines = lines(
            "apiVersion: fairlead.dev/v1beta1\nkind: BGPPeer\nmetadata: {name: A_b}\nspec:\n  \
             myASN: 0\n  myASN: 1\n  peerAddress: 192.0.2.1\n  peerAsn: 2\n  holdTime: never\n",
        );
        let reasons: Vec<(&str, &str)> = lines
            .iter()
            .filter_map(|line| line.split_once(": BGPPeer/A_b REFUSED: "))
            .map(|(place, rest)| (place, rest.split(": ").nth(1).unwrap()))
            .collect();
        for expected in [
            ("-:3:12", "metadata.name"),
            ("-:6:3", "spec.myASN"),
            ("-:8:3", "spec.peerAsn"),
            ("-:9:3", "spec.holdTime"),
        ] {
            assert!(reasons.contains(&expected), "{expected:?}: {lines:#?}");
        }
    }

    #[test]
    fn claims_are_validated() {
        let lines = lines(&manifests(&[
            (OURS, "IPAddressPool", "lan", "{addresses: [192.0.2.0/24]}"),
            (OURS, "IPClaim", "a", "{serviceName: web, pool: lan}"),
            (OURS, "IPClaim", "b", "{serviceName: web, addresses: [web]}"),
            (OURS, "IPAddressPool", "dmz", "{addresses: [198.51.100.0/24]}"),
            (OURS, "IPClaim", "c", "{serviceName: web, service: web, pool: lan}"),
        ]));
        let table = [
            "IPAddressPool/lan accepted",
            "IPClaim/a accepted",
            "IPClaim/b REFUSED: ",
            "IPAddressPool/dmz accepted",
            "IPClaim/c REFUSED: UnknownField: spec.service: ",
        ];
        assert_eq!(lines.len(), table.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(table) {
            assert!(line.contains(expected), "{line} instead of {expected}");
        }
    }

    #[test]
    fn duplicate_object_is_refused_twice() {
        let pool = (OURS, "IPAddressPool", "a", "{addresses: [192.0.2.0/24]}");
        let lines = lines(&manifests(&[pool, pool]));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains("REFUSED: DuplicateName")), "{lines:?}");
    }
}
