//! Objects of other kinds as the API server stores them, without the unused fields.
//!
//! Fields have the names of their types in k8s-openapi. Those types are not used: they reject an object whose
//! conditions lack a time, and they decode `managedFields`, which is most of a small object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::conditions::RawCondition;
use crate::model::managers::{Manager, of_load_balancer};
use crate::read::{Decoded, ReadObject, decode, null_as_default, optional_time};
use crate::v1beta1;

/// The maximum number of addresses, and of Pod ranges, that are read of a Node. A Node has few; but the
/// kubelet of a compromised node could otherwise take all addresses of a pool.
pub const MAX_NODE_ADDRESSES: usize = 64;

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Service {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<ServiceSpec>,
    pub status: Option<ServiceStatus>,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: Option<String>,
    pub load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub ip_family_policy: Option<String>,
    pub external_traffic_policy: Option<String>,
    pub ports: Option<Vec<ServicePort>>,
    pub selector: Option<BTreeMap<String, String>>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct ServicePort {
    pub port: i32,
    pub protocol: Option<String>,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ServiceStatus {
    pub load_balancer: Option<LoadBalancerStatus>,
    pub conditions: Option<Vec<RawCondition>>,
}

/// `status.loadBalancer` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct LoadBalancerStatus {
    pub ingress: Option<Vec<LoadBalancerIngress>>,
}

/// An entry of `status.loadBalancer.ingress`. Entries of other controllers are written back unchanged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct LoadBalancerIngress {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Value>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct EndpointSlice {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "null_as_default")]
    pub address_type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Endpoint {
    pub conditions: Option<EndpointConditions>,
    pub node_name: Option<String>,
}

/// The conditions of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Node {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<NodeSpec>,
    pub status: Option<NodeStatus>,
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
    pub unschedulable: Option<bool>,
    pub taints: Option<Vec<Taint>>,
}

/// A taint of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Taint {
    #[serde(deserialize_with = "null_as_default")]
    pub key: String,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NodeStatus {
    pub conditions: Option<Vec<RawCondition>>,
    pub addresses: Option<Vec<NodeAddress>>,
}

/// An address of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NodeAddress {
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub type_: String,
    #[serde(deserialize_with = "null_as_default")]
    pub address: String,
}

/// A ServiceCIDR: ranges of the cluster IPs of Services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ServiceCIDR {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<ServiceCIDRSpec>,
}

/// `spec` of a ServiceCIDR.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ServiceCIDRSpec {
    pub cidrs: Option<Vec<String>>,
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Namespace {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

/// The metadata of a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct DaemonSet {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

/// The metadata of a CustomResourceDefinition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct CustomResourceDefinition {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

/// A Secret.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Secret {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(rename = "type")]
    pub type_: Option<String>,
    pub data: Option<BTreeMap<String, ByteString>>,
}

impl fmt::Debug for Secret {
    /// Leaves out the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.metadata.name).field("type", &self.type_).finish()
    }
}

/// A Speaker, with the conditions of its status.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Speaker {
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "null_as_default")]
    pub spec: SpeakerSpec,
    #[serde(deserialize_with = "null_as_default")]
    pub status: SpeakerStatus,
}

/// `status` of a Speaker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct SpeakerStatus {
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<RawCondition>,
}

/// `spec` of a Speaker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SpeakerSpec {
    pub mesh: Option<v1beta1::Mesh>,
    pub load_balancer_class: Option<String>,
}

/// The metadata that is decoded.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    #[serde(deserialize_with = "optional_time")]
    creation_timestamp: Option<Time>,
    #[serde(deserialize_with = "optional_time")]
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
    managed_fields: Option<Vec<Manager>>,
}

/// Deserializes metadata without `ownerReferences` and other unused fields. Of `managedFields`,
/// only what [`of_load_balancer`] returns is kept.
///
/// # Errors
/// Returns an error if a field has an unexpected type.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let metadata: Metadata = null_as_default(deserializer)?;
    Ok(ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        generation: metadata.generation,
        creation_timestamp: metadata.creation_timestamp,
        deletion_timestamp: metadata.deletion_timestamp,
        labels: metadata.labels,
        annotations: metadata.annotations,
        finalizers: metadata.finalizers,
        managed_fields: metadata.managed_fields.and_then(of_load_balancer),
        ..ObjectMeta::default()
    })
}

