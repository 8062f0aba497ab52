//! The accounts of `config/rbac` with tokens as the kubelet mounts them, against a kube-apiserver that
//! enforces RBAC and the admission policies. Skipped with the built-in server, which enforces neither: the
//! tests of `tests/e2e` evaluate the same rules and expressions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Request;
use fairlead_apiserver::{Access, Cluster};
use fairlead_crds::stopped_speaker;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

const NAMESPACE: &str = "fairlead-system";
/// Longest time until a new policy or role is in force. kube-apiserver learns them by watches.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(30);

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let content_type = if method == "PATCH" { "application/apply-patch+yaml" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    client.request(request.body(body).unwrap()).await.map_err(|error| error.to_string())
}

/// Applies an object at a path without its name.
async fn apply(client: &Client, path: &str, object: &Value) -> Result<Value, String> {
    let path =
        format!("{path}/{}?fieldManager=test&force=true", object["metadata"]["name"].as_str().unwrap());
    send(client, "PATCH", &path, object).await
}

/// Applies the manifests of a folder of `config`. `path` returns the path of a kind.
async fn apply_folder(client: &Client, folder: &str, path: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(folder);
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object: Value = serde::Deserialize::deserialize(document).unwrap();
            let kind = object["kind"].as_str().unwrap_or("Kustomization");
            if kind != "Kustomization" {
                apply(client, &path(kind), &object).await.unwrap();
            }
        }
    }
}

fn path_of(kind: &str) -> String {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let admission = "/apis/admissionregistration.k8s.io/v1";
    match kind {
        "CustomResourceDefinition" => "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(),
        "ServiceAccount" => format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
        "Secret" => format!("/api/v1/namespaces/{NAMESPACE}/secrets"),
        "Role" => format!("{rbac}/namespaces/{NAMESPACE}/roles"),
        "RoleBinding" => format!("{rbac}/namespaces/{NAMESPACE}/rolebindings"),
        "ClusterRole" => format!("{rbac}/clusterroles"),
        "ClusterRoleBinding" => format!("{rbac}/clusterrolebindings"),
        "ValidatingAdmissionPolicy" => format!("{admission}/validatingadmissionpolicies"),
        "ValidatingAdmissionPolicyBinding" => format!("{admission}/validatingadmissionpolicybindings"),
        "Speaker" => "/apis/fairlead.dev/v1beta1/speakers".to_owned(),
        _ => panic!("add the path of {kind}"),
    }
}

/// Creates a pod of an account on a node.
async fn create_pod(admin: &Client, account: &str, node: &str) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("{account}-{node}") },
        "spec": { "nodeName": node, "serviceAccountName": account,
                  "containers": [{ "name": "a", "image": "a" }] },
    });
    send(admin, "POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods"), &pod).await.unwrap()
}

/// Returns a client with a token of an account, bound to a pod as those that the kubelet mounts.
async fn client_of(access: &Access, admin: &Client, account: &str, pod: Option<&Value>) -> Client {
    let bound = pod.map(|pod| {
        json!({ "apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"],
                "uid": pod["metadata"]["uid"] })
    });
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound },
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
    let token = send(admin, "POST", &path, &request).await.unwrap()["status"]["token"].clone();
    let access = Access { token: Some(token.as_str().unwrap().to_owned()), ..access.clone() };
    access.client().await.unwrap()
}

fn speaker(name: &str, class: Option<&str>) -> Value {
    let spec = class.map_or(json!({}), |class| json!({ "loadBalancerClass": class }));
    json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": name }, "spec": spec })
}

fn secret(name: &str, type_: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": type_, "data": { "key": "c2VjcmV0" },
        "metadata": { "name": name,
                      "annotations": { "kubernetes.io/service-account.name": "fairlead-speaker" } },
    })
}

