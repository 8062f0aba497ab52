//! Terms of leadership that end and begin while writes are in flight and watches lag.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_apiserver::{Fault, Faults};
use fairlead_controller::leader::{Candidate, Election, Leadership, Timing};
use fairlead_controller::metrics::Metrics;
use fairlead_controller::run::{Scope, run_controller};
use fairlead_crds::names::CONTROLLER_LEASE;
use fairlead_crds::v1beta1::L2Advertisement;
use fairlead_runtime::http;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;
use crate::world::{INSTANCE, NAMESPACE, World, create, eventually, ingress, object};

/// Starts a controller with leader election. The returned token stops it like a signal.
async fn controller(
    world: &World,
    identity: &str,
    client: Client,
    timing: Timing,
) -> (watch::Receiver<Leadership>, CancellationToken) {
    let direct = world.cluster.client().await.unwrap();
    let (stop, release) = (CancellationToken::new(), CancellationToken::new());
    let election = Election::start(direct, NAMESPACE, Candidate::named(identity), timing, release.clone());
    let (leadership, stopped) = (election.leadership(), stop.clone());
    tokio::spawn(async move {
        let metrics = Metrics::register(&http::Metrics::default());
        let scope = Scope {
            namespace: NAMESPACE.to_owned(),
            class: None,
            instance: INSTANCE.to_owned(),
            with_mesh: true,
        };
        if run_controller(client, scope, &election, http::Health::new("the start"), metrics, stopped).await {
            release.cancel();
            election.ended().await;
        }
    });
    (leadership, stop)
}

/// Delays writes of Service statuses by `latency_ms`.
fn slow_statuses(faults: &Faults, latency_ms: u64) {
    let (verbs, resources) = (vec!["patch".into()], vec!["services/status".into()]);
    faults.add(Fault { verbs, resources, latency_ms, ..Fault::default() });
}

