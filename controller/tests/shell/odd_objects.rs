//! Objects of which a part cannot be read: written by other controllers, or under the schema of another
//! version. They stop nothing, and keep what they hold.

use fairlead_crds::manifests;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::world::{World, create, eventually, object};

/// For each kind: a spec that its schema in this version forbids.
const SPECS: &[(&str, &str)] = &[
    ("IPAddressPool", r#"{ "addresses": [7] }"#),
    ("L2Advertisement", r#"{ "interfaces": "eth0" }"#),
    ("BGPAdvertisement", r#"{ "aggregationLength": "long" }"#),
    ("BGPPeer", r#"{ "myASN": -1e30, "peerPort": {} }"#),
    ("BFDProfile", r#"{ "receiveInterval": 1e12 }"#),
    ("Community", r#"{ "communities": [{ "name": null }] }"#),
    ("IPClaim", r#"{ "serviceName": ["a"], "addresses": ["192.0.2.99"] }"#),
];

/// Returns conditions of other controllers as an API server stores them.
fn foreign_conditions() -> Value {
    json!([
        { "type": "example.com/Y", "status": "True", "reason": "", "message": "", "lastTransitionTime": null },
        { "type": "example.com/Z", "status": "Unsure", "reason": "", "message": "",
          "lastTransitionTime": "9999-12-31T23:59:59-12:00" },
    ])
}

/// Returns the CRDs with a schema that accepts everything.
fn permissive_definitions() -> Vec<CustomResourceDefinition> {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let permissive = manifests::definitions().into_iter().map(|definition| {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({ "type": "object", "properties": { "spec": anything, "status": anything } });
        object(definition)
    });
    permissive.collect()
}

fn api_of(world: &World, kind: &str) -> Api<DynamicObject> {
    let (group, version) = if kind == "Service" { ("", "v1") } else { ("fairlead.dev", "v1beta1") };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match kind {
        "IPClaim" | "Service" => Api::default_namespaced_with(world.client.clone(), &resource),
        _ => Api::all_with(world.client.clone(), &resource),
    }
}

/// Creates an odd object of each kind, and a Service with odd conditions that holds an address.
async fn create_odd_objects(world: &World, suffix: &str, held: &str) {
    for (kind, spec) in SPECS {
        let api = api_of(world, kind);
        let name = format!("odd-{suffix}");
        let spec: Value = serde_json::from_str(spec).unwrap();
        let odd = json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        create(&api, &object(odd)).await;
        let status = json!({ "status": {
            "conditions": foreign_conditions(), "recentlyReleased": [7, { "address": "x" }], "assignedIPv4": "many",
        } });
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
    let name = format!("odd-{suffix}");
    world.service(&name, json!({})).await;
    let status = json!({ "status": {
        "conditions": foreign_conditions(), "loadBalancer": { "ingress": [{ "ip": held, "ipMode": "VIP" }] },
    } });
    api_of(world, "Service")
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

/// Returns the status of an object.
async fn status(world: &World, kind: &str, name: &str) -> Value {
    api_of(world, kind).get(name).await.unwrap().data["status"].clone()
}

fn foreign(conditions: &Value) -> Vec<Value> {
    let conditions = conditions.as_array().cloned().unwrap_or_default();
    conditions.into_iter().filter(|c| c["type"].as_str().unwrap().starts_with("example.com/")).collect()
}

/// Waits until the odd objects are handled: the Service has an address and conditions, and each object of our
/// kinds says what cannot be read. Foreign conditions are as they were written.
async fn check_odd_objects(world: &World, suffix: &str, before: &[Value]) {
    let name = format!("odd-{suffix}");
    for (kind, _) in SPECS {
        eventually(&format!("{kind} {name} has a condition"), async || {
            let conditions = status(world, kind, &name).await["conditions"].clone();
            assert_eq!(foreign(&conditions), foreign_conditions().as_array().unwrap()[..], "{kind}");
            conditions.as_array().unwrap().iter().any(|condition| {
                let message = condition["message"].as_str().unwrap();
                condition["status"] == "False" && message.contains("the spec cannot be read: spec.")
            })
        })
        .await;
    }
    let service = status(world, "Service", &name).await;
    assert_eq!(foreign(&service["conditions"]), before);
}

/// Returns the addresses of all Services that have some, as `name=address`.
async fn addresses(world: &World) -> Vec<String> {
    let services = api_of(world, "Service").list(&ListParams::default()).await.unwrap().into_iter();
    let held = services.filter_map(|service| {
        let ip = service.data["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?;
        Some(format!("{}={ip}", service.name_any()))
    });
    held.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_objects_stop_nothing_and_keep_their_addresses() {
    let mut world = World::start_with(permissive_definitions()).await;
    world.pool("lan", &["192.0.2.1-192.0.2.20"]).await;
    create_odd_objects(&world, "list", "192.0.2.11").await;
    let before = foreign(&status(&world, "Service", "odd-list").await["conditions"]);
    assert_eq!(before.len(), 2);
    world.service("good-list", json!({})).await;
    world.start_controller().await;
    let has = async |world: &World, wanted: &str| addresses(world).await.contains(&wanted.to_owned());
    eventually("listed: another Service has an address", async || has(&world, "good-list=192.0.2.1").await)
        .await;
    check_odd_objects(&world, "list", &before).await;

    create_odd_objects(&world, "watch", "192.0.2.12").await;
    world.service("good-watch", json!({})).await;
    eventually("watched: another Service has an address", async || has(&world, "good-watch=192.0.2.2").await)
        .await;
    check_odd_objects(&world, "watch", &before).await;

    if let Some(server) = world.cluster.as_built_in() {
        server.faults().expire_watches();
        create_odd_objects(&world, "relist", "192.0.2.13").await;
        world.service("good-relist", json!({})).await;
        eventually("listed again: another Service has an address", async || {
            has(&world, "good-relist=192.0.2.3").await
        })
        .await;
        check_odd_objects(&world, "relist", &before).await;
    }
    let held = addresses(&world).await;
    assert!(has(&world, "odd-list=192.0.2.11").await, "{held:?}");
    let metrics = world.metrics();
    for (kind, _) in SPECS {
        let metric = format!("fairlead_controller_unreadable_objects{{kind=\"{kind}\"}} ");
        let number = metrics.lines().find_map(|line| line.strip_prefix(&metric));
        assert!(number.is_some_and(|number| number.parse::<u32>().unwrap() >= 2), "{kind}: {metrics}");
    }
    world.stop_controller().await;
    world.start_controller().await;
    world.at_rest().await;
    assert_eq!(addresses(&world).await, held, "a restart moves nothing");

    // The deletion of an odd object is seen.
    api_of(&world, "Service").delete("odd-list", &DeleteParams::default()).await.unwrap();
    world.service("next", json!({ "fairlead.dev/load-balancer-ips": "192.0.2.11" })).await;
    eventually("the address of the deleted Service is free", async || has(&world, "next=192.0.2.11").await)
        .await;
    let pools = api_of(&world, "IPAddressPool");
    pools.delete("odd-watch", &DeleteParams::default()).await.unwrap();
    eventually("the deleted pool is gone", async || {
        let pools = pools.list(&ListParams::default()).await.unwrap();
        pools.into_iter().all(|pool| pool.name_any() != "odd-watch")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_addresses_without_kinds_of_advertisements() {
    let needed = ["ipaddresspools", "ipclaims"];
    let (needed, others): (Vec<_>, Vec<_>) = manifests::definitions()
        .into_iter()
        .partition(|definition| needed.contains(&definition.spec.names.plural.as_str()));
    let mut world = World::start_with(needed).await;
    world.pool("lan", &["192.0.2.1-192.0.2.20"]).await;
    world.service("web", json!({})).await;
    world.start_controller().await;
    eventually("the Service has an address", async || addresses(&world).await == ["web=192.0.2.1"]).await;
    let note = world.note();
    for kind in ["communities", "bgppeers", "l2advertisements"] {
        assert!(note.contains(&format!("{kind}.fairlead.dev")), "{note}");
    }
    assert!(note.contains("kubectl apply "), "{note}");
    for definition in others {
        create::<CustomResourceDefinition>(&Api::all(world.client.clone()), &definition).await;
    }
    eventually("no kind is missing", async || world.note().is_empty()).await;
    assert_eq!(addresses(&world).await, ["web=192.0.2.1"]);
}
