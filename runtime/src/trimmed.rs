//! Kubernetes objects without unused metadata.
//!
//! `managedFields` is most of a small object: decoding it costs more than decoding all other fields, for each
//! event of a watch. Of a Service, the managers of its load balancer status are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fairlead_crds::model::managers::{Manager, of_load_balancer};
use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Resource;
use serde::{Deserialize, Deserializer};

/// An object that was decoded without `ownerReferences` and `finalizers`. Of `managedFields`, only what
/// [`of_load_balancer`] returns is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trimmed<K>(pub K);

/// The metadata that is decoded.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    managed_fields: Option<Vec<Manager>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
            managed_fields: metadata.managed_fields.and_then(of_load_balancer),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for Trimmed<Service> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
            spec: Option<ServiceSpec>,
            status: Option<ServiceStatus>,
        }
        let Object { metadata, spec, status } = Object::deserialize(deserializer)?;
        Ok(Self(Service { metadata: metadata.into(), spec, status }))
    }
}

impl<'de> Deserialize<'de> for Trimmed<EndpointSlice> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
            address_type: Option<String>,
            // The API server encodes an empty list as null.
            endpoints: Option<Vec<Endpoint>>,
            ports: Option<Vec<EndpointPort>>,
        }
        let Object { metadata, address_type, endpoints, ports } = Object::deserialize(deserializer)?;
        Ok(Self(EndpointSlice {
            metadata: metadata.into(),
            address_type: address_type.unwrap_or_default(),
            endpoints: endpoints.unwrap_or_default(),
            ports,
        }))
    }
}

impl<K: Resource> Resource for Trimmed<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn metadata() -> Value {
        json!({
            "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "labels": { "app": "web" }, "annotations": { "fairlead.dev/address-pool": "p" },
            "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": { "f:type": {} } } }],
        })
    }

    #[test]
    fn service_is_decoded_without_managed_fields() {
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(),
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] } },
        });
        let mut whole: Service = from_value(object.clone()).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        assert_eq!(from_value::<Trimmed<Service>>(object).unwrap(), Trimmed(whole));
    }

    #[test]
    fn slice_is_decoded_without_managed_fields() {
        for endpoints in [json!([{ "addresses": ["10.0.0.1"], "nodeName": "n1" }]), json!([]), Value::Null] {
            let object = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(),
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "port": 80 }],
            });
            let mut whole: EndpointSlice = from_value(object.clone()).unwrap();
            assert!(whole.metadata.managed_fields.take().is_some());
            assert_eq!(from_value::<Trimmed<EndpointSlice>>(object).unwrap(), Trimmed(whole));
        }
    }

    #[test]
    fn trimmed_object_has_the_path_of_the_object() {
        assert_eq!(Trimmed::<Service>::url_path(&(), Some("a")), Service::url_path(&(), Some("a")));
        assert_eq!(Trimmed::<EndpointSlice>::url_path(&(), None), EndpointSlice::url_path(&(), None));
        assert_eq!(from_value::<Trimmed<Service>>(json!({})).unwrap(), Trimmed::default());
    }
}
