//! Address assignment as seen in the API: MetalLB's end-to-end list (its `l2tests/assignment.go`), item by
//! item. The numbers 11 to 29 are those of that catalogue in the tests' order.

#![allow(clippy::unwrap_used)]

mod dual_stack;
mod order;
mod pool_status;
mod waiting;

use anyhow::Result;
use fairlead_e2e::{LbService, Shared, VERSION};
use fairlead_lab::{Builder, Lab};
use serde_json::json;

static LAB: Shared = Shared::new(builder, prepare);

fn builder() -> Builder {
    Lab::builder().nodes(2)
}

/// Announces every address on the LAN. Each test has its own pools.
fn prepare(lab: &Lab) -> Result<()> {
    let everything = json!({ "apiVersion": VERSION, "kind": "L2Advertisement",
                             "metadata": { "name": "everything" }, "spec": {} });
    lab.api()?.apply_object(everything).map(drop)
}

/// Returns a Service that takes one IPv4 address of any pool open to it.
fn plain(name: &str) -> LbService {
    LbService::new(name, "").any_pool().single("IPv4")
}
