//! Objects of Kubernetes without the metadata that nobody here reads.
//!
//! Most of a small object is `managedFields`: decoding them costs more than all the rest, for every event of a watch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Resource;
use serde::{Deserialize, Deserializer};

/// An object whose metadata has no `managedFields`, owners and finalizers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lean<K>(pub K);

/// What is read of an object's metadata.
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
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for Lean<Service> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            metadata: Metadata,
            spec: Option<ServiceSpec>,
            status: Option<ServiceStatus>,
        }
        let Whole { metadata, spec, status } = Whole::deserialize(deserializer)?;
        Ok(Self(Service { metadata: metadata.into(), spec, status }))
    }
}

impl<'de> Deserialize<'de> for Lean<EndpointSlice> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Whole {
            #[serde(default)]
            metadata: Metadata,
            address_type: Option<String>,
            // The API server writes null for an empty list.
            endpoints: Option<Vec<Endpoint>>,
            ports: Option<Vec<EndpointPort>>,
        }
        let Whole { metadata, address_type, endpoints, ports } = Whole::deserialize(deserializer)?;
        Ok(Self(EndpointSlice {
            metadata: metadata.into(),
            address_type: address_type.unwrap_or_default(),
            endpoints: endpoints.unwrap_or_default(),
            ports,
        }))
    }
}

impl<K: Resource> Resource for Lean<K> {
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
    fn of_a_service_everything_but_managed_fields_is_kept() {
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(),
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] } },
        });
        let mut whole: Service = from_value(object.clone()).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        assert_eq!(from_value::<Lean<Service>>(object).unwrap(), Lean(whole));
    }

    #[test]
    fn of_a_slice_everything_but_managed_fields_is_kept() {
        for endpoints in [json!([{ "addresses": ["10.0.0.1"], "nodeName": "n1" }]), json!([]), Value::Null] {
            let object = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(),
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "port": 80 }],
            });
            let mut whole: EndpointSlice = from_value(object.clone()).unwrap();
            assert!(whole.metadata.managed_fields.take().is_some());
            assert_eq!(from_value::<Lean<EndpointSlice>>(object).unwrap(), Lean(whole));
        }
    }

    #[test]
    fn to_the_api_it_is_what_it_is_without() {
        assert_eq!(Lean::<Service>::url_path(&(), Some("a")), Service::url_path(&(), Some("a")));
        assert_eq!(Lean::<EndpointSlice>::url_path(&(), None), EndpointSlice::url_path(&(), None));
        assert_eq!(from_value::<Lean<Service>>(json!({})).unwrap(), Lean::default());
    }
}
