//! Addresses that stay where they are: retained by a pool that changed, drained, claimed, cooling down, shared within a
//! namespace, out of two pools.

#![allow(clippy::unwrap_used)]

mod reserved;
mod retained;
mod shared;

use anyhow::Result;
use fairlead_e2e::{CONFIG, LbService, Pool, SOON, Scene, Shared, VERSION, expect_sessions};
use fairlead_lab::{Builder, Lab, api};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(builder, prepare);

fn builder() -> Builder {
    Lab::builder().nodes(2)
}

/// The router as a peer, and pools that are announced by their label `by`; the pools are those of each test.
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

/// A pool on the LAN.
fn lan(name: &str, addresses: &[&str]) -> Pool {
    Pool::new(name, addresses).label("by", "l2")
}

/// A Service that takes one IPv4 address of whatever pool it may use.
fn plain(name: &str) -> LbService {
    LbService::new(name, "").any_pool().single("IPv4")
}

/// A Service that asks for one address.
fn asking(name: &str, address: &str) -> LbService {
    plain(name).annotation("fairlead.dev/load-balancer-ips", address)
}

/// Restarts the controller, and waits until it works: it had every chance to do wrong then.
fn restart(scene: &Scene<'_>) {
    scene.lab().controller().unwrap().restart().unwrap();
    expect_at_work(scene);
}

/// Waits until the controller has decided on what was there before.
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

/// An `IPClaim` in the namespace `default`.
fn claim(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": VERSION, "kind": "IPClaim", "metadata": { "name": name, "namespace": "default" },
            "spec": spec })
}
