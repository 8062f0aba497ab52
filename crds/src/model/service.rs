//! The few fields of a Service that decisions need.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;

use crate::model::labels::Labels;
use crate::names;

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
    /// Sharing key of `allow-shared-ip`. Of two spellings that say different things the first; see [`Requested`].
    pub sharing_key: Option<String>,
    /// `(protocol, port)` of each Service port, of a Service that has a sharing key; else empty.
    pub ports: BTreeSet<(String, u16)>,
    /// `spec.selector`, compared when Services of policy `Local` share an address; else empty.
    pub selector: Labels,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Addresses in `status.loadBalancer.ingress`, in order; entries without a valid `ip` are left out.
    pub ingress: Vec<IpAddr>,
    /// Pools of the `ip-allocated-from-pool` annotation, for [`pool_of_nth`].
    pub allocated_from: Option<String>,
}

/// The pool of the `n`th address of a Service, after its `ip-allocated-from-pool` annotation: one name for all
/// addresses, or one for each, separated by commas.
pub fn pool_of_nth(allocated_from: &str, n: usize) -> &str {
    let mut names = allocated_from.split(',').map(str::trim);
    let first = names.next().unwrap_or_default();
    if n == 0 { first } else { names.nth(n - 1).unwrap_or(first) }
}

/// What a Service asks for by annotations and fields, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Pool named by annotation. Two spellings with different values: both are here, in order.
    pub pools: Vec<String>,
    /// Texts of `load-balancer-ips` annotations and `spec.loadBalancerIP`, each a comma-separated list, without
    /// repetition, in order.
    pub addresses: Vec<String>,
    /// Sharing keys, where two spellings say different things; else empty.
    pub sharing_keys: Vec<String>,
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

impl LoadBalancer {
    /// The Service, if it is ours: of `type: LoadBalancer` and of our class. With `lb_class` not set, ours are
    /// the Services without `spec.loadBalancerClass`; with it set, those of exactly that class.
    pub fn from_service(service: &Service, lb_class: Option<&str>) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let class = lb_class.filter(|class| !class.is_empty());
        if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class {
            return None;
        }
        let annotations = service.annotations();
        let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let creation = service.creation_timestamp();
        let sharing_key = written(annotations, &names::ALLOW_SHARED_IP_SPELLINGS).next().map(str::to_owned);
        let mut sharing_keys = distinct(written(annotations, &names::ALLOW_SHARED_IP_SPELLINGS));
        if sharing_keys.len() == 1 {
            sharing_keys = Vec::new();
        }
        let traffic_policy = match spec.external_traffic_policy.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        let shares = sharing_key.is_some();
        let shares_locally = shares && traffic_policy == TrafficPolicy::Local;
        Some(Self {
            key: ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() },
            uid: service.uid().unwrap_or_default(),
            resource_version: service.resource_version().unwrap_or_default(),
            created: creation.map_or(0, |time| time.0.as_second()),
            labels: service.labels().clone(),
            cluster_ips: cluster_ips(spec),
            ip_family_policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => IpFamilyPolicy::PreferDualStack,
                Some("RequireDualStack") => IpFamilyPolicy::RequireDualStack,
                _ => IpFamilyPolicy::SingleStack,
            },
            requested: Requested {
                pools: distinct(written(annotations, &names::ADDRESS_POOL_SPELLINGS)),
                addresses: distinct(
                    written(annotations, &names::LOAD_BALANCER_IPS_SPELLINGS)
                        .chain(spec.load_balancer_ip.as_deref().map(str::trim).filter(|ip| !ip.is_empty())),
                ),
                sharing_keys,
            },
            sharing_key,
            ports: spec.ports.iter().flatten().filter(|_| shares).filter_map(protocol_and_port).collect(),
            selector: spec.selector.clone().filter(|_| shares_locally).unwrap_or_default(),
            traffic_policy,
            ingress: ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect(),
            allocated_from: written(annotations, &names::ALLOCATED_FROM_POOL_SPELLINGS)
                .next()
                .map(str::to_owned),
        })
    }
}

/// Values under any spelling of a key, without those that are empty.
fn written<'a>(annotations: &'a Labels, spellings: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let values = spellings.iter().filter_map(|key| annotations.get(*key));
    values.map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut values: Vec<String> = values.map(str::to_owned).collect();
    values.sort();
    values.dedup();
    values.shrink_to_fit();
    values
}

/// `spec.clusterIPs`, or `spec.clusterIP` where only that is set; `None` (headless) is no address.
fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten();
    let ips: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if !ips.is_empty() {
        return ips;
    }
    spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn protocol_and_port(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<(String, u16)> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    Some((protocol, u16::try_from(port.port).ok()?))
}
