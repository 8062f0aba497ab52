//! `fairlead explain` with an API server: the built-in one, or a real one if `KUBEBUILDER_ASSETS` is
//! set.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use fairlead_crds::v1beta1::{IPAddressPool, L2Advertisement, Speaker};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn explain(kubeconfig: &Path, service: &[&str]) -> Output {
    fairlead(kubeconfig, &[&["explain", "service"], service].concat())
}

fn fairlead(kubeconfig: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .args(arguments)
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

/// Creates a Node with an address and a Pod range, and a ServiceCIDR, all in 203.0.113.0/24.
async fn create_networks(client: &Client) {
    let node: Node = object(json!({
        "metadata": { "name": "n1" }, "spec": { "podCIDR": "203.0.113.32/28", "podCIDRs": ["203.0.113.32/28"] },
    }));
    let nodes = Api::<Node>::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let addresses = json!([{ "type": "InternalIP", "address": "203.0.113.20" }]);
    let status = json!({ "status": { "addresses": addresses } });
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let range: ServiceCIDR =
        object(json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["203.0.113.8/29"] } }));
    Api::all(client.clone()).create(&PostParams::default(), &range).await.unwrap();
}

/// Stores the address of the Service `web`, and an L2Advertisement that was accepted and is refused after an
/// edit. Returns what `explain` says about it.
async fn refuse_advertisement(client: &Client) -> String {
    let services = Api::<Service>::default_namespaced(client.clone());
    let held = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.10" }] } } });
    services.patch_status("web", &PatchParams::default(), &Patch::Merge(held)).await.unwrap();
    let ads = Api::<L2Advertisement>::all(client.clone());
    let ad: L2Advertisement = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    ads.create(&PostParams::default(), &ad).await.unwrap();
    let accepted = json!({ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                           "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = json!({ "conditions": [accepted], "inForce": { "generation": 1, "spec": {} } });
    ads.patch_status("lan", &PatchParams::default(), &Patch::Merge(json!({ "status": status })))
        .await
        .unwrap();
    let selector = json!({ "matchLabels": { "a": "b" } });
    let spec = json!({ "spec": { "nodeSelectors": [selector, selector] } });
    ads.patch("lan", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
    "Refused objects that stay in force\n  L2Advertisement/lan is refused at generation 2: DuplicateEntry: \
     nodeSelectors contains the same selector twice: remove one of them; generation 1 stays in force\n"
        .to_owned()
}

/// A file that is deleted at the end of the test.
struct File(std::path::PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_prints_decisions_and_exits_by_addresses() {
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
    let spec = json!({ "addresses": ["203.0.113.0/24"], "autoAssign": false });
    let net = json!({ "metadata": { "name": "net" }, "spec": spec });
    pools.create(&PostParams::default(), &object(net)).await.unwrap();
    create_networks(&client).await;
    service(&client, "web", json!({})).await;
    service(&client, "late", json!({ "fairlead.dev/address-pool": "dmz" })).await;
    let file = File(std::env::temp_dir().join(format!("fairlead-explain-{}", std::process::id())));
    std::fs::write(&file.0, cluster.kubeconfig()).unwrap();

    // No controller runs: the decision is one that nobody has written.
    let pending = "Service default/web: Pending: NotReconciled: no controller has written the status of this \
                   Service: no controller leads: there is no Lease fairlead-system/fairlead-controller\n";
    let output = explain(&file.0, &["web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with(pending), "{text}");
    let decided = "  a controller would decide: Allocated: 192.0.2.10 from IPAddressPool lan\n";
    assert!(text.contains(decided) && text.contains("  lan  USED  192.0.2.10\n"), "{text}");
    assert!(!text.contains("Speakers"), "{text}");

    let speaker: Speaker = object(json!({ "metadata": { "name": "n1" }, "spec": {} }));
    let speakers = Api::<Speaker>::all(client.clone());
    speakers.create(&PostParams::default(), &speaker).await.unwrap();
    let entry = |service: &str| {
        json!({ "service": service, "address": "192.0.2.10", "protocol": "L2", "reason": "UnusableOnLink",
                "message": "exclude it" })
    };
    let entries = [entry("default/other"), entry("default/web")];
    let status = json!({ "status": { "ready": true, "notAnnounced": entries } });
    speakers.patch_status("n1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let output = explain(&file.0, &["web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let reasons = "Speakers that do not announce\n  192.0.2.10 by L2, on n1: UnusableOnLink: exclude it\n";
    assert!(output.status.code() == Some(1) && text.ends_with(reasons), "{text}");

    let address = |address: &str| {
        let output = fairlead(&file.0, &["explain", "address", address]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for (ip, text) in [
        (
            "192.0.2.9",
            "Address 192.0.2.9: Unavailable: 192.0.2.9 is in no IPAddressPool, or avoidBuggyIPs excludes it\n",
        ),
        ("203.0.113.1", "Address 203.0.113.1: Free: 203.0.113.1 is free in IPAddressPool net\n"),
        (
            "203.0.113.9",
            "Address 203.0.113.9: Free: 203.0.113.9 is free in IPAddressPool net\nAllocation\n  203.0.113.9 is \
             in the Service range 203.0.113.8-203.0.113.15 of ServiceCIDR more\n",
        ),
        (
            "203.0.113.20",
            "Address 203.0.113.20: Unavailable: 203.0.113.20 is an address of Node n1, which no Service can use\n",
        ),
        (
            "203.0.113.33",
            "Address 203.0.113.33: Free: 203.0.113.33 is free in IPAddressPool net\nAllocation\n  203.0.113.33 is \
             in the Pod range 203.0.113.32-203.0.113.47 of Node n1\n",
        ),
    ] {
        assert_eq!(address(ip), (Some(1), text.to_owned()));
    }
    let (code, text) = address("192.0.2.10");
    let pending = "  a controller would give it to Service default/web\n";
    assert!(code == Some(1) && text.contains(pending) && text.ends_with(reasons), "{text}");

    let refused = refuse_advertisement(&client).await;
    let (code, text) = address("192.0.2.10");
    let held = "Address 192.0.2.10: InUse: 192.0.2.10 is in use by Service default/web\n";
    assert!(code == Some(0) && text.starts_with(held), "{text}");
    assert!(text.ends_with(&format!("{reasons}{refused}")), "{text}");
    let output = explain(&file.0, &["web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(0) && text.ends_with(&refused), "{text}");
    let output = explain(&file.0, &["default/late"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let decided = "  a controller would decide: PoolNotFound: IPAddressPool dmz does not exist\n";
    assert!(text.contains(decided), "{text}");

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
