//! Patches other than server-side apply.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::context::{Context, dynamic, why};

async fn create(context: &Context) {
    let object =
        json!({ "metadata": { "name": "x", "labels": { "a": "b" } }, "data": { "k": "v", "l": "w" } });
    let object: ConfigMap = serde_json::from_value(object).unwrap();
    context.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap();
}

pub(crate) async fn merge_patch_null_removes_field(context: Context) {
    create(&context).await;
    let patch =
        Patch::Merge(json!({ "metadata": { "labels": { "a": null } }, "data": { "k": null, "n": "1" } }));
    let patched = context.api::<ConfigMap>().patch("x", &PatchParams::default(), &patch).await.unwrap();
    assert!(patched.labels().is_empty());
    assert_eq!(json!(patched.data), json!({ "l": "w", "n": "1" }));
}

/// A raw request, because this project does not enable kube's JSON patch feature.
async fn json_patch(context: &Context, patch: Value) -> Result<Value, kube::Error> {
    let path = format!("/api/v1/namespaces/{}/configmaps/x", context.namespace);
    context.request("PATCH", &path, &[("content-type", "application/json-patch+json")], patch).await
}

pub(crate) async fn json_patch_tests_before_writing(context: Context) {
    create(&context).await;
    let good = json!([
        { "op": "test", "path": "/data/k", "value": "v" },
        { "op": "replace", "path": "/data/k", "value": "2" },
        { "op": "remove", "path": "/data/l" },
    ]);
    let patched = json_patch(&context, good.clone()).await.unwrap();
    assert_eq!(patched["data"], json!({ "k": "2" }));
    assert_eq!(why(json_patch(&context, good).await).0, 422);
    let read = context.api::<ConfigMap>().get("x").await.unwrap();
    assert_eq!(json!(read.data), json!({ "k": "2" }));
}

pub(crate) async fn strategic_merge_patch_merges_ports_by_number(context: Context) {
    let ports = json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 443 }]);
    let created = context.create_service("web", json!({ "type": "NodePort", "ports": ports })).await;
    let patch = Patch::Strategic(json!({ "spec": { "ports": [{ "port": 443, "targetPort": 8443 }] } }));
    let patched = context.services().patch("web", &PatchParams::default(), &patch).await.unwrap();
    let find = |service: &k8s_openapi::api::core::v1::Service, number: i32| {
        let ports = service.spec.clone().unwrap().ports.unwrap();
        assert_eq!(ports.len(), 2);
        serde_json::to_value(ports.into_iter().find(|port| port.port == number).unwrap()).unwrap()
    };
    assert_eq!(find(&patched, 443)["targetPort"], 8443);
    assert_eq!(find(&patched, 443)["name"], "b");
    assert_eq!(find(&patched, 443)["nodePort"], find(&created, 443)["nodePort"]);
    assert_eq!(find(&patched, 80), find(&created, 80));
}

pub(crate) async fn strategic_merge_patch_of_custom_resource_is_rejected(context: Context) {
    let api = context.define(context.thing(json!({ "type": "object" }), json!({}))).await;
    api.create(&PostParams::default(), &dynamic(&api, "x", json!({}))).await.unwrap();
    let patch = Patch::Strategic(json!({ "metadata": { "labels": { "a": "b" } } }));
    assert_eq!(why(api.patch("x", &PatchParams::default(), &patch).await).0, 415);
}
