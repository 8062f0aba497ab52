//! `fairlead validate` and the API server agree on every object of a table: the server is asked by a dry run
//! with strict field validation, as `kubectl apply` sends it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::Value;

/// The verdict of `fairlead validate` on an object.
struct Refused {
    /// A reason is one of the API server.
    by_server: bool,
    finding: String,
}

/// Returns the objects that `fairlead validate` refuses, by their place in the list.
fn refused_by_validate(objects: &[String]) -> BTreeMap<usize, Refused> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .args(["validate", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One document per line, so that the line of an error names the object.
    let text = objects.join("\n---\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut seen = BTreeSet::new();
    let mut refused = BTreeMap::new();
    for finding in text.lines() {
        let line: usize = finding.split(':').nth(1).unwrap().parse().unwrap();
        let object = (line - 1) / 2;
        seen.insert(object);
        let reason = finding.split_once(" REFUSED: ").map(|(_, rest)| rest.split(':').next().unwrap());
        let Some(reason) = reason else { continue };
        let by_server = is_reason_of_api_server(reason);
        let entry =
            refused.entry(object).or_insert_with(|| Refused { by_server, finding: finding.to_owned() });
        entry.by_server |= by_server;
    }
    assert_eq!(seen.len(), objects.len(), "every object has a finding: {text}");
    refused
}

fn is_reason_of_api_server(reason: &str) -> bool {
    reason.starts_with("FieldValue")
        || ["UnknownField", "DuplicateField", "UnknownKind", "UnknownVersion"].contains(&reason)
}

/// Returns the error of the API server on the creation of an object; `None` if it accepts it.
async fn refused_by_server(client: &Client, kind: &str, object: &str) -> Option<String> {
    let plural = match kind {
        "Community" => "communities".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    };
    let namespace = if kind == "IPClaim" { "namespaces/default/" } else { "" };
    let request = axum::http::Request::post(format!(
        "/apis/fairlead.dev/v1beta1/{namespace}{plural}?dryRun=All&fieldValidation=Strict"
    ))
    .header("content-type", "application/json")
    .body(object.as_bytes().to_vec())
    .unwrap();
    client.request::<Value>(request).await.err().map(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_agrees_with_dry_run_of_api_server() {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    for definition in manifests::definitions() {
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        api.create(&PostParams::default(), &definition).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for (kind, spec) in table::BASES {
        let object = table::object(kind, spec).to_string();
        while let Some(error) = refused_by_server(&client, kind, &object).await {
            assert!(Instant::now() < deadline, "the API server does not accept {object}: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let rows = table::rows();
    assert!(rows.len() >= 150, "{} objects", rows.len());
    let objects: Vec<String> = rows.iter().map(|(_, object)| object.clone()).collect();
    let validate = refused_by_validate(&objects);
    let mut differences = Vec::new();
    let mut refused = 0;
    for (index, (kind, object)) in rows.iter().enumerate() {
        let server = refused_by_server(&client, kind, object).await;
        refused += usize::from(server.is_some());
        // An object that the server accepts may still be refused by Fairlead.
        let refused_by_validate = validate.get(&index);
        let agree = match server {
            Some(_) => refused_by_validate.is_some(),
            None => refused_by_validate.is_none_or(|refused| !refused.by_server),
        };
        if !agree {
            differences.push(format!(
                "{object}\n  server: {server:?}\n  validate: {:?}",
                refused_by_validate.map(|refused| &refused.finding)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // The table contains both kinds of objects in numbers.
    assert!(refused >= 80 && rows.len() - refused >= 40, "{refused} of {} are refused", rows.len());
}
