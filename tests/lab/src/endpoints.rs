//! Stands in for the EndpointSlice controller: derives EndpointSlices from Services with a selector and Pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::proxy::SERVICE_NAME;

/// Label that distinguishes these slices from slices that a test writes.
pub const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "fairlead-lab");

/// Returns the slices that a Service should have: one per address family, none without a selector.
pub fn slices<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod> + Clone) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else {
        return Vec::new();
    };
    let families = spec.ip_families.clone().unwrap_or_default();
    let pods = pods.filter(|pod| {
        pod.metadata.namespace == service.metadata.namespace
            && selector.iter().all(|(k, v)| pod.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v))
    });
    families.iter().map(|family| slice(service, family, pods.clone())).collect()
}

fn slice<'a>(service: &Service, family: &str, pods: impl Iterator<Item = &'a Pod>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut endpoints: Vec<Endpoint> = pods.filter_map(|pod| endpoint(pod, family)).collect();
    endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", family.to_lowercase())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([
                (SERVICE_NAME.to_owned(), name),
                (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
            ])),
            ..Default::default()
        },
        address_type: family.to_owned(),
        endpoints,
        ports: Some(ports.map(endpoint_port).collect()),
    }
}

fn endpoint(pod: &Pod, family: &str) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let address = status.pod_ips.iter().flatten().find_map(|ip| {
        let parsed: IpAddr = ip.ip.parse().ok()?;
        (parsed.is_ipv4() == (family == "IPv4")).then(|| ip.ip.clone())
    })?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready && !terminating),
            serving: Some(ready),
            terminating: Some(terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn endpoint_port(port: &ServicePort) -> EndpointPort {
    let number = match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => *number,
        // Named ports resolve to the one port that the lab's pods serve.
        Some(IntOrString::String(_)) => i32::from(crate::addresses::POD_PORT),
        _ => port.port,
    };
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, app: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
            "spec": { "nodeName": "n1", "containers": [] },
            "status": { "podIPs": [{ "ip": "10.244.1.2" }, { "ip": "fd00:10:244:1::2" }],
                        "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    #[test]
    fn slices_of_each_family_list_selected_pods() {
        let service: Service = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "selector": { "app": "echo" }, "ipFamilies": ["IPv4", "IPv6"],
                      "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
        .unwrap();
        let pods = [pod("a", "echo", "True"), pod("b", "other", "True"), pod("c", "echo", "False")];
        let found = slices(&service, pods.iter());
        let shown: Vec<_> = found
            .iter()
            .map(|s| {
                let ready: Vec<_> =
                    s.endpoints.iter().map(|e| e.conditions.as_ref().unwrap().ready.unwrap()).collect();
                (s.metadata.name.clone().unwrap(), s.endpoints[0].addresses[0].clone(), ready)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("web-ipv4".to_owned(), "10.244.1.2".to_owned(), vec![true, false]),
                ("web-ipv6".to_owned(), "fd00:10:244:1::2".to_owned(), vec![true, false]),
            ]
        );
        assert_eq!(found[0].ports.as_ref().unwrap()[0].port, Some(8080));
    }
}
