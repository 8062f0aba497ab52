//! Objects of which a part cannot be read: written by other controllers, or under the schema of another
//! version. They stop nothing, and keep what they hold.

use fairlead_crds::manifests;
use fairlead_test_support::odd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::world::{World, create, eventually, object};

/// Kinds that the controller lists at the start of a term and does not watch.
const NOT_WATCHED: [&str; 2] = ["Speaker", "PoolCooldown"];

fn api_of(world: &World, kind: &str) -> Api<DynamicObject> {
    let (group, version) = match kind {
        "Service" | "Node" | "Namespace" => ("", "v1"),
        "ServiceCIDR" => ("networking.k8s.io", "v1"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1"),
        _ => ("fairlead.dev", "v1beta1"),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match kind {
        "IPClaim" | "Service" => Api::default_namespaced_with(world.client.clone(), &resource),
        _ => Api::all_with(world.client.clone(), &resource),
    }
}

/// Creates an object, and sets its status unless that is null.
async fn create_with_status(world: &World, kind: &str, mut body: Value, status: &Value) {
    let api = api_of(world, kind);
    let resource = api.resource_url().to_owned();
    let version = if resource.starts_with("/api/") { "v1".to_owned() } else { group_version(&resource) };
    (body["apiVersion"], body["kind"]) = (version.into(), kind.into());
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    create(&api, &object(body)).await;
    if !status.is_null() {
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Returns `GROUP/VERSION` of a path such as `/apis/GROUP/VERSION/nodes`.
fn group_version(path: &str) -> String {
    path.split('/').skip(2).take(2).collect::<Vec<_>>().join("/")
}

/// Creates odd objects of each kind, a Service with odd conditions that holds `192.0.2.1N`, an odd Node with
/// the address `192.0.2.3N`, and a Service in an odd Namespace.
async fn create_odd_objects(world: &World, suffix: &str, n: u8) -> Vec<odd::Odd> {
    // The condition of a definition is added to those of the API server.
    let definitions = api_of(world, "CustomResourceDefinition");
    let pools = "ipaddresspools.fairlead.dev";
    let mut conditions = definitions.get(pools).await.unwrap().data["status"]["conditions"].clone();
    conditions.as_array_mut().unwrap().retain(|condition| !is_foreign(condition));
    // kube-apiserver cannot read the other times again, so it could no longer serve the kind.
    let mut odd = odd::conditions();
    odd.as_array_mut().unwrap().retain(|condition| {
        let time = condition["lastTransitionTime"].as_str();
        time.is_none_or(|time| time.starts_with("2026"))
    });
    conditions.as_array_mut().unwrap().append(odd.as_array_mut().unwrap());
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    definitions.patch_status(pools, &PatchParams::default(), &patch).await.unwrap();

    let name = format!("odd-{suffix}");
    let node = json!({ "metadata": { "name": name, "labels": null, "annotations": null }, "spec": null });
    let address = json!({ "type": "InternalIP", "address": format!("192.0.2.3{n}") });
    let status = json!({ "conditions": odd::conditions(), "addresses": [address] });
    create_with_status(world, "Node", node, &status).await;
    let namespace = json!({ "metadata": { "name": name, "labels": { "team": "odd" } } });
    create_with_status(world, "Namespace", namespace, &json!({ "conditions": odd::conditions() })).await;
    let range = json!({ "metadata": { "name": name }, "spec": { "cidrs": [format!("10.20{n}.0.0/24")] } });
    create_with_status(world, "ServiceCIDR", range, &json!({ "conditions": odd::conditions() })).await;

    let objects = odd::objects(suffix, 50 * (n - 1), |_| true);
    for odd in &objects {
        let body = json!({ "metadata": { "name": odd.name }, "spec": odd.spec });
        // PoolCooldowns have no status.
        let status = if odd.kind == "PoolCooldown" { &Value::Null } else { &odd.status };
        create_with_status(world, odd.kind, body, status).await;
    }
    world.service(&name, json!({})).await;
    let status = json!({ "status": {
        "conditions": odd::conditions(),
        "loadBalancer": { "ingress": [{ "ip": format!("192.0.2.1{n}"), "ipMode": "VIP" }] },
    } });
    api_of(world, "Service")
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let annotations = json!({ "fairlead.dev/address-pool": "team" });
    let services = Api::namespaced(world.client.clone(), &name);
    create(&services, &crate::world::load_balancer("web", annotations)).await;
    world.service(&format!("good-{suffix}"), json!({})).await;
    objects
}

/// Returns the status of an object.
async fn status(world: &World, kind: &str, name: &str) -> Value {
    api_of(world, kind).get(name).await.unwrap().data["status"].clone()
}

fn is_foreign(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|type_| type_.starts_with("example.com/"))
}

/// Returns the conditions of other controllers. kube-apiserver leaves out a time of null from a merge patch.
fn foreign(conditions: &Value) -> Vec<Value> {
    let mut conditions = conditions.as_array().cloned().unwrap_or_default();
    conditions.retain(is_foreign);
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        condition.retain(|_, value| !value.is_null());
    }
    conditions
}

/// Waits until the odd objects are handled: the Services have addresses, and each object of our kinds has a
/// condition, which names the unreadable part of its spec if there is one. Foreign conditions are unchanged.
async fn check_odd_objects(world: &World, suffix: &str, n: u8, odd: &[odd::Odd]) {
    for odd in odd.iter().filter(|odd| !NOT_WATCHED.contains(&odd.kind)) {
        let (kind, name) = (odd.kind, &odd.name);
        eventually(&format!("{kind} {name} has a condition"), async || {
            let conditions = status(world, kind, name).await["conditions"].clone();
            assert_eq!(foreign(&conditions), foreign(&odd.status["conditions"]), "{kind} {name}");
            conditions.as_array().into_iter().flatten().filter(|condition| !is_foreign(condition)).any(
                |condition| {
                    let message = condition["message"].as_str().unwrap_or_default();
                    let is_unreadable = message.contains("the spec cannot be read: spec.");
                    condition["status"].is_string() && is_unreadable != odd.has_readable_spec
                },
            )
        })
        .await;
    }
    let conditions = status(world, "Service", &format!("odd-{suffix}")).await["conditions"].clone();
    assert_eq!(foreign(&conditions).len(), odd::conditions().as_array().unwrap().len());
    eventually("the pool shows the address of the odd Node", async || {
        let conditions = status(world, "IPAddressPool", "lan").await["conditions"].to_string();
        conditions.contains(&format!("192.0.2.3{n} of Node odd-{suffix}"))
    })
    .await;
    let request = json!({ "fairlead.dev/load-balancer-ips": format!("192.0.2.3{n}") });
    world.service(&format!("node-{suffix}"), request).await;
    eventually("the address of the odd Node is refused", async || {
        let status = status(world, "Service", &format!("node-{suffix}")).await;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["status"] == "False" && message.contains(&format!("odd-{suffix}"))
        })
    })
    .await;
    let services = Api::<k8s_openapi::api::core::v1::Service>::namespaced(
        world.client.clone(),
        &format!("odd-{suffix}"),
    );
    eventually("the Service in the odd Namespace has an address of the pool for its label", async || {
        let service = services.get("web").await.unwrap();
        crate::world::ingress(&service) == [format!("198.51.100.{n}")]
    })
    .await;
}

