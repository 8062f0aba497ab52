//! The patches of the `Speaker` object.

use fairlead_crds::v1beta1::SpeakerStatus;
use serde_json::{Value, json};

use super::{MeshEndpoint, SpeakerObject};
use crate::conflicts::mac_text;

/// Patches to apply, in this order. At least one is present.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeakerWrite {
    /// Server-side apply patch of the object: owner reference and spec.
    pub object: Option<Value>,
    /// Server-side apply patch of the status subresource.
    pub status: Option<Value>,
}

impl SpeakerWrite {
    /// Sets `observedGeneration` of all conditions: `metadata.generation` of the object to which the status
    /// is applied.
    pub fn set_observed_generation(&mut self, generation: Option<i64>) {
        let Some(generation) = generation else { return };
        let status = self.status.as_mut().and_then(|patch| patch.pointer_mut("/status/conditions"));
        for condition in status.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.insert("observedGeneration".to_owned(), json!(generation));
            }
        }
    }
}

impl SpeakerObject {
    /// Returns the object without its status; `None` while there is no Node to own it.
    pub(super) fn object(&self) -> Option<Value> {
        let uid = self.report.node_uid.as_ref()?;
        let mesh = self.report.mesh.as_ref().map(|MeshEndpoint { address, key_fingerprint, macs }| {
            json!({
                "address": address.ip().to_string(),
                "port": address.port(),
                "keyFingerprint": key_fingerprint,
                "macs": macs.iter().copied().map(mac_text).collect::<Vec<_>>(),
            })
        });
        let mut spec = mesh.map_or(json!({}), |mesh| json!({"mesh": mesh}));
        if let Some(class) = &self.class {
            spec["loadBalancerClass"] = json!(class);
        }
        Some(json!({
            "apiVersion": "fairlead.dev/v1beta1",
            "kind": "Speaker",
            "metadata": {
                "name": self.name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}],
            },
            "spec": spec,
        }))
    }

    pub(super) fn status_patch(&self, status: &SpeakerStatus) -> Value {
        json!({
            "apiVersion": "fairlead.dev/v1beta1",
            "kind": "Speaker",
            "metadata": {"name": self.name},
            "status": status,
        })
    }
}

/// Returns the size of a value in JSON, in octets.
pub(super) fn size(value: &Value) -> usize {
    value.to_string().len()
}
