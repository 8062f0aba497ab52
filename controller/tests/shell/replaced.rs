//! Other programs that replace what the controller writes into pools, claims and objects of BGP and L2.

use std::time::{Duration, Instant};

use fairlead_crds::names::POOL_PROTECTION;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::world::{World, create, eventually, object};

/// Time for which the other programs write.
const DURATION: Duration = Duration::from_secs(8);

fn api_of(world: &World, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("fairlead.dev", "v1beta1", kind));
    match kind {
        "IPClaim" => Api::default_namespaced_with(world.client.clone(), &resource),
        _ => Api::all_with(world.client.clone(), &resource),
    }
}

/// Returns whether a condition of Fairlead has this status.
fn has(object: &DynamicObject, type_: &str, status: &str) -> bool {
    let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == status)
}

/// Replaces the status whenever it has the condition that the controller writes. Returns how often.
async fn replace_status(api: &Api<DynamicObject>, type_: &str) -> u32 {
    let (end, mut replaced) = (Instant::now() + DURATION, 0);
    let parameters = PatchParams { field_manager: Some("other".into()), ..PatchParams::default() };
    while Instant::now() < end {
        if has(&api.get("x").await.unwrap(), type_, "True") {
            replaced += 1;
            let condition = json!({
                "type": type_, "status": "Unknown", "reason": "Other", "message": format!("write {replaced}"),
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let status = json!({ "status": { "conditions": [condition] } });
            api.patch_status("x", &parameters, &Patch::Merge(status)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replaced
}

/// Removes the finalizer whenever the pool has it. Returns how often.
async fn remove_finalizer(api: &Api<DynamicObject>) -> u32 {
    let (end, mut replaced) = (Instant::now() + DURATION, 0);
    while Instant::now() < end {
        let finalizers = api.get("held").await.unwrap().metadata.finalizers.unwrap_or_default();
        if finalizers.iter().any(|name| name == POOL_PROTECTION) {
            replaced += 1;
            let none = json!({ "metadata": { "finalizers": null } });
            api.patch("held", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replaced
}

fn replacements(world: &World, kind: &str) -> u32 {
    let metric = format!("fairlead_controller_status_replacements_total{{kind=\"{kind}\"}} ");
    let metrics = world.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&metric)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_statuses_of_all_kinds_are_rarely_written() {
    let mut world = World::start().await;
    let specs: [(&str, Value); 7] = [
        ("IPAddressPool", json!({ "addresses": ["192.0.2.0/24"] })),
        ("L2Advertisement", json!({})),
        ("BGPAdvertisement", json!({})),
        ("BGPPeer", json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "198.51.100.1" })),
        ("BFDProfile", json!({})),
        ("Community", json!({ "communities": [{ "name": "a", "value": "64512:1" }] })),
        ("IPClaim", json!({ "serviceName": "later", "addresses": ["192.0.2.9"] })),
    ];
    for (kind, spec) in &specs {
        let new = json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": kind, "metadata": { "name": "x" }, "spec": spec,
        });
        create(&api_of(&world, kind), &object(new)).await;
    }
    world.pool("held", &["203.0.113.0/28"]).await;
    world.start_controller().await;
    world.service("holder", json!({ "fairlead.dev/address-pool": "held" })).await;
    let condition = |kind: &str| if kind == "IPClaim" { "Reserved" } else { "Accepted" };
    for (kind, _) in &specs {
        let api = api_of(&world, kind);
        eventually(&format!("{kind} has its condition"), async || {
            has(&api.get("x").await.unwrap(), condition(kind), "True")
        })
        .await;
    }
    let apis: Vec<_> = specs.iter().map(|(kind, _)| (*kind, api_of(&world, kind))).collect();
    let writers = apis.iter().map(|(kind, api)| replace_status(api, condition(kind)));
    let pools = api_of(&world, "IPAddressPool");
    let (statuses, finalizers) = tokio::join!(futures::future::join_all(writers), remove_finalizer(&pools));
    for ((kind, _), replaced) in specs.iter().zip(&statuses) {
        assert!((4..=9).contains(replaced), "{kind}: replaced {replaced} times");
        let counted = replacements(&world, kind);
        // Those of the finalizer count too.
        let range = replaced - 2..=replaced + finalizers;
        assert!(range.contains(&counted), "{kind}: {counted} of {replaced} counted");
    }
    assert!((4..=9).contains(&finalizers), "finalizer: replaced {finalizers} times");
    // Others are served meanwhile, and in the end the statuses are right again.
    world.service("new", json!({ "fairlead.dev/address-pool": "held" })).await;
    eventually("it has an address", async || world.addresses().await.contains_key("new")).await;
    for (kind, api) in &apis {
        eventually(&format!("{kind} has its condition again"), async || {
            has(&api.get("x").await.unwrap(), condition(kind), "True")
        })
        .await;
    }
}
