//! Reduces objects to the fields that the plan reads.

use fairlead_crds::conditions::RawCondition;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::labels::{LabelBounds, Labels};
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names::{DRAIN_NODE, EXCLUDE_NODE, OUT_OF_SERVICE, SERVICE_NAME};
use fairlead_crds::objects;
use fairlead_crds::objects::MAX_NODE_ADDRESSES;
use kube::ResourceExt;

use crate::input::{DrainCause, Node, NodeName, Service, Slice, SliceKey};

/// Returns `None` for a Service that Fairlead does not serve: another type or load balancer class.
pub fn service(object: objects::Service, lb_class: Option<&str>) -> (ObjectKey, Option<Service>) {
    let service = LoadBalancer::from_service(&object, lb_class).map(Service::from);
    (key(&object), service)
}

/// Returns `None` for an EndpointSlice that belongs to no Service, or whose endpoints have no IP addresses.
pub fn slice(object: objects::EndpointSlice) -> (SliceKey, Option<Slice>) {
    let service = object.labels().get(SERVICE_NAME).filter(|name| !name.is_empty());
    let family = Family::parse(&object.address_type);
    let endpoints = |wanted| {
        let matching = object.endpoints.iter().filter(move |endpoint| usability(endpoint) == Some(wanted));
        matching.map(|endpoint| endpoint.node_name.as_deref()).collect()
    };
    let slice = service.zip(family).map(|(service, family)| Slice {
        service: service.clone(),
        family,
        ready: endpoints(Usability::Ready),
        terminating: endpoints(Usability::Terminating),
    });
    (key(&object), slice)
}

/// How kube-proxy can use an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usability {
    Ready,
    /// The endpoint is terminating and still serves. kube-proxy uses it while no other one is ready.
    Terminating,
}

/// Returns `None` for an endpoint that kube-proxy does not use. Per the API, `ready` and `serving` default to
/// true, and `terminating` to false.
fn usability(endpoint: &objects::Endpoint) -> Option<Usability> {
    let conditions = endpoint.conditions.as_ref();
    if conditions.is_none_or(|c| c.ready != Some(false)) {
        return Some(Usability::Ready);
    }
    let is_terminating = conditions.is_some_and(|c| c.serving != Some(false) && c.terminating == Some(true));
    is_terminating.then_some(Usability::Terminating)
}

/// Returns the name, the trimmed Node and its UID. With `drain_cordoned`, a cordoned node is being drained.
pub fn node(object: objects::Node, drain_cordoned: bool) -> (NodeName, Node, String) {
    let status = object.status.as_ref();
    let unavailable = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten()
        .any(|condition| condition.type_() == "NetworkUnavailable" && condition.status() == "True");
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let internal = addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok());
    let internal = internal.take(MAX_NODE_ADDRESSES);
    let node = Node {
        labels: Labels::within(LabelBounds::Administrators, object.labels()),
        excluded: object.labels().contains_key(EXCLUDE_NODE),
        network_unavailable: unavailable,
        drain: drain_cause(&object, drain_cordoned),
        internal_ips: internal.collect(),
    };
    (object.name_any().into(), node, object.uid().unwrap_or_default())
}

fn drain_cause(object: &objects::Node, drain_cordoned: bool) -> Option<DrainCause> {
    let spec = object.spec.as_ref();
    let mut taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let status = object.status.as_ref();
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    if object.labels().get(DRAIN_NODE).is_some_and(|value| value != "false") {
        Some(DrainCause::Label)
    } else if taints.any(|taint| taint.key == OUT_OF_SERVICE) {
        Some(DrainCause::OutOfService)
    } else if conditions.any(is_shutting_down) {
        Some(DrainCause::ShuttingDown)
    } else if drain_cordoned && spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
        Some(DrainCause::Cordoned)
    } else {
        None
    }
}

/// Returns true for the condition that the kubelet sets when the node shuts down (`graceful node shutdown`).
/// Its reason is the same as for other problems.
fn is_shutting_down(condition: &RawCondition) -> bool {
    condition.type_() == "Ready"
        && condition.status() == "False"
        && condition.message().contains("node is shutting down")
}