/// Waits until a request has the expected result.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> Result<(), String>) {
    let end = Instant::now() + EFFECTIVE_WITHIN;
    while let Err(seen) = holds().await {
        assert!(Instant::now() < end, "not within {EFFECTIVE_WITHIN:?}: {what}: {seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asserts that a request was refused with this text.
#[track_caller]
fn assert_refused(result: Result<Value, String>, text: &str) {
    let error = result.expect_err("the request was granted");
    assert!(error.contains(text), "{error}");
}

#[tokio::test]
async fn token_of_a_speaker_writes_only_the_object_of_its_node() {
    let cluster = Cluster::start().await.unwrap();
    if cluster.as_built_in().is_some() {
        eprintln!("skipped: the built-in API server enforces no RBAC and no policies");
        return;
    }
    let (access, admin) = (cluster.access(), cluster.client().await.unwrap());
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    apply(&admin, "/api/v1/namespaces", &namespace).await.unwrap();
    apply_folder(&admin, "crd", path_of).await;
    apply_folder(&admin, "rbac", path_of).await;
    let speakers = path_of("Speaker");
    eventually("Speakers are served", async || {
        apply(&admin, &speakers, &speaker("n2", None)).await.map(drop)
    })
    .await;
    for name in ["n1", "n2"] {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        apply(&admin, "/api/v1/nodes", &node).await.unwrap();
    }
    let pod = create_pod(&admin, "fairlead-speaker", "n1").await;
    let n1 = client_of(access, &admin, "fairlead-speaker", Some(&pod)).await;
    const REFUSED: &str = "a speaker can only write the Speaker object of its own node";
    eventually("the role and the policy are in force", async || {
        match apply(&n1, &speakers, &speaker("n2", None)).await {
            Err(error) if error.contains(REFUSED) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let status = |name: &str| {
        let mut object = speaker(name, None);
        object["status"] = json!({ "ready": true });
        object
    };
    let apply_status = async |client: &Client, name: &str| {
        let path = format!("{speakers}/{name}/status?fieldManager=test&force=true");
        send(client, "PATCH", &path, &status(name)).await
    };
    apply(&n1, &speakers, &speaker("n1", None)).await.unwrap();
    apply_status(&n1, "n1").await.unwrap();
    apply(&n1, &speakers, &speaker("n1.fairlead-system", Some("example.org/x"))).await.unwrap();
    assert_refused(apply_status(&n1, "n2").await, REFUSED);
    assert_refused(apply(&n1, &speakers, &speaker("n2.fairlead-system", Some("a.org/x"))).await, REFUSED);
    assert_refused(apply(&n1, &speakers, &speaker("n3", None)).await, REFUSED);
    // Of another node, a speaker writes only that its speaker does not respond.
    let path = format!("{speakers}/n2/status?fieldManager=fairlead-speaker&force=true");
    let running = json!({
        "ready": true, "version": "1.2.3", "notAnnouncedCount": 1,
        "sessions": [{ "peer": "tor", "address": "192.0.2.1", "state": "Established", "prefixes": 1 }],
        "establishedSessions": "1/1",
        "l2": { "announced": 1, "addresses": ["192.0.2.200"], "complete": true },
        "bgp": { "announced": 1, "addresses": ["192.0.2.200"], "complete": true },
        "conditions": [
            { "type": "Eligible", "status": "True", "reason": "Eligible", "message": "",
              "lastTransitionTime": "2026-01-01T00:00:00Z" },
            { "type": "Ready", "status": "True", "reason": "Running", "message": "",
              "lastTransitionTime": "2026-01-01T00:00:00Z" },
        ],
    });
    let mut object = speaker("n2", None);
    object["status"] = running;
    let read = send(&admin, "PATCH", &path, &object).await.unwrap();
    let report = stopped_speaker::report(&serde_json::from_value(read).unwrap(), Timestamp::now()).unwrap();
    let mut forged = report.clone();
    forged["status"]["l2"]["announced"] = json!(1);
    assert_refused(send(&n1, "PATCH", &path, &forged).await, REFUSED);
    send(&n1, "PATCH", &path, &report).await.unwrap();
    forged["metadata"]["resourceVersion"] = Value::Null;
    forged["status"] = object["status"].clone();
    assert_refused(send(&n1, "PATCH", &path, &forged).await, REFUSED);
    let forbidden = "is forbidden";
    assert_refused(send(&n1, "DELETE", &format!("{speakers}/n1"), &Value::Null).await, forbidden);
    // A token that is bound to no pod names no node.
    let unbound = client_of(access, &admin, "fairlead-speaker", None).await;
    assert_refused(apply(&unbound, &speakers, &speaker("n1", None)).await, REFUSED);

    let secrets = path_of("Secret");
    send(&n1, "GET", &format!("{secrets}/fairlead-mesh"), &Value::Null).await.unwrap();
    for (method, path) in [
        ("GET", secrets.clone()),
        ("GET", format!("{secrets}/other")),
        ("GET", "/api/v1/secrets".to_owned()),
        ("DELETE", format!("{secrets}/fairlead-mesh")),
        ("GET", "/api/v1/pods".to_owned()),
    ] {
        assert_refused(send(&n1, method, &path, &Value::Null).await, forbidden);
    }
    assert_refused(apply(&n1, &secrets, &secret("fairlead-mesh", "Opaque")).await, forbidden);
    // Speakers cannot request a token of another account.
    let token = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/fairlead-controller/token");
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    assert_refused(send(&n1, "POST", &token, &request).await, forbidden);

    let pod = create_pod(&admin, "fairlead-controller", "n1").await;
    let controller = client_of(access, &admin, "fairlead-controller", Some(&pod)).await;
    apply(&controller, &secrets, &secret("fairlead-mesh", "Opaque")).await.unwrap();
    send(&admin, "DELETE", &format!("{secrets}/fairlead-mesh"), &Value::Null).await.unwrap();
    let of_account = secret("fairlead-mesh", "kubernetes.io/service-account-token");
    eventually("the policy for Secrets is in force", async || {
        match apply(&controller, &secrets, &of_account).await {
            Err(error) if error.contains("only write the Secret fairlead-mesh of type Opaque") => Ok(()),
            other => {
                let _ = send(&admin, "DELETE", &format!("{secrets}/fairlead-mesh"), &Value::Null).await;
                Err(format!("{other:?}"))
            }
        }
    })
    .await;
    apply(&controller, &secrets, &secret("fairlead-mesh", "Opaque")).await.unwrap();
    assert_refused(apply(&controller, &secrets, &secret("other", "Opaque")).await, forbidden);
    assert_refused(send(&controller, "POST", &secrets, &secret("other", "Opaque")).await, forbidden);
    assert_refused(apply(&controller, &speakers, &speaker("n1", None)).await, forbidden);
    assert_refused(send(&controller, "POST", &token, &request).await, forbidden);
}