/// Watches until so many Services have addresses. Returns the violations: addresses that two Services have at
/// the same time, and Services whose address changes.
async fn watch_for_violations(client: Client, services: usize) -> Vec<String> {
    let api = Api::<Service>::namespaced(client, "default");
    let mut events = api.watch(&WatchParams::default().timeout(280), "0").await.unwrap().boxed();
    let (mut shown, mut violations) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut deadline = end;
    while let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.next()).await {
        let (WatchEvent::Added(service) | WatchEvent::Modified(service)) = event.unwrap() else { continue };
        let (name, ips) = (service.name_any(), ingress(&service));
        if ips.is_empty() {
            continue;
        }
        let others = shown.iter().filter(|(other, others_ips)| **other != name && **others_ips == ips);
        violations.extend(others.map(|(other, _)| format!("{ips:?} on {name} and {other}")));
        let before = shown.insert(name.clone(), ips.clone());
        violations.extend(
            before.filter(|before| *before != ips).map(|before| format!("{name}: {before:?} to {ips:?}")),
        );
        // Effects of a lagging watch appear within a second.
        deadline =
            if shown.len() == services { tokio::time::Instant::now() + Duration::from_secs(1) } else { end };
    }
    assert_eq!(shown.len(), services, "number of Services with an address");
    violations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_term_with_lagging_watch_moves_nothing() {
    let world = World::start().await;
    if world.cluster.as_built_in().is_none() {
        eprintln!("skipped: the proxy supports plain HTTP only");
        return;
    }
    world.pool("big", &["198.51.100.0-198.51.101.255"]).await;
    let (proxy, client) = Proxy::start(&world.cluster.access().url).await;
    proxy.delay_services(Duration::from_millis(300));
    let (leadership, _stop) = controller(&world, "me", client, Timing::default()).await;
    eventually("the controller leads", async || leadership.borrow().leads(Instant::now())).await;
    let watcher = tokio::spawn(watch_for_violations(world.cluster.client().await.unwrap(), 150));
    let leases = Api::<Lease>::namespaced(world.client.clone(), NAMESPACE);
    for n in 0..150u32 {
        // The order of names differs from the order of creation.
        world.service(&format!("s{:03}", (n * 67) % 150), json!({})).await;
        if n % 20 == 0 {
            // A Lease without a holder ends the term, and the next begins at once.
            let no_holder = Patch::Merge(json!({ "spec": { "holderIdentity": "" } }));
            leases.patch(CONTROLLER_LEASE, &PatchParams::default(), &no_holder).await.unwrap();
        }
        // Each term begins with writes that the watch has not delivered yet.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(watcher.await.unwrap(), Vec::<String>::new());
    let term = leadership.borrow().term(Instant::now());
    assert!(term.is_some_and(|term| term > 1), "{term:?}: the first term never ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_with_lagging_watch_takes_over_without_moves() {
    let world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    world.pool("big", &["198.51.100.0-198.51.101.255"]).await;
    let direct = world.cluster.client().await.unwrap();
    let (leadership, stop) = controller(&world, "first", direct, Timing::default()).await;
    eventually("the first leads", async || leadership.borrow().leads(Instant::now())).await;
    let (proxy, late) = Proxy::start(&world.cluster.access().url).await;
    proxy.delay_services(Duration::from_millis(400));
    let (leadership, _stop) = controller(&world, "second", late, Timing::default()).await;
    slow_statuses(&faults, 150);
    let watcher = tokio::spawn(watch_for_violations(world.cluster.client().await.unwrap(), 250));
    for n in 0..250u32 {
        if n == 120 {
            stop.cancel();
        }
        world.service(&format!("s{:03}", (n * 67) % 250), json!({})).await;
    }
    eventually("the second leads", async || leadership.borrow().leads(Instant::now())).await;
    assert_eq!(watcher.await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_unwritten_decisions_are_discarded() {
    let world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    for n in 0..60 {
        world.service(&format!("s{n:02}"), json!({})).await;
    }
    slow_statuses(&faults, 700);
    let second = Duration::from_secs(1);
    let timing = Timing::new(3 * second, 2 * second, second / 5).unwrap();
    let client = world.cluster.client().await.unwrap();
    let (leadership, _stop) = controller(&world, "me", client, timing).await;
    eventually("some have an address", async || !world.addresses().await.is_empty()).await;
    let leases = Api::<Lease>::namespaced(world.client.clone(), NAMESPACE);
    eventually("the Lease names another holder", async || {
        let mut lease = leases.get(CONTROLLER_LEASE).await.unwrap();
        let spec = lease.spec.as_mut().unwrap();
        (spec.holder_identity, spec.lease_duration_seconds) = (Some("thief".to_owned()), Some(3600));
        leases.replace(CONTROLLER_LEASE, &PostParams::default(), &lease).await.is_ok()
    })
    .await;
    eventually("the controller does not lead", async || !leadership.borrow().leads(Instant::now())).await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    tokio::time::sleep(2 * second).await;
    let addresses = world.addresses().await;
    assert!(addresses.len() < 60, "the Lease was lost before all were written");
    let sent = events.list(&ListParams::default()).await.unwrap().into_iter();
    let sent = sent.filter(|event| event.reason.as_deref() == Some("Allocated"));
    let wrong: Vec<String> =
        sent.filter_map(|event| event.regarding?.name).filter(|name| !addresses.contains_key(name)).collect();
    assert_eq!(wrong, Vec::<String>::new(), "Services with an event and without an address");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_with_lost_response_is_not_repeated_after_watch() {
    let world = World::start().await;
    if world.cluster.as_built_in().is_none() {
        eprintln!("skipped: the proxy supports plain HTTP only");
        return;
    }
    let (proxy, client) = Proxy::start(&world.cluster.access().url).await;
    let (leadership, stop) = controller(&world, "me", client, Timing::default()).await;
    eventually("the controller leads", async || leadership.borrow().leads(Instant::now())).await;
    proxy.lose_response("/l2advertisements/lan/status");
    let advertisements = Api::<L2Advertisement>::all(world.client.clone());
    let advertisement = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    create::<L2Advertisement>(&advertisements, &advertisement).await;
    eventually("the status is written", async || advertisements.get("lan").await.unwrap().status.is_some())
        .await;
    // A write without a response is retried four times in this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let patches = proxy.patches("/l2advertisements/lan/status");
    assert!((1..=2).contains(&patches), "{patches} patches");

    // The Lease is released nevertheless.
    stop.cancel();
    let leases = Api::<Lease>::namespaced(world.client.clone(), NAMESPACE);
    eventually("the Lease is released", async || {
        let holder = leases.get(CONTROLLER_LEASE).await.unwrap().spec.unwrap().holder_identity;
        holder.unwrap_or_default().is_empty()
    })
    .await;
}
