//! A cluster of three Nodes in an API server: objects as controller and speakers leave them.

#![allow(clippy::unwrap_used, dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use axum::http::{Method, Request};
use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

/// An API server, and a kubeconfig for it.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    client: Client,
    kubeconfig: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

/// Returns the time before now, in the format of the API.
pub(crate) fn ago(seconds: i64) -> String {
    let now = Timestamp::now();
    format!("{:.0}", now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap())
}

/// 3 hours and a half.
pub(crate) const LONG_AGO: i64 = 12_600;

pub(crate) fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": ago(LONG_AGO) })
}

/// The paths of the kinds.
fn path(kind: &str, namespace: &str) -> String {
    match kind {
        "Node" => "/api/v1/nodes".to_owned(),
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "Service" => format!("/api/v1/namespaces/{namespace}/services"),
        "EndpointSlice" => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
        "Lease" => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        "Deployment" => format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
        "DaemonSet" => format!("/apis/apps/v1/namespaces/{namespace}/daemonsets"),
        kind => format!("/apis/fairlead.dev/v1beta1/{}s", kind.to_lowercase()),
    }
}

impl Scene {
    /// Starts an API server that serves the kinds.
    pub(crate) async fn start(name: &str) -> Self {
        let cluster = Cluster::built_in().await.unwrap();
        let client = cluster.client().await.unwrap();
        for definition in manifests::definitions() {
            let api = Api::<CustomResourceDefinition>::all(client.clone());
            api.create(&PostParams::default(), &definition).await.unwrap();
        }
        let kubeconfig = std::env::temp_dir().join(format!("fairlead-{}-{name}", std::process::id()));
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let scene = Self { cluster, client, kubeconfig };
        let end = Instant::now() + Duration::from_secs(30);
        while scene.request(Method::GET, &path("Speaker", ""), Value::Null).await.is_err() {
            assert!(Instant::now() < end, "the API server does not serve the kinds");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        scene
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    async fn request(&self, method: Method, path: &str, body: Value) -> kube::Result<Value> {
        let is_patch = method == Method::PATCH;
        let request = Request::builder().method(method).uri(path);
        let type_ = if is_patch { "application/merge-patch+json" } else { "application/json" };
        let request = request.header("Content-Type", type_);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client.request(request.body(body).unwrap()).await
    }

    /// Creates or changes an object, with its status.
    pub(crate) async fn put(&self, kind: &str, mut object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let status = object.as_object_mut().unwrap().remove("status");
        let path = path(kind, &namespace);
        let one = format!("{path}/{name}");
        if self.request(Method::GET, &one, Value::Null).await.is_ok() {
            self.request(Method::PATCH, &one, object).await.unwrap();
        } else {
            let (group, _) =
                path.strip_prefix("/apis/").unwrap_or_default().split_once('/').unwrap_or_default();
            let version = path.split('/').nth(if group.is_empty() { 2 } else { 3 }).unwrap();
            object["apiVersion"] =
                json!(if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") });
            object["kind"] = json!(kind);
            self.request(Method::POST, &path, object).await.unwrap();
        }
        if let Some(status) = status {
            let patch = json!({ "status": status });
            self.request(Method::PATCH, &format!("{one}/status"), patch).await.unwrap();
        }
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.request(Method::DELETE, &format!("{}/{name}", path(kind, "")), Value::Null).await.unwrap();
    }

    /// Runs the command. Returns the exit status, the standard output and the standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_fairlead"))
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("FAIRLEAD_NAMESPACE")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Creates a healthy cluster: three speakers, one pool, an address by L2, one by BGP, and two routers.
    pub(crate) async fn healthy(&self) {
        for namespace in ["fairlead-system", "shop"] {
            self.put("Namespace", json!({ "metadata": { "name": namespace } })).await;
        }
        for node in ["n1", "n2", "n3"] {
            self.put("Node", json!({ "metadata": { "name": node, "labels": { "rack": node } } })).await;
            self.speaker(node, json!({})).await;
        }
        self.lease("fairlead-controller-7d9f-abcde", 1).await;
        let template = |name: &str| {
            json!({ "metadata": { "labels": { "app": name } },
                    "spec": { "containers": [{ "name": name, "image": "ghcr.io/fairlead/fairlead:v0.1.0" }] } })
        };
        let labels = |name: &str| json!({ "matchLabels": { "app": name } });
        let system = |name: &str| json!({ "name": name, "namespace": "fairlead-system" });
        self.put(
            "Deployment",
            json!({ "metadata": system("fairlead-controller"),
                    "spec": { "replicas": 2, "selector": labels("c"), "template": template("c") },
                    "status": { "replicas": 2, "readyReplicas": 2 } }),
        )
        .await;
        self.put(
            "DaemonSet",
            json!({ "metadata": system("fairlead-speaker"),
                    "spec": { "selector": labels("s"), "template": template("s") },
                    "status": daemonset(3) }),
        )
        .await;
        let accepted = |message: &str| {
            json!({ "conditions": [condition("Accepted", "True", "Accepted", message),
                                   condition("Ready", "True", "Accepted", message)] })
        };
        self.put(
            "IPAddressPool",
            json!({ "metadata": { "name": "lan" }, "spec": { "addresses": ["192.0.2.10-192.0.2.19"] },
                    "status": { "totalIPv4": 10, "assignedIPv4": 1, "availableIPv4": 9, "free": "9", "conditions": [
                        condition("Accepted", "True", "Accepted", ""),
                        condition("Ready", "True", "Accepted", ""),
                        condition("Exhausted", "False", "AddressesAvailable", "") ] } }),
        )
        .await;
        self.put(
            "IPAddressPool",
            json!({ "metadata": { "name": "public" },
                    "spec": { "addresses": ["198.51.100.0/28"], "autoAssign": false },
                    "status": { "totalIPv4": 16, "assignedIPv4": 1, "availableIPv4": 15, "free": "15", "conditions": [
                        condition("Accepted", "True", "Accepted", ""),
                        condition("Ready", "True", "Accepted", ""),
                        condition("Exhausted", "False", "AddressesAvailable", "") ] } }),
        )
        .await;
        self.put(
            "L2Advertisement",
            json!({ "metadata": { "name": "lan" }, "spec": { "ipAddressPools": ["lan"] },
                    "status": accepted("") }),
        )
        .await;
        self.put(
            "BGPAdvertisement",
            json!({ "metadata": { "name": "public" },
                    "spec": { "ipAddressPools": ["public"], "communities": ["64512:100"] },
                    "status": accepted("") }),
        )
        .await;
        for (name, address) in [("tor1", "10.0.0.1"), ("tor2", "10.0.0.2")] {
            self.put(
                "BGPPeer",
                json!({ "metadata": { "name": name },
                        "spec": { "myASN": 64512, "peerASN": 64513, "peerAddress": address },
                        "status": accepted("") }),
            )
            .await;
            self.sessions(name, "3/3").await;
        }
        self.service("web", "192.0.2.10", "lan", announced("192.0.2.10 by n1 (L2)")).await;
        let by = announced("198.51.100.1/32 by 3 nodes to 2 routers");
        self.service("api", "198.51.100.1", "public", by).await;
        for name in ["web", "api"] {
            self.endpoints(name, &["n1", "n2"]).await;
        }
    }

    pub(crate) async fn lease(&self, holder: &str, renewed: i64) {
        let micro = |seconds: i64| {
            let time = Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap();
            format!("{time:.6}")
        };
        self.put(
            "Lease",
            json!({ "metadata": { "name": "fairlead-controller", "namespace": "fairlead-system" },
                    "spec": { "holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 1,
                              "acquireTime": micro(LONG_AGO), "renewTime": micro(renewed) } }),
        )
        .await;
    }

    /// Writes the Speaker object of a node: what `status` contains replaces what a healthy speaker writes.
    pub(crate) async fn speaker(&self, node: &str, status: Value) {
        let mut healthy = json!({
            "ready": true, "version": "0.1.0", "notAnnouncedCount": 0, "notAnnounced": [],
            "sessions": [session("tor1", "10.0.0.1"), session("tor2", "10.0.0.2")],
            "establishedSessions": "2/2",
            "bgp": { "announced": 1, "addresses": ["198.51.100.1"], "complete": true },
            "l2": { "announced": 0, "addresses": [], "complete": true, "interfaces": interfaces(&["IPv4"]) },
            "conditions": [condition("Ready", "True", "Ready", ""),
                           condition("Eligible", "True", "Eligible", "")],
        });
        if node == "n1" {
            healthy["l2"]["announced"] = json!(1);
            healthy["l2"]["addresses"] = json!(["192.0.2.10"]);
        }
        for (key, value) in status.as_object().unwrap() {
            healthy[key] = value.clone();
        }
        self.put("Speaker", json!({ "metadata": { "name": node }, "spec": {}, "status": healthy })).await;
    }

    /// Writes the number of established sessions of a BGPPeer, as the controller does.
    pub(crate) async fn sessions(&self, peer: &str, established: &str) {
        let status = json!({ "establishedSessions": established });
        self.put("BGPPeer", json!({ "metadata": { "name": peer }, "status": status })).await;
    }

    /// Writes a Service with this address (none if it is empty) and these conditions.
    pub(crate) async fn service(&self, name: &str, address: &str, pool: &str, conditions: Value) {
        let mut metadata = json!({ "name": name, "namespace": "shop" });
        let mut status = json!({ "conditions": conditions });
        if !address.is_empty() {
            metadata["annotations"] = json!({ "fairlead.dev/ip-allocated-from-pool": pool });
            status["loadBalancer"] = json!({ "ingress": [{ "ip": address, "ipMode": "VIP" }] });
        }
        let spec = json!({ "type": "LoadBalancer", "selector": { "app": name }, "ports": [{ "port": 80 }] });
        self.put("Service", json!({ "metadata": metadata, "spec": spec, "status": status })).await;
    }

    /// Writes the endpoints of a Service: one on each of these nodes.
    pub(crate) async fn endpoints(&self, service: &str, nodes: &[&str]) {
        let endpoints: Vec<Value> = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| json!({ "addresses": [format!("10.244.0.{}", n + 1)], "nodeName": node }))
            .collect();
        self.put(
            "EndpointSlice",
            json!({ "metadata": { "name": format!("{service}-1"), "namespace": "shop",
                                  "labels": { "kubernetes.io/service-name": service } },
                    "addressType": "IPv4", "endpoints": endpoints, "ports": [] }),
        )
        .await;
    }
}

/// The interface `eth0` with these address families, as a Speaker object lists it.
pub(crate) fn interfaces(families: &[&str]) -> Value {
    json!([{ "name": "eth0", "families": families }])
}

pub(crate) fn daemonset(ready: i64) -> Value {
    json!({ "currentNumberScheduled": 3, "desiredNumberScheduled": 3, "numberMisscheduled": 0,
            "numberReady": ready })
}

/// The conditions of a Service whose addresses are announced.
pub(crate) fn announced(message: &str) -> Value {
    json!([
        condition("fairlead.dev/Allocated", "True", "Allocated", ""),
        condition("fairlead.dev/Covered", "True", "Covered", ""),
        condition("fairlead.dev/Advertised", "True", "Announced", message)
    ])
}

/// The conditions of a Service whose addresses are not announced.
pub(crate) fn silent(reason: &str, message: &str) -> Value {
    json!([
        condition("fairlead.dev/Allocated", "True", "Allocated", ""),
        condition("fairlead.dev/Covered", "True", "Covered", ""),
        condition("fairlead.dev/Advertised", "False", reason, message)
    ])
}

/// The conditions of a Service without an address.
pub(crate) fn refused(reason: &str, message: &str) -> Value {
    json!([condition("fairlead.dev/Allocated", "False", reason, message)])
}

pub(crate) fn session(peer: &str, address: &str) -> Value {
    json!({ "peer": peer, "address": address, "state": "Established", "phase": "Established",
            "stateSince": ago(LONG_AGO), "uptimeSince": ago(LONG_AGO), "prefixes": 1, "flaps": 0,
            "negotiated": { "peerASN": 64513, "peerRouterID": address, "holdTime": "90s", "keepaliveTime": "30s" },
            "families": [{ "family": "IPv4 unicast", "sent": 1, "received": 0, "endOfRIBSent": true,
                           "endOfRIBReceived": true }] })
}

pub(crate) fn down(peer: &str, address: &str) -> Value {
    json!({ "peer": peer, "address": address, "state": "Active", "phase": "Connecting",
            "stateSince": ago(250), "lastError": "connection refused", "lastErrorSince": ago(250),
            "lastErrorCount": 2, "attempts": 2, "prefixes": 0, "flaps": 1 })
}
