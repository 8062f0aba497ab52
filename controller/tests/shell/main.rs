//! The whole controller against an API server: the built-in one, or a real kube-apiserver if
//! `KUBEBUILDER_ASSETS` is set.

#![allow(clippy::unwrap_used, reason = "test helpers may panic")]

mod advertised;
mod cooldowns;
mod faults;
mod hostile;
mod lifecycles;
mod mesh_secret;
mod odd_objects;
mod pools;
mod proxy;
mod replaced;
mod terms;
mod world;

use std::time::Duration;

use fairlead_crds::names;
use fairlead_crds::v1beta1::{IPAddressPool, L2Advertisement};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use world::{NAMESPACE, World, create, eventually, ingress, object, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_gets_address_status_conditions_and_events() {
    let mut world = World::start().await;
    world.start_controller().await;
    world.service("web", json!({})).await;
    eventually("the condition reports that no pool matches", async || {
        reason(&world.read("web").await, names::ALLOCATED) == "False/NoPoolMatches"
    })
    .await;

    world.pool("lan", &["192.0.2.10-192.0.2.11"]).await;
    eventually("the Service has an address", async || ingress(&world.read("web").await) == ["192.0.2.10"])
        .await;
    let service = world.read("web").await;
    assert_eq!(service.annotations()[names::ALLOCATED_FROM_POOL], "lan");
    assert_eq!(reason(&service, names::ALLOCATED), "True/Allocated");
    assert_eq!(reason(&service, names::COVERED), "False/NoAdvertisement");
    let ingress_mode = service.status.unwrap().load_balancer.unwrap().ingress.unwrap()[0].ip_mode.clone();
    assert_eq!(ingress_mode.as_deref(), Some("VIP"));

    let advertisement = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    create::<L2Advertisement>(&Api::all(world.client.clone()), &advertisement).await;
    eventually("the advertisement covers it", async || {
        reason(&world.read("web").await, names::COVERED) == "True/Covered"
    })
    .await;
    let advertisements = Api::<L2Advertisement>::all(world.client.clone());
    eventually("the advertisement is accepted", async || {
        let status = advertisements.get("lan").await.unwrap().status.unwrap_or_default();
        status.conditions.iter().any(|c| c.type_() == "Accepted" && c.status() == "True")
    })
    .await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    eventually("the pool status has counts", async || {
        let status = pools.get("lan").await.unwrap().status.unwrap_or_default();
        (status.assigned_ipv4, status.available_ipv4) == (Some(1), Some(1))
    })
    .await;
    let secrets = Api::<Secret>::namespaced(world.client.clone(), NAMESPACE);
    eventually("the mesh Secret exists", async || {
        let secret = secrets.get_opt("fairlead-mesh").await.unwrap();
        secret.is_some_and(|secret| secret.data.unwrap_or_default()["key"].0.len() == 32)
    })
    .await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    eventually("the events exist", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let reasons: Vec<String> = list.into_iter().filter_map(|event| event.reason).collect();
        reasons.contains(&"Allocated".to_owned()) && reasons.contains(&"NoPoolMatches".to_owned())
    })
    .await;

    world.service("second", json!({ "metallb.io/loadBalancerIPs": "192.0.2.10" })).await;
    eventually("the address is in use", async || {
        reason(&world.read("second").await, names::ALLOCATED) == "False/AddressInUse"
    })
    .await;
    let change = json!({ "spec": { "type": "ClusterIP", "allocateLoadBalancerNodePorts": null } });
    world.services().patch("web", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    eventually("a change of type frees the address", async || {
        ingress(&world.read("second").await) == ["192.0.2.10"]
    })
    .await;
    assert_eq!(ingress(&world.read("web").await), Vec::<String>::new());
    world.services().delete("second", &DeleteParams::default()).await.unwrap();
    eventually("a deletion frees the address", async || {
        pools.get("lan").await.unwrap().status.unwrap_or_default().assigned_ipv4 == Some(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_moves_and_writes_nothing() {
    let mut world = World::start().await;
    world.pool("small", &["192.0.2.1-192.0.2.5"]).await;
    world.start_controller().await;
    for n in 0..8 {
        world.service(&format!("s{n}"), json!({})).await;
    }
    eventually("all addresses are allocated", async || world.addresses().await.len() == 5).await;
    let (addresses, versions) = (world.addresses().await, world.at_rest().await);
    for _ in 0..3 {
        world.stop_controller().await;
        world.start_controller().await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(world.addresses().await, addresses);
        assert_eq!(world.versions().await, versions, "nothing was written");
    }
    world.stop_controller().await;
    let freed = addresses.keys().next().unwrap();
    world.services().delete(freed, &DeleteParams::default()).await.unwrap();
    world.start_controller().await;
    eventually("the address freed during the stop is allocated", async || world.addresses().await.len() == 5)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_edited_into_refusal_keeps_holders() {
    let mut world = World::start().await;
    world.pool("a-older", &["192.0.2.1-192.0.2.5"]).await;
    world.pool("b", &["198.51.100.1-198.51.100.5"]).await;
    world.start_controller().await;
    let wanted = ["192.0.2.1", "198.51.100.1"];
    for (name, ip) in ["one", "two"].iter().zip(wanted) {
        world.service(name, json!({ names::LOAD_BALANCER_IPS: ip })).await;
    }
    eventually("both Services have addresses", async || world.addresses().await.len() == 2).await;
    let addresses = world.addresses().await;

    let pools = Api::<IPAddressPool>::all(world.client.clone());
    let edit = |addresses: &str| Patch::Merge(json!({ "spec": { "addresses": [addresses] } }));
    pools.patch("b", &PatchParams::default(), &edit("192.0.2.0/24")).await.unwrap();
    eventually("the condition of the Service reports the refused pool", async || {
        reason(&world.read("two").await, names::ALLOCATED) == "True/PoolRefused"
    })
    .await;
    eventually("the refused pool counts held addresses", async || {
        let status = pools.get("b").await.unwrap().status.unwrap_or_default();
        (status.assigned_ipv4, status.available_ipv4) == (Some(1), Some(0))
    })
    .await;
    let versions = world.at_rest().await;
    assert_eq!(world.addresses().await, addresses);
    world.stop_controller().await;
    world.start_controller().await;
    assert_eq!(world.at_rest().await, versions, "a restart writes nothing");

    pools.patch("b", &PatchParams::default(), &edit("198.51.100.0/24")).await.unwrap();
    eventually("the pool is accepted again", async || {
        reason(&world.read("two").await, names::ALLOCATED) == "True/Allocated"
    })
    .await;
    assert_eq!(world.addresses().await, addresses);
}