/// Returns the addresses of all Services in the namespace `default` that have some, as `name=address`.
async fn addresses(world: &World) -> Vec<String> {
    let services = api_of(world, "Service").list(&ListParams::default()).await.unwrap().into_iter();
    let held = services.filter_map(|service| {
        let ip = service.data["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?;
        Some(format!("{}={ip}", service.name_any()))
    });
    held.collect()
}

/// Returns the number of unreadable objects of a kind by the metrics.
fn unreadable(world: &World, kind: &str) -> u32 {
    let metric = format!("fairlead_controller_unreadable_objects{{kind=\"{kind}\"}} ");
    let metrics = world.metrics();
    let number = metrics.lines().find_map(|line| line.strip_prefix(&metric));
    number.map_or(0, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_objects_stop_nothing_and_keep_their_addresses() {
    let mut world = World::start_with(odd::permissive_definitions()).await;
    world.pool("lan", &["192.0.2.1-192.0.2.40"]).await;
    let team = json!({
        "metadata": { "name": "team" },
        "spec": { "addresses": ["198.51.100.0/24"], "avoidBuggyIPs": true, "autoAssign": false,
                  "serviceAllocation": { "namespaceSelectors": [{ "matchLabels": { "team": "odd" } }] } },
    });
    create_with_status(&world, "IPAddressPool", team, &Value::Null).await;
    let odd = create_odd_objects(&world, "list", 1).await;
    world.start_controller().await;
    let has = async |world: &World, wanted: &str| addresses(world).await.contains(&wanted.to_owned());
    eventually("listed: another Service has an address", async || has(&world, "good-list=192.0.2.1").await)
        .await;
    check_odd_objects(&world, "list", 1, &odd).await;

    let odd = create_odd_objects(&world, "watch", 2).await;
    eventually("watched: another Service has an address", async || has(&world, "good-watch=192.0.2.2").await)
        .await;
    check_odd_objects(&world, "watch", 2, &odd).await;

    let mut suffixes = vec!["list", "watch"];
    if let Some(server) = world.cluster.as_built_in() {
        server.faults().expire_watches();
        let odd = create_odd_objects(&world, "relist", 3).await;
        eventually("listed again: another Service has an address", async || {
            has(&world, "good-relist=192.0.2.3").await
        })
        .await;
        check_odd_objects(&world, "relist", 3, &odd).await;
        suffixes.push("relist");
    }
    let held = addresses(&world).await;
    assert!(has(&world, "odd-list=192.0.2.11").await, "{held:?}");
    for kind in odd::kinds().filter(|kind| !NOT_WATCHED.contains(kind)) {
        assert!(unreadable(&world, kind) >= 6, "{kind}: {}", world.metrics());
    }
    world.stop_controller().await;
    world.start_controller().await;
    world.at_rest().await;
    assert_eq!(addresses(&world).await, held, "a restart moves nothing");

    // The deletions of odd objects are seen.
    api_of(&world, "Service").delete("odd-list", &DeleteParams::default()).await.unwrap();
    world.service("next", json!({ "fairlead.dev/load-balancer-ips": "192.0.2.11" })).await;
    eventually("the address of the deleted Service is free", async || has(&world, "next=192.0.2.11").await)
        .await;
    for (suffix, n) in suffixes.iter().zip(1..) {
        api_of(&world, "Node").delete(&format!("odd-{suffix}"), &DeleteParams::default()).await.unwrap();
        eventually("the address of the deleted Node is given", async || {
            has(&world, &format!("node-{suffix}=192.0.2.3{n}")).await
        })
        .await;
    }
    for kind in odd::kinds() {
        let api = api_of(&world, kind);
        for object in api.list(&ListParams::default()).await.unwrap() {
            if object.name_any().starts_with("odd-") {
                api.delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
            }
        }
        eventually(&format!("no odd {kind} is left"), async || {
            let left = api.list(&ListParams::default()).await.unwrap();
            left.into_iter().all(|object| !object.name_any().starts_with("odd-"))
                && unreadable(&world, kind) == 0
        })
        .await;
    }
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
