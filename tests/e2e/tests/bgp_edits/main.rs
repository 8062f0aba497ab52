//! Edits of the configuration of BGP under traffic: what the router notices of them.

#![allow(clippy::unwrap_used)]

mod live;
mod refused;
mod steps;
mod turns;
mod witness;

use fairlead_e2e::{Shared, configure};
use fairlead_lab::{Builder, Lab, addresses};

static LAB: Shared = Shared::new(builder, configure);

/// Returns a lab whose router knows each node: it forgets a dynamic neighbor, with its counters, when the
/// session ends.
fn builder() -> Builder {
    let neighbor = |node: usize| {
        let address = addresses::node(node).v4;
        format!(" neighbor {address} peer-group speakers\n neighbor {address} passive\n")
    };
    Lab::builder().router_config(&(1..=3).map(neighbor).collect::<String>())
}
