//! The few fields of a Service that decisions need.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::Labels;

/// `namespace/name` of a namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `type: LoadBalancer` Service of our class, trimmed to what is used.
///
/// Fields that a person writes stay as written where they can be wrong (`requested`): the decision that uses
/// them reports the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID, to tell a recreated Service from the old one.
    pub uid: String,
    /// `metadata.resourceVersion` that was seen.
    pub resource_version: String,
    /// Creation time, seconds since the epoch: older Services come first.
    pub created: i64,
    /// Labels.
    pub labels: Labels,
    /// Cluster IPs; empty for a Service that has none (yet).
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilyPolicy`.
    pub ip_family_policy: IpFamilyPolicy,
    /// What the Service asks for.
    pub requested: Requested,
    /// Sharing key of `allow-shared-ip`.
    pub sharing_key: Option<String>,
    /// `(protocol, port)` of each Service port.
    pub ports: BTreeSet<(String, u16)>,
    /// `spec.selector`, compared when Services of policy `Local` share an address.
    pub selector: Labels,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Addresses in `status.loadBalancer.ingress`, in order; entries without a valid `ip` are left out.
    pub ingress: Vec<IpAddr>,
    /// Value of the `ip-allocated-from-pool` annotation.
    pub allocated_from: Option<String>,
}

/// What a Service asks for by annotations and fields, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Pool named by annotation. Two spellings with different values: both are here.
    pub pools: BTreeSet<String>,
    /// Texts of `load-balancer-ips` annotations and `spec.loadBalancerIP`, each a comma-separated list.
    pub addresses: BTreeSet<String>,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum IpFamilyPolicy {
    #[default]
    SingleStack,
    PreferDualStack,
    RequireDualStack,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}