fn key(object: &impl ResourceExt) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::{Value, from_value, json};

    use super::*;

    fn trimmed_slice(endpoints: Value) -> Option<Slice> {
        let object = json!({
            "metadata": {"namespace": "a", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
        });
        slice(from_value(object).unwrap()).1
    }

    /// As in kube-proxy.
    #[test]
    fn endpoint_is_usable_by_its_conditions() {
        let (yes, no, terminating) = ((true, false), (false, false), (false, true));
        let table = [
            (json!(null), yes),
            (json!({}), yes),
            (json!({"ready": true}), yes),
            (json!({"ready": true, "serving": false}), yes),
            // A Service with publishNotReadyAddresses.
            (json!({"ready": true, "serving": true, "terminating": true}), yes),
            (json!({"ready": false}), no),
            (json!({"ready": false, "serving": false}), no),
            (json!({"ready": false, "serving": true}), no),
            (json!({"ready": false, "serving": true, "terminating": true}), terminating),
            (json!({"ready": false, "terminating": true}), terminating),
            (json!({"ready": false, "serving": false, "terminating": true}), no),
        ];
        for (conditions, expected) in table {
            let endpoint = json!([{"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": conditions}]);
            let slice = trimmed_slice(endpoint).unwrap();
            assert_eq!((slice.ready.any(), slice.terminating.any()), expected, "{conditions}");
            let nodes = (slice.ready.nodes(), slice.terminating.nodes());
            assert_eq!(nodes, (usize::from(expected.0), usize::from(expected.1)), "{conditions}");
        }
    }

    #[test]
    fn slice_lists_each_node_once_and_serves_without_nodes() {
        let slice = trimmed_slice(json!([
            {"addresses": ["10.0.0.2"], "nodeName": "n2"},
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {"addresses": ["10.0.0.3"], "nodeName": "n2"},
        ]));
        let slice = slice.unwrap();
        assert_eq!(slice.ready.nodes(), 2);
        assert_eq!(["n1", "n2", "n3"].map(|node| slice.ready.on(node)), [1, 2, 0]);
        let slice = trimmed_slice(json!([{"addresses": ["10.0.0.1"]}])).unwrap();
        assert!(slice.ready.any() && slice.ready.nodes() == 0);
        assert!(!trimmed_slice(json!([])).unwrap().ready.any());
    }

    #[test]
    fn slice_has_the_family_of_its_address_type() {
        for (address_type, family) in
            [("IPv4", Some(Family::V4)), ("IPv6", Some(Family::V6)), ("FQDN", None), ("", None)]
        {
            let object = json!({
                "metadata": {"namespace": "a", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": address_type,
                "endpoints": [],
            });
            let slice = slice(from_value(object).unwrap()).1;
            assert_eq!(slice.map(|slice| slice.family), family, "{address_type}");
        }
    }

    #[test]
    fn slice_without_service_is_dropped() {
        let object =
            json!({"metadata": {"namespace": "a", "name": "s-1"}, "addressType": "IPv4", "endpoints": []});
        assert_eq!(slice(from_value(object).unwrap()).1, None);
    }

    #[test]
    fn node_keeps_labels_condition_and_internal_ips() {
        let object = json!({
            "metadata": {"name": "n1", "uid": "u1", "labels": {
                "zone": "a", "node.kubernetes.io/exclude-from-external-load-balancers": "",
            }},
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "False"},
                    {"type": "NetworkUnavailable", "status": "True"},
                ],
                "addresses": [
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "198.51.100.1"},
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "InternalIP", "address": "2001:db8::1"},
                ],
            },
        });
        let (name, node, uid) = node(from_value(object).unwrap(), false);
        assert_eq!((&*name, uid.as_str()), ("n1", "u1"));
        assert!(node.excluded && node.network_unavailable);
        assert_eq!(
            node.internal_ips,
            ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
        );
    }

    /// As with Node Feature Discovery and the operators of accelerators.
    #[test]
    fn node_with_labels_of_many_features_keeps_them() {
        let labels: serde_json::Map<_, _> =
            (0..1_000).map(|n| (format!("feature.node.kubernetes.io/f{n}"), json!("true"))).collect();
        let object = json!({"metadata": {"name": "n1", "labels": labels}});
        let (_, node, _) = node(from_value(object).unwrap(), false);
        assert_eq!(node.labels.get("feature.node.kubernetes.io/f999"), Some("true"));
    }

    #[test]
    fn stored_part_of_a_node_and_a_slice_is_bounded() {
        let labels: Value =
            (0..5_000).map(|n| (format!("l{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
        let addresses: Vec<Value> =
            (0..5_000).map(|_| json!({"type": "InternalIP", "address": "192.0.2.1"})).collect();
        let mut labels = labels;
        labels["fairlead.dev/drain"] = json!("true");
        let object =
            json!({"metadata": {"name": "n1", "labels": labels}, "status": {"addresses": addresses}});
        let (_, node, _) = node(from_value(object).unwrap(), false);
        assert_eq!((node.internal_ips.len(), node.labels.is_empty()), (64, true));
        assert_eq!(node.drain, Some(DrainCause::Label), "the labels of Fairlead itself are read");
        // The API server accepts 1,000 endpoints. Their nodes need not exist.
        let endpoints: Vec<Value> = (0..1_000).map(|n| json!({"nodeName": format!("{n:0>250}")})).collect();
        let slice = trimmed_slice(json!(endpoints)).unwrap();
        assert_eq!((slice.ready.nodes(), slice.ready.on(&format!("{:0>250}", 7))), (1_000, 1));
        assert!(format!("{slice:?}").len() < 64 * 1024, "names are not stored");
    }

    #[test]
    fn drain_has_a_cause() {
        let label = |value: &str| json!({"metadata": {"labels": {"fairlead.dev/drain": value}}});
        let taint =
            |key: &str| json!({"spec": {"taints": [{"key": "a"}, {"key": key, "effect": "NoExecute"}]}});
        let ready = |status: &str, message: &str| {
            let condition =
                json!({"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": message});
            json!({"status": {"conditions": [condition]}})
        };
        let cordoned = || json!({"spec": {"unschedulable": true}});
        for (object, drain_cordoned, expected) in [
            (label(""), false, Some(DrainCause::Label)),
            (label("true"), false, Some(DrainCause::Label)),
            (label("false"), false, None),
            (taint("node.kubernetes.io/out-of-service"), false, Some(DrainCause::OutOfService)),
            (taint("node.kubernetes.io/unschedulable"), true, None),
            (ready("False", "node is shutting down"), false, Some(DrainCause::ShuttingDown)),
            (
                ready("False", "[container runtime is down, node is shutting down]"),
                false,
                Some(DrainCause::ShuttingDown),
            ),
            (ready("False", "container runtime is down"), false, None),
            (ready("True", "node is shutting down"), false, None),
            (cordoned(), false, None),
            (cordoned(), true, Some(DrainCause::Cordoned)),
            (json!({"spec": {"taints": null, "unschedulable": null}}), true, None),
        ] {
            let read = node(from_value(object.clone()).unwrap(), drain_cordoned).1;
            assert_eq!(read.drain, expected, "{object}");
        }
    }
}
