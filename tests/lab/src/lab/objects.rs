//! The objects that exist in a cluster from the beginning: custom resources, nodes, pods, namespaces.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::addresses::{self, POD_PORT};
use crate::api::Api;
use crate::binaries;
use crate::topology::Network;
use crate::wait::wait_for;

/// Namespace of Fairlead's own objects.
pub const NAMESPACE: &str = "fairlead-system";

/// Returns the name of pod `k` of a node.
pub fn pod_name(node: &str, k: usize) -> String {
    if k == 1 { format!("web-{node}") } else { format!("web-{node}-{k}") }
}

/// Applies the custom resources and the namespace of Fairlead.
pub(super) fn install_definitions(api: &Api) -> Result<()> {
    let kinds = api.apply_dir(&binaries::config_dir().join("crd"))?;
    wait_for("the custom resources to be served", Duration::from_secs(30), || {
        kinds.iter().try_for_each(|kind| api.is_established(kind))
    })?;
    api.apply_object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))
        .map(drop)
}

/// Applies the nodes and pods of a cluster.
pub(super) fn install(api: &Api, network: &Network) -> Result<()> {
    for node in &network.nodes {
        let object = node_object(node.index, &node.name);
        api.apply_object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": object["metadata"],
                                 "spec": object["spec"] }))?;
        api.apply_status(object)?;
        for k in 1..=node.pods.len() {
            let object = pod_object(node.index, &node.name, k, true);
            let mut without_status = object.clone();
            if let Some(fields) = without_status.as_object_mut() {
                fields.remove("status");
            }
            api.apply_object(without_status)?;
            api.apply_status(object)?;
        }
    }
    Ok(())
}

fn node_object(index: usize, name: &str) -> Value {
    let [v4, v6] = addresses::node(index).both();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            // Odd nodes are in zone a, even ones in zone b.
            "topology.kubernetes.io/zone": if index % 2 == 1 { "a" } else { "b" },
        } },
        "spec": { "podCIDRs": addresses::pod_networks(index), "podCIDR": addresses::pod_networks(index)[0] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": v4 }, { "type": "InternalIP", "address": v6 },
                          { "type": "Hostname", "address": name }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Lab", "message": "" }],
        },
    })
}

pub(super) fn pod_object(index: usize, node: &str, k: usize, ready: bool) -> Value {
    let [v4, v6] = addresses::pod(index, k).both();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod_name(node, k), "namespace": "default", "labels": { "app": "web", "node": node } },
        "spec": { "nodeName": node, "containers": [{ "name": "web", "image": "fairlead-lab/pod",
                  "ports": [{ "name": "tcp", "containerPort": POD_PORT }] }] },
        "status": { "phase": "Running", "podIP": v4, "podIPs": [{ "ip": v4 }, { "ip": v6 }],
                    "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    })
}
