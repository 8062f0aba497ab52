//! Behavior common to all kinds, and the small kinds.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::context::{Context, eventually, refused, why};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config(name: &str) -> ConfigMap {
    read(json!({ "metadata": { "name": name }, "data": { "a": "1" } }))
}

pub(crate) async fn errors_are_statuses_with_reason(context: Context) {
    let status = refused(context.services().get("missing").await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "services \"missing\" not found");
    let details = status.details.unwrap();
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("missing", "services"));
    assert!(context.services().get_opt("missing").await.unwrap().is_none());

    let path = "/apis/nobody.example.dev/v1/things";
    let status = refused(context.request("GET", path, &[], Value::Null).await);
    assert_eq!(status.code, 404);
}

pub(crate) async fn second_create_is_already_exists(context: Context) {
    let api = context.api::<ConfigMap>();
    api.create(&PostParams::default(), &config("x")).await.unwrap();
    let status = refused(api.create(&PostParams::default(), &config("x")).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(status.message, "configmaps \"x\" already exists");
}

pub(crate) async fn update_of_old_version_conflicts(context: Context) {
    let api = context.api::<ConfigMap>();
    let mut one = api.create(&PostParams::default(), &config("x")).await.unwrap();
    let mut two = one.clone();
    one.data.get_or_insert_default().insert("a".into(), "2".into());
    two.data.get_or_insert_default().insert("a".into(), "3".into());
    let replaced = api.replace("x", &PostParams::default(), &one).await.unwrap();
    assert_ne!(replaced.resource_version(), one.resource_version());
    let status = refused(api.replace("x", &PostParams::default(), &two).await);
    assert!(status.is_conflict());
    assert!(status.message.contains("the object has been modified"), "{}", status.message);
}

pub(crate) async fn names_can_be_generated(context: Context) {
    let api = context.api::<ConfigMap>();
    let object: ConfigMap = read(json!({ "metadata": { "generateName": "x-" } }));
    let one = api.create(&PostParams::default(), &object).await.unwrap();
    let two = api.create(&PostParams::default(), &object).await.unwrap();
    assert!(one.name_any().starts_with("x-") && one.name_any().len() == 7, "{}", one.name_any());
    assert_ne!(one.name_any(), two.name_any());
}

pub(crate) async fn dry_run_changes_nothing(context: Context) {
    let api = context.api::<ConfigMap>();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let seen = api.create(&dry, &config("x")).await.unwrap();
    assert!(seen.metadata.uid.is_some());
    assert!(api.get_opt("x").await.unwrap().is_none());
}

pub(crate) async fn lease_update_succeeds_for_one_of_two(context: Context) {
    let api = context.api::<Lease>();
    let lease = json!({
        "metadata": { "name": "leader" },
        "spec": {
            "holderIdentity": "one", "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T00:00:00.000000Z", "acquireTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": 0,
        },
    });
    let held = api.create(&PostParams::default(), &read(lease)).await.unwrap();
    let (mut one, mut two) = (held.clone(), held);
    one.spec.get_or_insert_default().holder_identity = Some("two".into());
    two.spec.get_or_insert_default().holder_identity = Some("three".into());
    api.replace("leader", &PostParams::default(), &one).await.unwrap();
    assert_eq!(why(api.replace("leader", &PostParams::default(), &two).await), (409, "Conflict".into()));
    assert_eq!(api.get("leader").await.unwrap().spec.unwrap().holder_identity.as_deref(), Some("two"));
    two.metadata.resource_version = None;
    assert_eq!(why(api.replace("leader", &PostParams::default(), &two).await).0, 422);
}

pub(crate) async fn secret_string_data_is_encoded(context: Context) {
    let api = context.api::<Secret>();
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "geheim" } });
    let created = api.create(&PostParams::default(), &read(secret)).await.unwrap();
    assert_eq!(created.type_.as_deref(), Some("Opaque"));
    assert_eq!(created.string_data, None);
    assert_eq!(created.data.unwrap()["password"].0, b"geheim");
    let patch = Patch::Merge(json!({ "type": "kubernetes.io/basic-auth" }));
    assert_eq!(why(api.patch("s", &PatchParams::default(), &patch).await).0, 422);
}

