//! Addresses that a Service or a claim keeps: retained by an edited pool, drained, claimed, in cool-down,
//! shared within a namespace, from two pools. Addresses that are unusable on the link.

#![allow(clippy::unwrap_used)]

mod reserved;
mod retained;
mod shared;
mod unusable;

use anyhow::Result;
use fairlead_e2e::{CONFIG, LbService, Pool, SOON, Scene, Shared, VERSION, expect_sessions};
use fairlead_lab::{Builder, Lab, api};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(builder, prepare);

fn builder() -> Builder {
    Lab::builder().nodes(2)
}

/// The router as a peer, and advertisements that select pools by the label `by`. Each test has its own pools.
fn prepare(lab: &Lab) -> Result<()> {
    let api = lab.api()?;
    for object in api::documents(CONFIG)?.into_iter().filter(|object| object["kind"] == "BGPPeer") {
        api.apply_object(object)?;
    }
    for (kind, by) in [("L2Advertisement", "l2"), ("BGPAdvertisement", "bgp")] {
        let selector = json!([{ "matchLabels": { "by": by } }]);
        api.apply_object(json!({ "apiVersion": VERSION, "kind": kind, "metadata": { "name": by },
                                 "spec": { "ipAddressPoolSelectors": selector } }))?;
    }
    expect_sessions(lab, SOON)
}

/// Returns a pool on the LAN.
fn lan(name: &str, addresses: &[&str]) -> Pool {
    Pool::new(name, addresses).label("by", "l2")
}

/// Returns a Service that takes one IPv4 address of any pool open to it.
fn plain(name: &str) -> LbService {
    LbService::new(name, "").any_pool().single("IPv4")
}

/// Returns a Service that requests one address.
fn asking(name: &str, address: &str) -> LbService {
    plain(name).annotation("fairlead.dev/load-balancer-ips", address)
}

/// Restarts the controller and waits until it has reconciled every object.
fn restart(scene: &Scene<'_>) {
    scene.lab().controller().unwrap().restart().unwrap();
    expect_at_work(scene);
}

/// Waits until the controller has reconciled the existing objects.
fn expect_at_work(scene: &Scene<'_>) {
    let probes = Pool::new("probes", &["203.0.113.200/32"]).by_name_only();
    scene.pools([&probes]);
    let probe = LbService::new("probe", "probes").single("IPv4");
    scene.serve(&probe, &["203.0.113.200"], "probes");
    for object in [probe.object(), probes.object()] {
        scene.delete(object);
        scene.expect_gone(object);
    }
}

/// Returns an `IPClaim` in the namespace `default`.
fn claim(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": VERSION, "kind": "IPClaim", "metadata": { "name": name, "namespace": "default" },
            "spec": spec })
}
