//! Pools, and the Services that wait for their addresses.

use fairlead_crds::names;
use fairlead_crds::v1beta1::{IPAddressPool, L2Advertisement};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, DeleteParams};
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
    // Each new pool is exhausted.
    assert_eq!((written("Service/"), written("Event/")), (5, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_that_overlaps_a_service_range_has_a_warning() {
    let mut world = World::start().await;
    let cidrs = Api::<ServiceCIDR>::all(world.client.clone());
    let ranges = |name: &str, ranges: &[&str]| -> ServiceCIDR {
        object(json!({ "metadata": { "name": name }, "spec": { "cidrs": ranges } }))
    };
    create(&cidrs, &ranges("listed", &["203.0.113.0/28", "fd00:113::/112"])).await;
    world.pool("listed", &["203.0.113.8-203.0.113.20"]).await;
    world.pool("watched", &["198.51.100.0/30"]).await;
    world.start_controller().await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    let shows = async |pool: &str, wanted: &str| {
        let pool = serde_json::to_value(pools.get(pool).await.unwrap()).unwrap();
        let accepted = &pool["status"]["conditions"][0];
        let text = |field: &str| accepted[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}: {}", text("status"), text("reason"), text("message")).starts_with(wanted)
    };
    let overlaps = "True/ServiceRange: 203.0.113.8-203.0.113.20 overlaps the Service range \
                    203.0.113.0-203.0.113.15 of ServiceCIDR listed";
    eventually("the warning of a listed ServiceCIDR", async || shows("listed", overlaps).await).await;
    eventually("another pool without a warning", async || shows("watched", "True/Accepted: ").await).await;
    create(&cidrs, &ranges("watched", &["198.51.100.2/31"])).await;
    let warned = async || shows("watched", "True/ServiceRange: 198.51.100.0-198.51.100.3").await;
    eventually("the warning of a new ServiceCIDR", warned).await;
    // An address in the range is given, because only those of Nodes are not.
    world.service("web", json!({ names::ADDRESS_POOL: "watched" })).await;
    eventually("an address", async || world.addresses().await.contains_key("web")).await;
    cidrs.delete("watched", &DeleteParams::default()).await.unwrap();
    eventually("no warning any more", async || shows("watched", "True/Accepted: ").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_addresses_without_service_ranges() {
    // Kubernetes before 1.33 does not serve the kind; earlier rights do not contain it.
    for status in [404, 403] {
        let mut world = World::start().await;
        let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
            eprintln!("skipped: only the built-in API server can inject faults");
            return;
        };
        faults.fail(status, 1.0, &["list", "watch"], &["servicecidrs"]);
        world.pool("lan", &["192.0.2.1-192.0.2.20"]).await;
        world.service("web", json!({})).await;
        world.start_controller().await;
        eventually("an address", async || world.addresses().await.contains_key("web")).await;
        assert!(world.note().is_empty(), "{}", world.note());
    }
}
