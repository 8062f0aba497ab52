//! Pools, and the Services that wait for their addresses.

use fairlead_crds::names;
use fairlead_crds::v1beta1::L2Advertisement;
use kube::api::Api;
use serde_json::json;

use crate::world::{World, create, eventually, object, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_pools_write_only_the_services_they_serve() {
    let mut world = World::start().await;
    let advertisement = object(json!({ "metadata": { "name": "all" }, "spec": {} }));
    create::<L2Advertisement>(&Api::all(world.client.clone()), &advertisement).await;
    for n in 10..18 {
        world.pool(&format!("full-{n}"), &[&format!("192.0.2.{n}/32")]).await;
    }
    for n in 0..40 {
        world.service(&format!("s{n:02}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("all pools are full", async || world.addresses().await.len() == 8).await;
    eventually("the last Service waits", async || {
        reason(&world.read("s39").await, names::ALLOCATED) == "False/PoolExhausted"
    })
    .await;
    let before = world.at_rest().await;
    for n in 20..25 {
        world.pool(&format!("new-{n}"), &[&format!("192.0.2.{n}/32")]).await;
    }
    eventually("all pools are full", async || world.addresses().await.len() == 13).await;
    let after = world.at_rest().await;
    let written = |kind: &str| {
        after
            .iter()
            .filter(|(name, version)| name.starts_with(kind) && before.get(*name) != Some(version))
            .count()
    };
    assert_eq!((written("Service/"), written("Event/")), (5, 5));
}
