//! BFD against FRR's bfdd and against BIRD: detection, parameters, AdminDown, multihop.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bird;
mod failures;
mod frr;
mod observed;
mod restart;

use fairlead_e2e::{SOON, Shared, VERSION, configure};
use fairlead_lab::{Builder, Lab, addresses};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(builder, prepare);

/// The BFDProfile of both peers, and the profile of the router: 3 × 50 ms.
const PROFILE: &str = "fast";

/// Returns a lab whose router has the nodes as static neighbors: FRR deletes a dynamic neighbor, and its BFD
/// session, with the BGP session.
fn builder() -> Builder {
    let group = |name: &str| format!(" neighbor {name} bfd\n neighbor {name} bfd profile {PROFILE}\n");
    let neighbor = |node: usize| {
        let addresses = addresses::node(node);
        let of = |address: &dyn std::fmt::Display, group: &str| {
            format!(" neighbor {address} peer-group {group}\n neighbor {address} passive\n")
        };
        of(&addresses.v4, "speakers") + &of(&addresses.v6, "speakers6")
    };
    let neighbors: String = (1..=3).map(neighbor).collect();
    Lab::builder().router_config(&(group("speakers") + &group("speakers6") + &neighbors))
}

/// Configures BFD on both sides, and waits until all sessions are Up.
fn prepare(lab: &Lab) -> anyhow::Result<()> {
    configure(lab)?;
    set_router_profile(lab, 50, 50)?;
    lab.api()?.apply_object(profile(json!({ "receiveInterval": 50, "transmitInterval": 50 })))?;
    for (peer, strict) in [("router-v4", false), ("router-v6", true)] {
        let spec = json!({ "spec": { "bfdProfile": PROFILE, "bfdStrict": strict } });
        lab.api()?.merge(peer_object(peer), spec)?;
    }
    observed::expect_all_up(lab, SOON)
}

/// Sets the intervals of the router in milliseconds.
fn set_router_profile(lab: &Lab, transmit: u32, receive: u32) -> anyhow::Result<()> {
    let profile = format!("profile {PROFILE}");
    let (transmit, receive) =
        (format!("transmit-interval {transmit}"), format!("receive-interval {receive}"));
    lab.router().configure(&["bfd", &profile, &transmit, &receive]).map(drop)
}

fn profile(spec: Value) -> Value {
    json!({ "apiVersion": VERSION, "kind": "BFDProfile", "metadata": { "name": PROFILE }, "spec": spec })
}

fn peer_object(name: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name } })
}
