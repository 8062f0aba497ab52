//! The controller and an API server that is slow, refuses, or is away.

use std::time::Duration;

use fairlead_apiserver::{Fault, Outage};
use fairlead_crds::names;
use fairlead_crds::v1beta1::IPAddressPool;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::world::{World, eventually, reason, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_many_services_are_sent_several_at_a_time() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can be slow on demand");
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
    // One after the other they would take 50 s.
    eventually("each Service has its event", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated")).count() == 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_until_no_status_waits() {
    let mut world = World::start().await;
    world.pool("big", &["198.18.0.0-198.18.1.255"]).await;
    for n in 0..300 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("every Service has an address", async || world.addresses().await.len() == 300).await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    let told = async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let ours = list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated"));
        ours.map(|event| version(&event)).collect::<Vec<_>>()
    };
    eventually("each has its event", async || told().await.len() == 300).await;
    let first = told().await.into_iter().min().unwrap();
    let list = world.services().list(&ListParams::default()).await.unwrap();
    let later = list.iter().filter(|service| version(*service) > first).count();
    // Those that were on the way when the last one was sent.
    assert!(later <= 100, "{later} of 300 statuses were written after the first event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_an_overloaded_api_server_refused_come_later_and_long_ones_fit() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can be overloaded on demand");
        return;
    };
    // All that are sent together, and the one that goes first after that.
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
        let told = |reason| list.iter().filter(|event| event.reason.as_deref() == Some(reason)).count();
        (told("Allocated"), told("InvalidRequest")) == (50, 1)
    })
    .await;
    assert_eq!(faults.active(), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_gets_through_an_api_server_that_fails_throttles_and_goes_away() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can fail on demand");
        return;
    };
    for n in 0..200 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    // So often and no more: of 200 Services one would have bad luck for longer than anybody waits.
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
    assert_eq!(distinct.len(), 200, "no address twice");

    faults.outage(Outage::Hang, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    world.service("late", json!({})).await;
    eventually("after an outage it goes on", async || world.addresses().await.contains_key("late")).await;
    let mut after = world.addresses().await;
    after.remove("late");
    assert_eq!(after, addresses, "and nothing moved");
}

/// Requests that a fault has met: it is counted down from here.
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
async fn an_api_server_that_refuses_every_write_is_not_pressed_while_decisions_go_on() {
    for (status, latency_ms) in [(500, 0), (429, 0), (409, 0), (503, 300)] {
        let mut world = World::start().await;
        let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
            eprintln!("skipped: only the built-in API server can fail on demand");
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
        let tried = MANY - left;
        // With back-off each of the 20 comes again after about 0.2, 0.4, 0.8 and 1.6 s; a hot loop would be at thousands.
        assert!((1..=200).contains(&tried), "{tried} requests answered with {status} in 3 s");
        assert!(world.addresses().await.is_empty());
        faults.clear();
        eventually("nothing was lost", async || world.addresses().await.len() == 20).await;
        let service = world.read("s00").await;
        assert_eq!(reason(&service, names::ALLOCATED), "True/Allocated", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_finalizer_is_refused_shows_its_counts_all_the_same() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can fail on demand");
        return;
    };
    // An admission policy, or permissions that do not cover it.
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
