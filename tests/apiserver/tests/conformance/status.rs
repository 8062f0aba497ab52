//! `/status` of Services, as the controller writes it.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::context::{Context, refused, why};

fn balancer() -> Value {
    json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] })
}

pub(crate) async fn status_merge_patch_writes_annotation_too(context: Context) {
    let service = context.create_service("web", balancer()).await;
    let patch = json!({
        "metadata": {
            "resourceVersion": service.resource_version(),
            "annotations": { "fairlead.dev/ip-allocated-from-pool": "pool" },
        },
        "status": {
            "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] },
            "conditions": [{
                "type": "fairlead.dev/Allocated", "status": "True", "reason": "Allocated",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    });
    let patched = context.merge_status("web", patch).await.unwrap();
    assert_eq!(patched.annotations()["fairlead.dev/ip-allocated-from-pool"], "pool");
    assert_ne!(patched.resource_version(), service.resource_version());
    let read = serde_json::to_value(context.services().get("web").await.unwrap()).unwrap();
    assert_eq!(read["status"]["loadBalancer"]["ingress"], json!([{ "ip": "192.0.2.1", "ipMode": "VIP" }]));
    assert_eq!(read["status"]["conditions"][0]["type"], "fairlead.dev/Allocated");
    assert_eq!(read["metadata"]["annotations"]["fairlead.dev/ip-allocated-from-pool"], "pool");
}

pub(crate) async fn status_update_keeps_spec(context: Context) {
    context.create_service("web", balancer()).await;
    let patch = json!({ "spec": { "sessionAffinity": "ClientIP", "ports": null } });
    context.merge_status("web", patch).await.unwrap();
    let service = context.services().get("web").await.unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.session_affinity.unwrap(), "None");
    assert_eq!(spec.ports.unwrap().len(), 1);
}

pub(crate) async fn object_update_keeps_status(context: Context) {
    context.create_service("web", balancer()).await;
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let patched = serde_json::to_value(context.merge_service("web", status).await.unwrap()).unwrap();
    assert_eq!(patched["status"]["loadBalancer"], json!({}));
}

pub(crate) async fn patch_with_old_resource_version_conflicts(context: Context) {
    let service = context.create_service("web", balancer()).await;
    context.merge_service("web", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    let patch = json!({
        "metadata": { "resourceVersion": service.resource_version() },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    let status = refused(context.merge_status("web", patch).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.is_conflict());
    let details = status.details.unwrap();
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("web", "services"));
}

pub(crate) async fn ingress_requires_address_and_load_balancer(context: Context) {
    context.create_service("web", balancer()).await;
    context.create_service("plain", json!({ "ports": [{ "port": 80 }] })).await;
    let ingress = |ingress: Value| json!({ "status": { "loadBalancer": { "ingress": [ingress] } } });
    for (name, entry) in [
        ("web", json!({ "ip": "not an address" })),
        ("web", json!({ "ip": "192.0.2.1", "ipMode": "Nonsense" })),
        ("web", json!({ "hostname": "example.org", "ipMode": "VIP" })),
        ("plain", json!({ "ip": "192.0.2.1" })),
    ] {
        let refusal = why(context.merge_status(name, ingress(entry.clone())).await);
        assert_eq!(refusal, (422, "Invalid".into()), "{name} {entry}");
    }
    let patched = context.merge_status("web", ingress(json!({ "ip": "192.0.2.1" }))).await.unwrap();
    let patched = serde_json::to_value(patched).unwrap();
    assert_eq!(patched["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
}

pub(crate) async fn strategic_merge_keeps_foreign_conditions(context: Context) {
    context.create_service("web", balancer()).await;
    for sort in ["example.dev/One", "example.dev/Two"] {
        let condition = json!({
            "type": sort, "status": "True", "reason": "Yes", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
        context.services().patch_status("web", &PatchParams::default(), &patch).await.unwrap();
    }
    let status = context.services().get("web").await.unwrap().status.unwrap();
    let mut sorts: Vec<String> = status.conditions.unwrap().into_iter().map(|one| one.type_).collect();
    sorts.sort();
    assert_eq!(sorts, ["example.dev/One", "example.dev/Two"]);
}

pub(crate) async fn unchanged_patch_keeps_resource_version(context: Context) {
    context.create_service("web", balancer()).await;
    let patch = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let first = context.merge_status("web", patch.clone()).await.unwrap();
    let second = context.merge_status("web", patch).await.unwrap();
    assert_eq!(first.resource_version(), second.resource_version());
}
