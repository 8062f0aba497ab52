//! The cost of a write does not grow with the number of objects.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::server;

const WATCHES: usize = 10;

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

/// How long this many status patches take, as the controller writes them.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_patches_cost_the_same_among_many_services_and_reach_every_watch() {
    let server = server().await;
    let services: Api<Service> = Api::namespaced(server.client().await.unwrap(), "default");
    create(&services, 0..200).await;
    let few = patch(&services, 0..200, "192.0.2.1").await;

    create(&services, 200..2000).await;
    let version = services.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let selected = WatchParams::default().fields("spec.type=LoadBalancer");
        watches.push(services.watch(&selected, &version).await.unwrap().boxed());
    }
    let counted: Vec<_> = watches
        .into_iter()
        .map(|watch| {
            tokio::spawn(async move {
                let modified = watch.filter(|event| {
                    let modified = matches!(event, Ok(WatchEvent::Modified(_)));
                    async move { modified }
                });
                modified.take(200).count().await
            })
        })
        .collect();
    let many = patch(&services, 1000..1200, "192.0.2.2").await;
    for count in counted {
        let count = tokio::time::timeout(Duration::from_secs(30), count).await.unwrap().unwrap();
        assert_eq!(count, 200);
    }
    let per_second = |took: Duration| 200.0 / took.as_secs_f64();
    println!(
        "status patches: {:.0}/s among 200 Services, {:.0}/s among 2000 with {WATCHES} watches",
        per_second(few),
        per_second(many)
    );
    // Ten times the objects and ten watches: a cost that grew with the objects would be ten times as much.
    assert!(many < few * 6, "{few:?} among 200, {many:?} among 2000");
}
