//! The project's manifests: the definitions install, and the server accepts the samples.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

use std::path::{Path, PathBuf};

use fairlead_apiserver::{Access, Cluster};
use serde_json::{Value, json};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

/// Returns all objects of the YAML files of a folder, except kustomizations.
fn objects(folder: &str) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(config().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name == "kustomization.yaml" || file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object: Value = serde::Deserialize::deserialize(document).unwrap();
            if !object.is_null() {
                objects.push((name.clone(), object));
            }
        }
    }
    assert!(!objects.is_empty(), "config/{folder} has no objects");
    objects
}

/// Finds the resource of an object through discovery.
async fn path_of(client: &kube::Client, object: &Value) -> Result<String, String> {
    let version = object["apiVersion"].as_str().ok_or("no apiVersion")?;
    let base = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let list = get(client, &base).await.map_err(|error| format!("{base}: {error}"))?;
    let kind = object["kind"].as_str().ok_or("no kind")?;
    let resource = list["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["kind"] == kind && !one["name"].as_str().unwrap_or_default().contains('/'))
        .ok_or_else(|| format!("{base} has no {kind}"))?;
    let plural = resource["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    Ok(if resource["namespaced"] == true {
        format!("{base}/namespaces/{namespace}/{plural}")
    } else {
        format!("{base}/{plural}")
    })
}

async fn get(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    client.request(axum::http::Request::get(path).body(Vec::new()).unwrap()).await
}

async fn apply(client: &kube::Client, object: &Value) -> Result<Value, String> {
    let name = object["metadata"]["name"].as_str().ok_or("no name")?;
    let path = format!("{}/{name}?fieldManager=test&fieldValidation=Strict", path_of(client, object).await?);
    let request = axum::http::Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(object.to_string().into_bytes())
        .unwrap();
    client.request(request).await.map_err(|error| error.to_string())
}

async fn install(access: &Access) -> kube::Client {
    let client = access.client().await.unwrap();
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "fairlead-system" } });
    apply(&client, &namespace).await.unwrap();
    for (file, definition) in objects("crd") {
        apply(&client, &definition).await.unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    client
}

#[tokio::test]
async fn definitions_install_and_samples_are_accepted() {
    let cluster = Cluster::start().await.unwrap();
    let client = install(cluster.access()).await;
    let names: Vec<String> = objects("crd")
        .iter()
        .map(|(_, definition)| definition["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    for name in names {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let definition = get(&client, &path).await.unwrap();
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} is not established: {conditions:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    let mut wrong = Vec::new();
    for folder in ["samples", "rbac", "controller", "speaker"] {
        for (file, object) in objects(folder) {
            if let Err(error) = apply(&client, &object).await {
                wrong.push(format!(
                    "{folder}/{file}: {} {}: {error}",
                    object["kind"], object["metadata"]["name"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn network_policy_admits_only_the_metrics_of_the_controller() {
    let objects: Vec<Value> = objects("controller").into_iter().map(|(_, object)| object).collect();
    let of_kind = |kind: &str| {
        let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        found[0]
    };
    let (policy, deployment) = (of_kind("NetworkPolicy"), of_kind("Deployment"));
    assert_eq!(policy["metadata"]["namespace"], deployment["metadata"]["namespace"]);
    let selected = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    assert!(!selected.is_empty());
    for (name, value) in selected {
        assert_eq!(labels.get(name), Some(value), "the policy selects the pods of the controller");
    }
    // Others in the namespace, such as the speakers, are not selected.
    for (_, object) in self::objects("speaker").iter().filter(|(_, object)| object["kind"] == "DaemonSet") {
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        assert!(selected.iter().any(|(name, value)| labels[name] != *value), "{labels}");
    }
    // With the type Egress the controller could not reach the API server.
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(policy["spec"]["egress"], Value::Null);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let declared: Vec<Value> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| json!({ "port": port["name"], "protocol": port["protocol"].as_str().unwrap_or("TCP") }))
        .collect();
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["ports"], json!(declared), "all ports of the pods, and no others");
    let from = json!([{ "namespaceSelector": { "matchLabels": { "fairlead.dev/metrics": "enabled" } } }]);
    assert_eq!(rules[0]["from"], from, "any other source is rejected");
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&json!(path), &declared[0]["port"]), "{probe}");
    }
}
