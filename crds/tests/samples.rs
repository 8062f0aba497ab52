//! The objects in `config/samples`: an API server accepts them, and they resolve without a warning.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use fairlead_crds::model::config::PeerAddress;
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::objects::Service;
use fairlead_crds::resolve::{Accepted, resolve};
use serde::Deserialize;
use serde_json::Value;

fn samples() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.ends_with("kustomization.yaml"));
    files.sort();
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(texts.len() >= 3);
    texts.join("\n---\n")
}

fn documents() -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&samples()).map(|d| Value::deserialize(d).unwrap()).collect()
}

#[test]
fn samples_pass_the_schema() {
    for document in documents().iter().filter(|d| d["apiVersion"] == "fairlead.dev/v1beta1") {
        assert_eq!(common::apply(document), Ok(()), "{}", document["metadata"]["name"]);
    }
}

#[test]
fn samples_resolve_without_warnings() {
    let resolution = resolve(&common::objects(&samples()));
    assert_eq!(resolution.verdicts.len(), 7);
    for object in resolution.verdicts.keys() {
        let accepted = Accepted { status: true, reason: "Accepted".into(), message: String::new() };
        assert_eq!(resolution.accepted(object), Some(accepted), "{object}");
    }
}

#[test]
fn samples_match_the_lab() {
    let config = resolve(&common::objects(&samples())).config;
    let pool = |ip: &str| config.pool_of(ip.parse().unwrap()).map(|pool| pool.name.as_str());
    for ip in ["192.0.2.200", "192.0.2.230", "2001:db8:1::200", "2001:db8:1::2ff"] {
        assert_eq!(pool(ip), Some("lan"), "{ip}");
    }
    for ip in ["198.51.100.1", "198.51.100.254", "2001:db8:100::1", "2001:db8:100::ffff"] {
        assert_eq!(pool(ip), Some("routed"), "{ip}");
    }
    // Some devices refuse addresses that were those of a network or broadcast in classful routing.
    for ip in
        ["192.0.2.199", "192.0.2.231", "2001:db8:1::300", "198.51.100.0", "198.51.100.255", "2001:db8:100::"]
    {
        assert_eq!(pool(ip), None, "{ip}");
    }
    let peers: Vec<_> = config.peers.values().map(|peer| (peer.my_asn, &peer.address)).collect();
    let router = |ip: &str| PeerAddress::Ip(ip.parse().unwrap());
    assert_eq!(peers, [(64513, &router("192.0.2.1")), (64513, &router("2001:db8:1::1"))]);
    let none = Default::default();
    assert_eq!(config.l2_for(&config.pools["lan"], &none).count(), 1);
    assert_eq!(config.l2_for(&config.pools["routed"], &none).count(), 0);
    assert_eq!(config.bgp_for(&config.pools["lan"], &none).count(), 0);
    assert_eq!(config.bgp_for(&config.pools["routed"], &none).count(), 1);
}

#[test]
fn sample_services_name_existing_pools() {
    let config = resolve(&common::objects(&samples())).config;
    let services: Vec<LoadBalancer> = documents()
        .into_iter()
        .filter(|document| document["kind"] == "Service")
        .map(|document| serde_json::from_value::<Service>(document).unwrap())
        .map(|service| LoadBalancer::from_service(&service, None).expect("a Service of our class"))
        .collect();
    assert_eq!(services.len(), 2);
    for service in services {
        assert!(
            service.requested.pools.iter().all(|pool| config.pools.contains_key(pool)),
            "{}",
            service.key
        );
    }
}
