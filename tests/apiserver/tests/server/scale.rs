//! The cost of a write does not grow with the number of objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::server;

const WATCHES: usize = 10;
/// Number of rounds, because one may coincide with other load.
const ROUNDS: usize = 3;

async fn create(services: &Api<Service>, names: std::ops::Range<usize>) {
    stream::iter(names)
        .for_each_concurrent(16, |number| async move {
            let service = json!({
                "metadata": { "name": format!("s-{number}") },
                "spec": {
                    "type": "LoadBalancer",
                    "allocateLoadBalancerNodePorts": false,
                    "ports": [{ "port": 80 }],
                },
            });
            services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
        })
        .await;
}

/// Measures this many status patches like the controller's.
async fn patch(services: &Api<Service>, names: std::ops::Range<usize>, ip: &str) -> Duration {
    let begin = Instant::now();
    stream::iter(names)
        .for_each_concurrent(16, |number| async move {
            let patch = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } } });
            let name = format!("s-{number}");
            services.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        })
        .await;
    begin.elapsed()
}

/// Returns the shortest of several rounds, each with another address.
async fn quickest(services: &Api<Service>, names: std::ops::Range<usize>) -> Duration {
    let mut quickest = Duration::MAX;
    for round in 0..ROUNDS {
        quickest = quickest.min(patch(services, names.clone(), &format!("192.0.2.{round}")).await);
    }
    quickest
}

/// Watches that count their events.
async fn watch(services: &Api<Service>) -> Vec<Arc<AtomicUsize>> {
    let version = services.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut counters = Vec::new();
    for _ in 0..WATCHES {
        let selected = WatchParams::default().fields("spec.type=LoadBalancer");
        let mut watch = services.watch(&selected, &version).await.unwrap().boxed();
        let counter = Arc::new(AtomicUsize::new(0));
        counters.push(counter.clone());
        tokio::spawn(async move {
            while let Some(Ok(WatchEvent::Added(_) | WatchEvent::Modified(_))) = watch.next().await {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    counters
}

async fn all_saw(counters: &[Arc<AtomicUsize>], events: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while counters.iter().any(|counter| counter.load(Ordering::Relaxed) < events) {
        assert!(Instant::now() < deadline, "{events} events are not seen: {counters:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(counters.iter().all(|counter| counter.load(Ordering::Relaxed) == events), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_patch_cost_is_independent_of_object_count() {
    let server = server().await;
    let services: Api<Service> = Api::namespaced(server.client().await.unwrap(), "default");
    let counters = watch(&services).await;
    create(&services, 0..200).await;
    all_saw(&counters, 200).await;
    let few = quickest(&services, 0..200).await;
    all_saw(&counters, 200 + ROUNDS * 200).await;
    create(&services, 200..2000).await;
    all_saw(&counters, 2000 + ROUNDS * 200).await;
    let many = quickest(&services, 1000..1200).await;
    all_saw(&counters, 2000 + 2 * ROUNDS * 200).await;

    let per_second = |took: Duration| 200.0 / took.as_secs_f64();
    println!(
        "status patches with {WATCHES} watches: {:.0}/s among 200 Services, {:.0}/s among 2000",
        per_second(few),
        per_second(many)
    );
    // Ten times the objects: a cost proportional to them would be ten times as high. The margin covers other
    // load.
    assert!(many < few * 5, "{few:?} among 200, {many:?} among 2000");
}