/// Implements [`ReadObject`], and [`Resource`] with the name and path of another type.
macro_rules! resources {
    ($($type:ident => $kind:ty,)*) => {$(
        impl ReadObject for $type {
            fn read(json: &str) -> Decoded<Self> {
                decode(json)
            }
        }

        impl Resource for $type {
            type DynamicType = ();
            type Scope = <$kind as Resource>::Scope;

            fn kind(dt: &()) -> Cow<'_, str> {
                <$kind as Resource>::kind(dt)
            }

            fn group(dt: &()) -> Cow<'_, str> {
                <$kind as Resource>::group(dt)
            }

            fn version(dt: &()) -> Cow<'_, str> {
                <$kind as Resource>::version(dt)
            }

            fn plural(dt: &()) -> Cow<'_, str> {
                <$kind as Resource>::plural(dt)
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

resources! {
    Service => core::Service,
    EndpointSlice => discovery::EndpointSlice,
    Node => core::Node,
    ServiceCIDR => networking::ServiceCIDR,
    Namespace => core::Namespace,
    Secret => core::Secret,
    DaemonSet => apps::DaemonSet,
    CustomResourceDefinition => apiextensions::CustomResourceDefinition,
    Speaker => v1beta1::Speaker,
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn metadata_of(extra: &Value) -> Value {
        let mut metadata = json!({
            "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "labels": { "app": "web" }, "annotations": { "fairlead.dev/address-pool": "p" },
            "finalizers": ["example.com/keep"],
        });
        let fields = metadata.as_object_mut().unwrap();
        fields.extend(extra.as_object().unwrap().clone());
        metadata
    }

    #[test]
    fn metadata_is_decoded_with_managers_of_load_balancer() {
        let fields = json!({ "f:status": { "f:loadBalancer": {} } });
        let managed = |fields: Value| {
            json!({ "managedFields": [{
                "manager": "kubectl", "subresource": "status", "time": "2026-01-01T00:00:00Z",
                "fieldsV1": fields,
            }] })
        };
        let read: Namespace = from_value(json!({ "metadata": metadata_of(&managed(fields)) })).unwrap();
        let whole: core::Namespace =
            from_value(json!({ "metadata": metadata_of(&managed(Value::Null)) })).unwrap();
        assert_eq!(read.metadata, whole.metadata);
        let other = managed(json!({ "f:spec": {} }));
        let read: Namespace = from_value(json!({ "metadata": metadata_of(&other) })).unwrap();
        assert_eq!(read.metadata.managed_fields, None);
    }

    #[test]
    fn object_without_fields_is_the_default() {
        assert_eq!(from_value::<Service>(json!({ "metadata": null })).unwrap(), Service::default());
        let empty = json!({ "endpoints": null, "ports": null, "addressType": null });
        assert_eq!(from_value::<EndpointSlice>(empty).unwrap(), EndpointSlice::default());
        let empty = json!({ "status": { "conditions": null, "addresses": [{}] } });
        let status = NodeStatus { conditions: None, addresses: Some(vec![NodeAddress::default()]) };
        assert_eq!(from_value::<Node>(empty).unwrap().status, Some(status));
        assert_eq!(from_value::<Speaker>(json!({ "spec": { "mesh": null } })).unwrap(), Speaker::default());
    }

    #[test]
    fn type_has_the_path_of_its_kind() {
        assert_eq!(Service::url_path(&(), Some("a")), core::Service::url_path(&(), Some("a")));
        let (read, whole) =
            (EndpointSlice::url_path(&(), None), discovery::EndpointSlice::url_path(&(), None));
        assert_eq!(read, whole);
        assert_eq!(Node::url_path(&(), None), core::Node::url_path(&(), None));
        assert_eq!(Namespace::url_path(&(), None), core::Namespace::url_path(&(), None));
        assert_eq!(ServiceCIDR::url_path(&(), None), networking::ServiceCIDR::url_path(&(), None));
        assert_eq!(Speaker::url_path(&(), None), v1beta1::Speaker::url_path(&(), None));
        assert_eq!(Secret::url_path(&(), Some("a")), core::Secret::url_path(&(), Some("a")));
    }

    #[test]
    fn service_with_unusual_status_is_decoded() {
        for condition in [
            json!({ "type": "example.com/Y", "status": "True" }),
            json!({ "type": "example.com/Y", "status": "True", "lastTransitionTime": null }),
            json!({ "type": "example.com/Y", "lastTransitionTime": "9999-12-31T23:59:59-12:00" }),
            json!({ "type": 7, "status": ["True"] }),
            json!("text"),
            Value::Null,
        ] {
            let object = json!({
                "metadata": metadata_of(&json!({ "deletionTimestamp": "9999-12-31T23:59:59-12:00" })),
                "spec": { "type": "LoadBalancer", "ports": null },
                "status": {
                    "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ports": [{ "port": -1 }] }] },
                    "conditions": [condition],
                },
            });
            let read = decode::<Service>(&object.to_string());
            assert_eq!(read.problem, None, "{condition}");
            assert!(read.value.metadata.deletion_timestamp.is_some());
            let status = read.value.status.unwrap();
            assert_eq!(status.load_balancer.unwrap().ingress.unwrap()[0].ip.as_deref(), Some("192.0.2.1"));
            assert_eq!(serde_json::to_value(status.conditions).unwrap(), json!([condition]));
        }
    }
}
