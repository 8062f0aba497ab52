//! What is stored of a Service is bounded, whatever its size. The test has a process of its own, because the
//! allocator counts for all threads.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::alloc::System;
use std::fmt::Write;

use fairlead_allocator::reconcile::{Index, ObservedService};
use fairlead_crds::model::config::Config;
use fairlead_crds::objects::Service;
use fairlead_crds::read::{Decoded, ReadObject};
use fairlead_test_support::{pool, pools};
use jiff::Timestamp;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The bounds in `docs/addresses.md`, in octets: of a Service that its owner fills, and of one into whose
/// status other programs write as much as is kept.
const MAX_OF_OWNER: usize = 64 * 1024;
const MAX: usize = 256 * 1024;
/// The bound of an ordinary Service.
const MAX_ORDINARY: usize = 3 * 1024;

/// Returns `"k0":"v","k1":"v",…`.
fn pairs(number: usize) -> String {
    let mut text = String::new();
    for n in 0..number {
        write!(text, "{}\"k{n}\":\"v\"", if n > 0 { "," } else { "" }).unwrap();
    }
    text
}

/// Returns so many elements of a JSON list.
fn list(number: usize, element: impl Fn(usize) -> String) -> String {
    (0..number).map(element).collect::<Vec<_>>().join(",")
}

/// Returns a Service with so many labels and entries of the selector, ports, and octets of annotations, and
/// with this status.
fn service(name: &str, labels: usize, ports: usize, octets: usize, status: &str) -> String {
    let labels = pairs(labels);
    let ports = list(ports, |n| format!(r#"{{"port":{},"protocol":"UDP"}}"#, n + 1));
    let (share, ips) = ("k".repeat(256), "1".repeat(256));
    let annotations = json!({
        "fairlead.dev/allow-shared-ip": share, "fairlead.dev/load-balancer-ips": ips, "a": "x".repeat(octets),
    });
    let metadata = format!(
        r#""namespace":"default","name":"{name}","uid":"{name}","resourceVersion":"1","labels":{{{labels}}}"#
    );
    let spec = r#""type":"LoadBalancer","clusterIPs":["10.96.0.1"],"externalTrafficPolicy":"Local""#;
    format!(
        r#"{{"metadata":{{{metadata},"annotations":{annotations}}},"spec":{{{spec},"selector":{{{labels}}},"ports":[{ports}]}},"status":{status}}}"#
    )
}

/// Returns a status that other programs have filled.
fn foreign_status() -> String {
    let ingress = list(5_000, |n| format!(r#"{{"hostname":"h{n}.example.com","ip":"192.0.2.1"}}"#));
    let message = "m".repeat(200);
    let conditions = list(2_000, |n| {
        format!(r#"{{"type":"example.com/C{n}","status":"True","reason":"R","message":"{message}"}}"#)
    });
    format!(r#"{{"loadBalancer":{{"ingress":[{ingress}]}},"conditions":[{conditions}]}}"#)
}

fn read(json: &str) -> ObservedService {
    let Decoded { value, problem } = Service::read(json);
    assert_eq!(problem, None);
    ObservedService::of(&value, None).unwrap()
}

/// Returns the octets by which the state of the allocator grows for each of some Services.
fn stored(of: impl Fn(&str) -> String) -> usize {
    const SERVICES: usize = 4;
    let now = Timestamp::UNIX_EPOCH;
    let mut index = Index::default();
    let config = Config { pools: pools([pool("p", &["192.0.2.0-192.0.2.255"])]), ..Config::default() };
    index.set_config(&config, now);
    index.namespaces_reset(vec![("default".into(), Default::default())], now);
    index.claims_reset(Vec::new(), now);
    index.services_reset(Vec::new(), now);
    index.begin(Vec::new(), now);
    let texts: Vec<String> = (0..SERVICES).map(|n| of(&format!("s{n}"))).collect();
    let region = Region::new(ALLOCATOR);
    for text in &texts {
        index.service_applied(read(text), now);
    }
    drop(index.take_decisions());
    let change = region.change();
    assert_eq!(index.service_counts().0, SERVICES);
    (change.bytes_allocated - change.bytes_deallocated) / SERVICES
}

#[test]
fn stored_size_of_a_service_is_bounded() {
    // About 1.5 MB, as much as etcd accepts.
    let of_owner = stored(|name| service(name, 30_000, 15_000, 250 * 1024, "{}"));
    // As much as fits into the bounds of each part.
    let within = stored(|name| service(name, 256, 4096, 0, "{}"));
    let of_all = stored(|name| service(name, 256, 4096, 0, &foreign_status()));
    let ordinary = stored(|name| service(name, 3, 2, 0, "{}"));
    let sizes = [(of_owner, MAX_OF_OWNER), (within, MAX_OF_OWNER), (of_all, MAX), (ordinary, MAX_ORDINARY)];
    assert!(sizes.iter().all(|(size, max)| size <= max), "{sizes:?}");
}