pub(crate) async fn preconditions_hold_or_conflict(context: Context) {
    let api = context.api::<ConfigMap>();
    let created = api.create(&PostParams::default(), &config("x")).await.unwrap();
    let wrong =
        Preconditions { uid: Some("00000000-0000-0000-0000-000000000000".into()), ..Default::default() };
    let params = DeleteParams { preconditions: Some(wrong), ..DeleteParams::default() };
    assert_eq!(why(api.delete("x", &params).await), (409, "Conflict".into()));
    let right = Preconditions { uid: created.metadata.uid, ..Default::default() };
    let params = DeleteParams { preconditions: Some(right), ..DeleteParams::default() };
    api.delete("x", &params).await.unwrap();
    assert!(api.get_opt("x").await.unwrap().is_none());
}

pub(crate) async fn nodes_have_labels_and_status(context: Context) {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = context.unique("node");
    api.create(&PostParams::default(), &read(json!({ "metadata": { "name": name } }))).await.unwrap();
    let label = Patch::Merge(
        json!({ "metadata": { "labels": { "node.kubernetes.io/exclude-from-external-load-balancers": "" } } }),
    );
    let labeled = api.patch(&name, &PatchParams::default(), &label).await.unwrap();
    assert!(labeled.labels().contains_key("node.kubernetes.io/exclude-from-external-load-balancers"));
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    } });
    let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    assert_eq!(patched.status.unwrap().addresses.unwrap()[0].address, "192.0.2.1");
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

pub(crate) async fn endpoint_slices_are_validated(context: Context) {
    let api = context.api::<EndpointSlice>();
    let slice = |family: &str, address: &str| -> EndpointSlice {
        read(json!({
            "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": family,
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true }, "nodeName": "n" }],
            "ports": [{ "port": 80 }],
        }))
    };
    let refusal = why(api.create(&PostParams::default(), &slice("IPv4", "2001:db8::1")).await);
    assert_eq!(refusal, (422, "Invalid".into()));
    let created = api.create(&PostParams::default(), &slice("IPv4", "192.0.2.1")).await.unwrap();
    assert_eq!(created.ports.unwrap()[0].protocol.as_deref(), Some("TCP"));
    assert_eq!(created.metadata.generation, Some(1));
}

pub(crate) async fn service_ranges_are_listed_and_immutable(context: Context) {
    let api: Api<ServiceCIDR> = Api::all(context.client.clone());
    // A kube-apiserver creates it soon after it starts.
    eventually("the ranges of the cluster", || async { api.get_opt("kubernetes").await.unwrap().is_some() })
        .await;
    let own = api.get("kubernetes").await.unwrap().spec.unwrap().cidrs.unwrap();
    let service = context.create_service("web", json!({ "ports": [{ "port": 80 }] })).await;
    let ip: IpAddr = service.spec.unwrap().cluster_ip.unwrap().parse().unwrap();
    assert!(own.iter().any(|cidr| cidr.parse::<IpNet>().unwrap().contains(&ip)), "{ip} is not in {own:?}");

    let name = context.unique("range");
    let range = |cidrs: Value| -> ServiceCIDR {
        read(json!({ "metadata": { "name": name }, "spec": { "cidrs": cidrs } }))
    };
    for cidrs in [
        json!([]),
        json!(["198.18.0.0"]),
        json!(["198.18.0.1/24"]),
        json!(["198.18.0.0/24", "198.18.1.0/24"]),
        json!(["198.18.0.0/24", "2001:db8::/112", "198.18.1.0/24"]),
    ] {
        let refusal = why(api.create(&PostParams::default(), &range(cidrs.clone())).await);
        assert_eq!(refusal, (422, "Invalid".into()), "{cidrs}");
    }
    api.create(&PostParams::default(), &range(json!(["198.18.0.0/24"]))).await.unwrap();
    let change = Patch::Merge(json!({ "spec": { "cidrs": ["198.18.1.0/24"] } }));
    let refusal = why(api.patch(&name, &PatchParams::default(), &change).await);
    assert_eq!(refusal, (422, "Invalid".into()));
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

pub(crate) async fn object_requires_existing_namespace(context: Context) {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), "nowhere-at-all");
    let status = refused(api.create(&PostParams::default(), &config("x")).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "namespaces \"nowhere-at-all\" not found");
}
