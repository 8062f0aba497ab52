//! Who gets which address, as an outsider sees it in the API: MetalLB's end-to-end list of assignment, item by item
//! (its `l2tests/assignment.go`; the numbers are those of our catalogue, 11 to 29).

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

/// Every address is announced on the LAN; the pools are those of each test.
fn prepare(lab: &Lab) -> Result<()> {
    let everything = json!({ "apiVersion": VERSION, "kind": "L2Advertisement",
                             "metadata": { "name": "everything" }, "spec": {} });
    lab.api()?.apply_object(everything).map(drop)
}

/// A Service that takes one IPv4 address of whatever pool it may use.
fn plain(name: &str) -> LbService {
    LbService::new(name, "").any_pool().single("IPv4")
}
