//! `fairlead uninstall` with an API server: the built-in one, or a real one if `KUBEBUILDER_ASSETS` is set.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use fairlead_crds::v1beta1::{BFDProfile, Community, IPAddressPool};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A file that is deleted at the end of the test.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Returns the exit status, the standard output and the standard error.
fn uninstall(kubeconfig: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_fairlead"))
        .arg("uninstall")
        .args(arguments)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstall_removes_finalizers_conditions_and_annotation() {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let create = PostParams::default();
    for definition in manifests::definitions() {
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        api.create(&create, &definition).await.unwrap();
    }
    let pools = Api::<IPAddressPool>::all(client.clone());
    let end = Instant::now() + Duration::from_secs(30);
    while pools.list(&ListParams::default()).await.is_err() {
        assert!(Instant::now() < end, "the API server does not serve the kinds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let finalizers = ["example.org/other", "fairlead.dev/pool-protection"];
    let pool: IPAddressPool = object(json!({
        "metadata": { "name": "lan", "finalizers": finalizers }, "spec": { "addresses": ["192.0.2.10/32"] },
    }));
    pools.create(&create, &pool).await.unwrap();
    let profiles = Api::<BFDProfile>::all(client.clone());
    let finalizers = ["fairlead.dev/bfd-profile-protection"];
    let profile = json!({ "metadata": { "name": "fast", "finalizers": finalizers }, "spec": {} });
    profiles.create(&create, &object(profile)).await.unwrap();
    let communities = Api::<Community>::all(client.clone());
    let finalizers = ["fairlead.dev/community-protection"];
    let community = json!({ "metadata": { "name": "names", "finalizers": finalizers }, "spec": {} });
    communities.create(&create, &object(community)).await.unwrap();
    let services = Api::<Service>::default_namespaced(client.clone());
    for name in ["web", "plain"] {
        let service: Service = object(json!({
            "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        }));
        services.create(&create, &service).await.unwrap();
    }
    let condition = |type_: &str| {
        json!({ "type": type_, "status": "True", "reason": "A", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let written = json!({
        "metadata": { "annotations": { "fairlead.dev/ip-allocated-from-pool": "lan", "example.org/a": "b" } },
        "status": {
            "loadBalancer": { "ingress": [{ "ip": "192.0.2.10" }] },
            "conditions": [
                condition("fairlead.dev/Allocated"), condition("example.org/X"),
                condition("fairlead.dev/Advertised"),
            ],
        },
    });
    services.patch_status("web", &PatchParams::default(), &Patch::Merge(written)).await.unwrap();
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = json!({ "metadata": { "name": "fairlead-system" } });
    namespaces.create(&create, &object(namespace)).await.unwrap();
    let kind = ApiResource::erase::<Lease>(&());
    let leases = Api::<DynamicObject>::namespaced_with(client.clone(), "fairlead-system", &kind);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "fairlead-controller" },
        "spec": { "holderIdentity": "pod-1\nforged", "leaseDurationSeconds": 3600,
            "renewTime": format!("{:.6}", jiff::Timestamp::now()) },
    });
    leases.create(&create, &object(lease)).await.unwrap();
    let file = File(std::env::temp_dir().join(format!("fairlead-uninstall-{}", std::process::id())));
    std::fs::write(&file.0, cluster.kubeconfig()).unwrap();
    let versions = async || {
        let pool = pools.get("lan").await.unwrap().resource_version();
        (pool, services.get("web").await.unwrap().resource_version())
    };
    let before = versions().await;

    let (status, out, _) = uninstall(&file.0, &["--dry-run"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        out,
        "IPAddressPool lan: would remove its finalizer\n\
         BFDProfile fast: would remove its finalizer\n\
         Community names: would remove its finalizer\n\
         Service default/web: would remove the conditions and the annotation of Fairlead\n"
    );
    let (status, _, error) = uninstall(&file.0, &["--yes"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("controller pod-1\\nforged still runs"), "{error}");
    // The API server stores the time as one of the year 10000.
    let late = "9999-12-31T23:59:59.000000-12:00";
    let released = Patch::Merge(json!({ "spec": { "holderIdentity": "", "acquireTime": late } }));
    leases.patch("fairlead-controller", &PatchParams::default(), &released).await.unwrap();
    let (status, _, error) = uninstall(&file.0, &[]);
    assert_eq!(status, Some(2));
    assert!(error.contains("use --yes to confirm"), "{error}");
    assert_eq!(versions().await, before, "nothing was written");

    let (status, out, error) = uninstall(&file.0, &["--yes"]);
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(profiles.get("fast").await.unwrap().finalizers().is_empty());
    assert!(communities.get("names").await.unwrap().finalizers().is_empty());
    assert_eq!(pools.get("lan").await.unwrap().finalizers(), ["example.org/other"]);
    let web = services.get("web").await.unwrap();
    assert_eq!(web.annotations().keys().collect::<Vec<_>>(), ["example.org/a"]);
    let status = web.status.unwrap();
    let types: Vec<String> = status.conditions.unwrap().into_iter().map(|one| one.type_).collect();
    assert_eq!(types, ["example.org/X"]);
    let ingress = status.load_balancer.unwrap().ingress.unwrap();
    assert_eq!(ingress[0].ip.as_deref(), Some("192.0.2.10"), "another implementation may adopt the address");

    let (status, out, error) = uninstall(&file.0, &["--yes"]);
    assert_eq!((status, out.as_str()), (Some(0), ""));
    assert!(error.contains("nothing to remove"), "{error}");
}
