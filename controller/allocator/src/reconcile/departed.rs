//! Services that this controller handled and that exist but are no longer load balancers of its class: the
//! last patch removes what this controller has written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names;
use fairlead_crds::objects::Service;
use serde_json::{Value, json};

use super::condition_digest::{ConditionDigests, OWNED_CONDITIONS, is_ours};

/// A Service that the watch no longer delivers. It may be deleted or have another type or class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepartedService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The UID. A Service of the same name and another UID is another one.
    pub uid: String,
    /// What this controller has written; `None` if that is unknown, because it happened in an earlier term.
    pub written: Option<Written>,
    /// For a load balancer of another class: the class, which no instance of Fairlead handles. Then all that
    /// the Service carries of Fairlead is of this controller.
    pub unserved: Option<UnservedClass>,
}

/// A load balancer class that no instance of Fairlead handles, as far as the objects show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnservedClass(Option<String>);

/// A load balancer of another class that carries a condition or the annotation of Fairlead: another instance
/// has written it, or this one before the Service changed its class.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MarkedService {
    pub key: ObjectKey,
    uid: String,
    class: Option<String>,
}

impl MarkedService {
    /// Returns the Service if it is a load balancer of another class than `class`, and carries a condition or
    /// the annotation of Fairlead.
    pub fn of(service: &Service, class: Option<&str>) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let metadata = &service.metadata;
        let own = spec.load_balancer_class.as_deref() == class.filter(|class| !class.is_empty());
        if own || spec.type_.as_deref() != Some("LoadBalancer") {
            return None;
        }
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_deref());
        let annotations = metadata.annotations.as_ref();
        let marked = conditions.unwrap_or_default().iter().any(is_ours)
            || annotations.is_some_and(|annotations| annotations.contains_key(names::ALLOCATED_FROM_POOL));
        let key = ObjectKey { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? };
        marked.then_some(Self { key, uid: metadata.uid.clone()?, class: spec.load_balancer_class.clone() })
    }

    /// Returns the departed Service, unless its class is one of `served`, those of other instances: an
    /// instance replaces what it finds on its Services.
    pub fn departed(&self, served: &BTreeSet<Option<&str>>) -> Option<DepartedService> {
        (!served.contains(&self.class.as_deref())).then(|| DepartedService {
            key: self.key.clone(),
            uid: self.uid.clone(),
            written: None,
            unserved: Some(UnservedClass(self.class.clone())),
        })
    }
}

/// What this controller has written into the status of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The conditions as last observed and as last decided.
    pub conditions: Vec<ConditionDigests>,
    /// The annotation with the pools.
    pub pool_annotation: Option<String>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self { conditions: self.conditions.clone(), ..Self::default() }
            && self.conditions.iter().all(|digests| *digests == ConditionDigests::default())
    }
}

impl DepartedService {
    /// Returns the Service in a list of the Services of other types, if it carries a condition or the
    /// annotation of this controller.
    pub fn listed(service: &Value) -> Option<Self> {
        let text = |field: &str| service["metadata"][field].as_str().map(str::to_owned);
        let departed = Self {
            key: ObjectKey { namespace: text("namespace")?, name: text("name")? },
            uid: text("uid")?,
            written: None,
            unserved: None,
        };
        departed.patch(service, None).is_some().then_some(departed)
    }

    /// Returns true if the Service is a load balancer of another class, which is one of `served`.
    pub fn is_served(&self, served: &BTreeSet<Option<String>>) -> bool {
        self.unserved.as_ref().is_some_and(|class| served.contains(&class.0))
    }

    /// Returns the merge patch of the `status` subresource that removes the conditions, the annotation and
    /// the addresses of this controller from `service`, the Service as it is now. Returns `None` if there is
    /// nothing to remove, or if the Service is another one or of the class of this controller again.
    pub fn patch(&self, service: &Value, class: Option<&str>) -> Option<Value> {
        let (metadata, spec) = (&service["metadata"], &service["spec"]);
        if metadata["uid"].as_str() != Some(&self.uid) {
            return None;
        }
        let is_balancer = spec["type"].as_str() == Some("LoadBalancer");
        let present_class = spec["loadBalancerClass"].as_str();
        let is_unserved = self.unserved.as_ref().is_some_and(|class| class.0.as_deref() == present_class);
        // Another instance of Fairlead writes the same conditions into the Services of its class.
        let other_may_write = is_balancer && !is_unserved;
        if is_balancer && (present_class == class || (self.written.is_none() && !is_unserved)) {
            return None;
        }
        let mut body = json!({
            "metadata": { "uid": self.uid, "resourceVersion": metadata["resourceVersion"] },
        });
        let mut differs = false;

        let annotation = metadata["annotations"][names::ALLOCATED_FROM_POOL].as_str();
        let is_own = |value: &str| {
            let written = self.written.as_ref().and_then(|written| written.pool_annotation.as_deref());
            !other_may_write || written == Some(value)
        };
        if annotation.is_some_and(is_own) {
            body["metadata"]["annotations"] = json!({ names::ALLOCATED_FROM_POOL: null });
            differs = true;
        }

        let is_own = |condition: &Value| {
            let written = self.written.iter().flat_map(|written| &written.conditions);
            is_of_fairlead(condition)
                && (!other_may_write || written.clone().any(|digests| digests.contain(condition)))
        };
        differs |= remove(&service["status"]["conditions"], is_own, &mut body["status"]["conditions"]);

        let is_own = |entry: &Value| {
            let ip: Option<IpAddr> = entry["ip"].as_str().and_then(|ip| ip.parse().ok());
            let written = self.written.as_ref();
            ip.zip(written).is_some_and(|(ip, written)| written.addresses.contains(&ip))
        };
        let ingress = &service["status"]["loadBalancer"]["ingress"];
        differs |= remove(ingress, is_own, &mut body["status"]["loadBalancer"]["ingress"]);
        differs.then_some(body)
    }
}

/// Returns the merge patch of the `status` subresource that removes the conditions and the annotation of
/// Fairlead from a Service of any type. The addresses stay. Returns `None` if there are none.
pub fn uninstall_patch(service: &Value) -> Option<Value> {
    let metadata = &service["metadata"];
    let mut body = json!({
        "metadata": { "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"] },
    });
    let mut differs = false;
    if metadata["annotations"][names::ALLOCATED_FROM_POOL].is_string() {
        body["metadata"]["annotations"] = json!({ names::ALLOCATED_FROM_POOL: null });
        differs = true;
    }
    differs |= remove(&service["status"]["conditions"], is_of_fairlead, &mut body["status"]["conditions"]);
    differs.then_some(body)
}

fn is_of_fairlead(condition: &Value) -> bool {
    OWNED_CONDITIONS.map(Some).contains(&condition["type"].as_str())
}

/// Sets `rest` to the elements of a list for which `is_own` returns false, in the form of a merge patch.
/// Returns whether any element is removed.
fn remove(list: &Value, is_own: impl Fn(&Value) -> bool, rest: &mut Value) -> bool {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let kept: Vec<&Value> = list.iter().filter(|element| !is_own(element)).collect();
    let differs = kept.len() < list.len();
    *rest = if kept.is_empty() { Value::Null } else { json!(kept) };
    differs
}
