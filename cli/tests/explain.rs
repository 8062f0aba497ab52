//! `fairlead explain service` with an API server: the built-in one, or a real one if `KUBEBUILDER_ASSETS` is
//! set.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use fairlead_crds::v1beta1::{IPAddressPool, Speaker};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn explain(kubeconfig: &Path, service: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .args(["explain", "service"])
        .args(service)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .output()
        .unwrap()
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

async fn service(client: &Client, name: &str, annotations: Value) {
    let service: Service = object(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "type": "LoadBalancer", "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    }));
    Api::default_namespaced(client.clone()).create(&PostParams::default(), &service).await.unwrap();
}

/// A file that is deleted at the end of the test.
struct File(std::path::PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_service_exits_by_its_addresses() {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    for definition in manifests::definitions() {
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        api.create(&PostParams::default(), &definition).await.unwrap();
    }
    let pools = Api::<IPAddressPool>::all(client.clone());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while pools.list(&ListParams::default()).await.is_err() {
        assert!(std::time::Instant::now() < end, "the API server does not serve the kinds");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pool: IPAddressPool =
        object(json!({ "metadata": { "name": "lan" }, "spec": { "addresses": ["192.0.2.10/32"] } }));
    pools.create(&PostParams::default(), &pool).await.unwrap();
    service(&client, "web", json!({})).await;
    service(&client, "late", json!({ "fairlead.dev/address-pool": "dmz" })).await;
    let file = File(std::env::temp_dir().join(format!("fairlead-explain-{}", std::process::id())));
    std::fs::write(&file.0, cluster.kubeconfig()).unwrap();

    let output = explain(&file.0, &["web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.starts_with("Service default/web: Allocated: 192.0.2.10 from IPAddressPool lan\n"),
        "{text}"
    );
    assert!(text.contains("  lan  USED  192.0.2.10\n"), "{text}");

    assert!(!text.contains("Speakers"), "{text}");

    let speaker: Speaker = object(json!({ "metadata": { "name": "n1" }, "spec": {} }));
    let speakers = Api::<Speaker>::all(client.clone());
    speakers.create(&PostParams::default(), &speaker).await.unwrap();
    let entry = |service: &str| {
        json!({ "service": service, "address": "192.0.2.10", "protocol": "L2", "reason": "UnusableOnLink",
                "message": "exclude it" })
    };
    let status = json!({ "status": { "notAnnounced": [entry("default/other"), entry("default/web")] } });
    speakers.patch_status("n1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let output = explain(&file.0, &["web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let reasons = "Speakers that do not announce:\n  192.0.2.10 by L2, on n1: UnusableOnLink: exclude it\n";
    assert!(output.status.code() == Some(0) && text.ends_with(reasons), "{text}");

    let output = explain(&file.0, &["default/late"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("Service default/late: PoolNotFound: IPAddressPool dmz does not exist\n"),
        "{text}"
    );

    let output = explain(&file.0, &["-n", "other", "web"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("there is no Service other/web"), "{text}");

    let output = explain(&file.0, &["web\nforged"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().count() == 1 && text.contains("default/web\\nforged"), "{text}");
}

#[test]
fn empty_kubeconfig_variable_means_none() {
    let output = Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .args(["explain", "service", "web"])
        .env("KUBECONFIG", "")
        .env("HOME", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("not running in a cluster"), "{error}");
}

#[test]
fn error_names_the_missing_kubeconfig() {
    let output = explain(Path::new("/nonexistent/kubeconfig"), &["web"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/kubeconfig"));
}

#[test]
fn error_names_the_server_that_does_not_answer() {
    let file = File(std::env::temp_dir().join(format!("fairlead-{}-unreachable", std::process::id())));
    // No program listens on the port of the discard protocol.
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:9/" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": {} }],
    });
    std::fs::write(&file.0, kubeconfig.to_string()).unwrap();
    let output = explain(&file.0, &["web"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("API server http://127.0.0.1:9: "), "{error}");
}
