//! Address pools that tests apply.

use anyhow::Result;
use fairlead_lab::Lab;
use serde_json::{Value, json};

use crate::scene::VERSION;

/// Whether `spec.reclaim` must be set for a pool to reassign.
const RECLAIM: bool = true;

/// An `IPAddressPool`.
#[derive(Clone, Debug)]
pub struct Pool {
    object: Value,
}

impl Pool {
    /// Returns a pool of these ranges and CIDRs.
    pub fn new(name: &str, addresses: &[&str]) -> Self {
        Self {
            object: json!({
                "apiVersion": VERSION, "kind": "IPAddressPool", "metadata": { "name": name },
                "spec": { "addresses": addresses },
            }),
        }
    }

    /// Returns a pool that takes an address away from a Service that may no longer use it, as MetalLB does.
    pub fn reassigning(name: &str, addresses: &[&str]) -> Self {
        if RECLAIM {
            Self::new(name, addresses).with("reclaim", json!("Reassign"))
        } else {
            Self::new(name, addresses)
        }
    }

    /// Sets a field of its spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.object["spec"][field] = value;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.object["metadata"]["labels"][name] = json!(value);
        self
    }

    /// Replaces the addresses.
    #[must_use]
    pub fn of(self, addresses: &[&str]) -> Self {
        self.with("addresses", json!(addresses))
    }

    /// Restricts the pool by `spec.serviceAllocation`.
    #[must_use]
    pub fn only_for(self, allocation: Value) -> Self {
        self.with("serviceAllocation", allocation)
    }

    /// Restricts the pool to Services that name it.
    #[must_use]
    pub fn by_name_only(self) -> Self {
        self.with("autoAssign", json!(false))
    }

    /// Returns the object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns the object that the API server stores.
    pub fn seen(&self, lab: &Lab) -> Result<Value> {
        lab.api()?.get(VERSION, "IPAddressPool", None, self.name())
    }
}
