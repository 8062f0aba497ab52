//! Objects of Kubernetes without the metadata that nobody here reads.
//!
//! Most of a small object is `managedFields`: decoding them costs more than all the rest, for every event of a watch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Resource;
use serde::{Deserialize, Deserializer};

/// A Service whose metadata has no `managedFields`, owners and finalizers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeanService(pub Service);

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

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

impl<'de> Deserialize<'de> for LeanService {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, status } = Wire::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        };
        Ok(Self(Service { metadata, spec, status }))
    }
}

impl Resource for LeanService {
    type DynamicType = ();
    type Scope = <Service as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Service::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        <Service as Resource>::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        <Service as Resource>::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Service::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn everything_but_managed_fields_is_kept() {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
                "labels": { "app": "web" }, "annotations": { "fairlead.dev/address-pool": "p" },
                "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": { "f:type": {} } } }],
            },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] } },
        });
        let mut whole: Service = from_value(object.clone()).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        assert_eq!(from_value::<LeanService>(object).unwrap(), LeanService(whole));
    }

    #[test]
    fn it_is_a_service_to_the_api() {
        assert_eq!(LeanService::url_path(&(), Some("a")), Service::url_path(&(), Some("a")));
        assert_eq!(from_value::<LeanService>(json!({})).unwrap(), LeanService::default());
    }
}
