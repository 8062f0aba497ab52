//! Lists of built-in kinds that do not merge as one value (the markers `listType`, `listMapKey`,
//! `patchMergeKey` of the Kubernetes API types).

use serde_json::json;

use super::builtin::Rules;
use crate::patch::{KeyField, ListShape, Shape, Strategic};

/// Returns the shape of a built-in kind.
pub(crate) fn of(rules: Rules, plural: &str) -> Shape {
    let mut shape = Shape::default().with_metadata();
    match rules {
        Rules::Service => {
            let ports = shape.at("spec.ports");
            ports.list = with_protocol("port");
            ports.strategic = Strategic::By("port".into());
            shape.at("spec.selector").atomic = true;
            conditions(&mut shape);
        }
        Rules::Node => {
            let ranges = shape.at("spec.podCIDRs");
            (ranges.list, ranges.strategic) = (ListShape::Set, Strategic::Add);
            let addresses = shape.at("status.addresses");
            (addresses.list, addresses.strategic) =
                (ListShape::keyed(&["type"]), Strategic::By("type".into()));
            conditions(&mut shape);
        }
        Rules::Namespace | Rules::ServiceCidr => conditions(&mut shape),
        Rules::Pod => {
            pod_spec(&mut shape, "spec");
            conditions(&mut shape);
            let ips = shape.at("status.podIPs");
            (ips.list, ips.strategic) = (ListShape::keyed(&["ip"]), Strategic::By("ip".into()));
        }
        Rules::EndpointSlice => shape.at("endpoints[].addresses").list = ListShape::Set,
        Rules::CustomResourceDefinition => {
            conditions(&mut shape);
            shape.at("status.conditions").strategic = Strategic::Replace;
        }
        Rules::Generic => match plural {
            "deployments" | "daemonsets" => {
                pod_spec(&mut shape, "spec.template.spec");
                shape.at("spec.selector").atomic = true;
                conditions(&mut shape);
            }
            "poddisruptionbudgets" => conditions(&mut shape),
            "serviceaccounts" => {
                let secrets = shape.at("secrets");
                (secrets.list, secrets.strategic) =
                    (ListShape::keyed(&["name"]), Strategic::By("name".into()));
            }
            _ => {}
        },
        Rules::ConfigMap | Rules::Secret | Rules::Event | Rules::Lease | Rules::Rbac => {}
    }
    shape
}

fn conditions(shape: &mut Shape) {
    let conditions = shape.at("status.conditions");
    (conditions.list, conditions.strategic) = (ListShape::keyed(&["type"]), Strategic::By("type".into()));
}

fn pod_spec(shape: &mut Shape, prefix: &str) {
    for containers in ["containers", "initContainers"] {
        let at = |field: &str| format!("{prefix}.{containers}{field}");
        let list = shape.at(&at(""));
        (list.list, list.strategic) = (ListShape::keyed(&["name"]), Strategic::By("name".into()));
        let ports = shape.at(&at("[].ports"));
        (ports.list, ports.strategic) =
            (with_protocol("containerPort"), Strategic::By("containerPort".into()));
        let env = shape.at(&at("[].env"));
        (env.list, env.strategic) = (ListShape::keyed(&["name"]), Strategic::By("name".into()));
        let mounts = shape.at(&at("[].volumeMounts"));
        (mounts.list, mounts.strategic) =
            (ListShape::keyed(&["mountPath"]), Strategic::By("mountPath".into()));
    }
    let volumes = shape.at(&format!("{prefix}.volumes"));
    (volumes.list, volumes.strategic) = (ListShape::keyed(&["name"]), Strategic::By("name".into()));
    let secrets = shape.at(&format!("{prefix}.imagePullSecrets"));
    (secrets.list, secrets.strategic) = (ListShape::keyed(&["name"]), Strategic::By("name".into()));
    let aliases = shape.at(&format!("{prefix}.hostAliases"));
    (aliases.list, aliases.strategic) = (ListShape::keyed(&["ip"]), Strategic::By("ip".into()));
}

/// Keyed by a port number and a protocol that defaults to TCP.
fn with_protocol(port: &str) -> ListShape {
    ListShape::Map(vec![
        KeyField { name: port.into(), default: None },
        KeyField { name: "protocol".into(), default: Some(json!("TCP")) },
    ])
}
