//! The memory for lists of large objects. The test has a process of its own, because it measures the process.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::convert::Infallible;
use std::fs;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::objects::{EndpointSlice, Namespace, Service};
use fairlead_crds::read::ReadObject;
use fairlead_crds::store::ObjectChange;
use fairlead_runtime::watch::{Monitor, config, follow};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tower::service_fn;

const KIB: usize = 1024;

/// Returns a value of /proc/self/status in octets.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
}

/// Returns the memory limit of a manifest in octets.
fn limit(manifest: &str) -> usize {
    let text = fs::read_to_string(format!("../config/{manifest}")).unwrap();
    let limit = text.split("limits: {memory: ").nth(1).and_then(|rest| rest.split("Mi}").next()).unwrap();
    limit.parse::<usize>().unwrap() * KIB * KIB
}

/// Returns a client of an API server that has so many objects with annotations of 250 KiB. It sends each
/// object when its turn comes.
fn client(objects: usize) -> Client {
    let annotation: Bytes = "x".repeat(250 * KIB).into();
    Client::new(
        service_fn(move |request: Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default();
            let number = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.parse().ok());
            let (limit, start) = (number("limit="), number("continue=").unwrap_or(0));
            let annotation = annotation.clone();
            async move {
                let Some(limit) = limit else { return std::future::pending().await };
                let end = (start + limit).min(objects);
                let next = if end < objects { end.to_string() } else { String::new() };
                let head =
                    format!(r#"{{"metadata":{{"resourceVersion":"1","continue":"{next}"}},"items":[null"#);
                let pieces = (start..end).flat_map(move |n| {
                    let begin = format!(
                        r#",{{"spec":{{"type":"LoadBalancer"}},"metadata":{{"name":"o{n}","annotations":{{"a":""#
                    );
                    [Bytes::from(begin), annotation.clone(), Bytes::from_static(br#""}}}"#)]
                });
                let pieces = [head.into()].into_iter().chain(pieces).chain([Bytes::from_static(b"]}")]);
                let body = Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, Infallible>)));
                Ok::<_, Infallible>(Response::new(body))
            }
        }),
        "default",
    )
}

/// Lists all objects of a kind. Returns the number of them.
async fn list<K: ReadObject, T>(api: Api<K>, trim: impl Fn(K) -> T) -> usize {
    let (sink, mut changes) = mpsc::channel(1);
    let follow = follow(api, config(), Monitor::default(), trim, |change| change, sink);
    tokio::select! {
        () = follow => unreachable!(),
        change = changes.recv() => match change {
            Some(ObjectChange::Reset(objects)) => objects.len(),
            _ => 0,
        },
    }
}

#[tokio::test]
async fn lists_of_large_objects_fit_into_the_memory_limit() {
    let before = status("VmRSS:");
    // The kinds that tenants may create are listed at the same time.
    let listed = tokio::join!(
        list(Api::<Service>::all(client(500)), |service| LoadBalancer::from_service(&service, None)),
        list(Api::<EndpointSlice>::all(client(100)), drop),
        list(Api::<Namespace>::all(client(100)), drop),
    );
    assert_eq!(listed, (500, 100, 100));
    let used = status("VmHWM:").saturating_sub(before);
    for manifest in ["controller/deployment.yaml", "speaker/daemonset.yaml"] {
        assert!(used < limit(manifest) / 2, "{manifest}: {} MiB", used / KIB / KIB);
    }
}
