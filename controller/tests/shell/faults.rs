//! The controller against an API server that is slow, fails or is unavailable.

use std::time::Duration;

use fairlead_apiserver::{Fault, Outage};
use fairlead_crds::names;
use fairlead_crds::v1beta1::IPAddressPool;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::world::{World, eventually, reason, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_sent_concurrently() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    faults.add(Fault {
        verbs: vec!["create".into()],
        resources: vec!["events".into()],
        latency_ms: 500,
        ..Fault::default()
    });
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    for n in 0..100 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    // Sequential requests would take 50 s.
    eventually("each Service has its event", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated")).count() == 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_until_statuses_have_drained() {
    let mut world = World::start().await;
    world.pool("big", &["198.18.0.0-198.18.1.255"]).await;
    for n in 0..300 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("every Service has an address", async || world.addresses().await.len() == 300).await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    let event_versions = async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let ours = list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated"));
        ours.map(|event| version(&event)).collect::<Vec<_>>()
    };
    eventually("each has its event", async || event_versions().await.len() == 300).await;
    let first = event_versions().await.into_iter().min().unwrap();
    let list = world.services().list(&ListParams::default()).await.unwrap();
    let later = list.iter().filter(|service| version(*service) > first).count();
    // Up to one window of writes was in flight when the first event was sent.
    assert!(later <= 100, "{later} of 300 statuses were written after the first event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_retried_after_overload_and_cut_to_fit() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    // All events in flight, and the one that probes after them.
    faults.add(Fault {
        verbs: vec!["create".into()],
        resources: vec!["events".into()],
        status: Some(429),
        times: Some(9),
        ..Fault::default()
    });
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    for n in 0..50 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.service("long", json!({ names::LOAD_BALANCER_IPS: "ü".repeat(600) })).await;
    world.start_controller().await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    eventually("each Service has its event", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let count = |reason| list.iter().filter(|event| event.reason.as_deref() == Some(reason)).count();
        (count("Allocated"), count("InvalidRequest")) == (50, 1)
    })
    .await;
    assert_eq!(faults.active(), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backlog_is_written_despite_errors_and_outages() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    for n in 0..200 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    // The number of faults is limited, or one of 200 Services might fail for longer than the test waits.
    for (status, probability, retry_after, times) in
        [(500, 0.2, None, 60), (409, 0.1, None, 30), (429, 0.02, Some(1), 3)]
    {
        faults.add(Fault {
            verbs: vec!["patch".into()],
            resources: vec!["services/status".into()],
            probability,
            status: Some(status),
            retry_after,
            times: Some(times),
            ..Fault::default()
        });
    }
    world.start_controller().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    faults.outage(Outage::Refuse, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    faults.close_watches();
    eventually("every Service has an address", async || world.addresses().await.len() == 200).await;
    faults.clear();
    let addresses = world.addresses().await;
    let distinct: std::collections::BTreeSet<_> = addresses.values().flatten().collect();
    assert_eq!(distinct.len(), 200, "no address is allocated twice");

    faults.outage(Outage::Hang, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    world.service("late", json!({})).await;
    eventually("allocation continues after an outage", async || world.addresses().await.contains_key("late"))
        .await;
    let mut after = world.addresses().await;
    after.remove("late");
    assert_eq!(after, addresses, "no address moved");
}

/// A count that no test exhausts. The fault counts down from it.
const MANY: u64 = 1_000_000;

fn counted(status: u16, latency_ms: u64) -> Fault {
    Fault {
        verbs: vec!["patch".into()],
        resources: vec!["services/status".into()],
        status: Some(status),
        latency_ms,
        times: Some(MANY),
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_api_server_is_not_overloaded_by_retries() {
    for (status, latency_ms) in [(500, 0), (429, 0), (409, 0), (503, 300)] {
        let mut world = World::start().await;
        let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
            eprintln!("skipped: only the built-in API server can inject faults");
            return;
        };
        world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
        world.start_controller().await;
        faults.add(counted(status, latency_ms));
        for n in 0..20 {
            world.service(&format!("s{n:02}"), json!({})).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let left: u64 = faults.active().iter().filter_map(|(_, fault)| fault.times).sum();
        let sent = MANY - left;
        // With back-off, each of the 20 writes is retried after about 0.2, 0.4, 0.8 and 1.6 s. A hot loop
        // would send thousands.
        assert!((1..=200).contains(&sent), "{sent} requests answered with {status} in 3 s");
        assert!(world.addresses().await.is_empty());
        faults.clear();
        eventually("all Services have addresses", async || world.addresses().await.len() == 20).await;
        let service = world.read("s00").await;
        assert_eq!(reason(&service, names::ALLOCATED), "True/Allocated", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_with_rejected_finalizer_still_has_counts() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    // An admission policy rejects the finalizers, or permissions are missing.
    for status in [422, 403] {
        faults.clear();
        faults.fail(status, 1.0, &["patch"], &["ipaddresspools"]);
        let name = format!("pool-{status}");
        world.pool(&name, &[&format!("198.51.{}.0/24", status % 256)]).await;
        if status == 422 {
            world.start_controller().await;
        }
        for count in 1..=2 {
            world.service(&format!("s-{status}-{count}"), json!({ names::ADDRESS_POOL: name })).await;
            let pools = Api::<IPAddressPool>::all(world.client.clone());
            eventually(&format!("{count} of {name} are counted"), async || {
                let status = pools.get(&name).await.unwrap().status.unwrap_or_default();
                status.assigned_ipv4 == Some(count)
            })
            .await;
        }
    }
}
