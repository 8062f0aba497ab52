//! Addresses in cool-down: where they are recorded, and how often.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fairlead_crds::v1beta1::{IPAddressPool, PoolCooldown};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{World, create, eventually, ingress, object};

/// Creates a pool with a cool-down of an hour.
async fn pool_with_cooldown(world: &World) {
    let pool = json!({
        "metadata": { "name": "lan" },
        "spec": { "addresses": ["192.0.2.10-192.0.2.99"], "reuseAfter": "1h" },
    });
    create::<IPAddressPool>(&Api::all(world.client.clone()), &object(pool)).await;
}

async fn addresses_of(world: &World, service: &str) -> Vec<String> {
    ingress(&world.read(service).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_releases_is_recorded_about_once_a_second() {
    let mut world = World::start().await;
    pool_with_cooldown(&world).await;
    for n in 0..40 {
        world.service(&format!("s{n:02}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("all have an address", async || world.addresses().await.len() == 40).await;
    let (cooldowns, pools) =
        (Api::<PoolCooldown>::all(world.client.clone()), Api::<IPAddressPool>::all(world.client.clone()));
    let (began, mut versions) = (Instant::now(), BTreeSet::new());
    for n in 0..40 {
        world.services().delete(&format!("s{n:02}"), &DeleteParams::default()).await.unwrap();
        versions.extend(cooldowns.get_opt("lan").await.unwrap().and_then(|object| object.resource_version()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("all releases are recorded", async || {
        let object = cooldowns.get_opt("lan").await.unwrap();
        versions.extend(object.as_ref().and_then(|object| object.resource_version()));
        object.is_some_and(|object| object.spec.released.len() == 40)
    })
    .await;
    let limit = began.elapsed().as_secs() as usize + 2;
    assert!(versions.len() <= limit, "{} writes in {:?}", versions.len(), began.elapsed());
    let object = cooldowns.get("lan").await.unwrap();
    assert_eq!(object.owner_references()[0].uid, pools.get("lan").await.unwrap().uid().unwrap());
    let status = serde_json::to_value(pools.get("lan").await.unwrap().status).unwrap();
    assert_eq!(status["recentlyReleased"], Value::Null);

    world.stop_controller().await;
    world.service("s07", json!({})).await;
    world.service("other", json!({})).await;
    world.start_controller().await;
    eventually("both have an address", async || world.addresses().await.len() == 2).await;
    assert_eq!(addresses_of(&world, "s07").await, ["192.0.2.17"], "its last address");
    assert_eq!(addresses_of(&world, "other").await, ["192.0.2.50"], "the others are in cool-down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cooldowns_of_an_earlier_version_are_moved() {
    let mut world = World::start().await;
    pool_with_cooldown(&world).await;
    let released = json!([
        { "address": "192.0.2.10", "service": "default/web", "released": jiff::Timestamp::now().to_string() },
    ]);
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    let status = Patch::Merge(json!({ "status": { "recentlyReleased": released } }));
    pools.patch_status("lan", &PatchParams::default(), &status).await.unwrap();
    create::<Service>(&world.services(), &crate::world::load_balancer("other", json!({}))).await;
    world.start_controller().await;
    let cooldowns = Api::<PoolCooldown>::all(world.client.clone());
    eventually("the address is recorded in the new object", async || {
        let object = cooldowns.get_opt("lan").await.unwrap();
        object.is_some_and(|object| object.spec.released[0].starts_with("192.0.2.10 default/web "))
    })
    .await;
    eventually("the status does not list it", async || {
        let status = pools.get("lan").await.unwrap().status.unwrap_or_default();
        status.recently_released.is_empty() && status.total_ipv4 == Some(90)
    })
    .await;
    assert_eq!(addresses_of(&world, "other").await, ["192.0.2.11"]);
}
