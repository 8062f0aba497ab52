//! The parts of a Service that decisions need.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;

use crate::model::labels::Labels;
use crate::names;

/// The namespace and name of an object. It is displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service of type LoadBalancer and of the load balancer class of Fairlead.
///
/// Fields in which a user can make mistakes contain the text as written (`requested`): the decision that uses
/// the field reports the error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LoadBalancer {
    pub key: ObjectKey,
    /// The UID, which differs if the Service is deleted and created again.
    pub uid: String,
    /// `metadata.resourceVersion` of the object that this value was read from.
    pub resource_version: String,
    /// Creation time in seconds since the epoch. Older Services take precedence.
    pub created: i64,
    pub labels: Labels,
    /// Empty for a headless Service, and until the cluster assigns an address.
    pub cluster_ips: Vec<IpAddr>,
    pub ip_family_policy: IpFamilyPolicy,
    pub requested: Requested,
    /// The value of `allow-shared-ip`. If two spellings of the annotation differ, the value of the first; see
    /// [`Requested`].
    pub sharing_key: Option<String>,
    /// `(protocol, port)` of each port. Empty without a sharing key.
    pub ports: BTreeSet<(String, u16)>,
    /// `spec.selector`, which is compared if Services with the policy `Local` share an address; else empty.
    pub selector: Labels,
    pub traffic_policy: TrafficPolicy,
    /// The addresses in `status.loadBalancer.ingress`, in order, without entries that have no valid `ip`.
    pub ingress: Vec<IpAddr>,
    /// The value of the `ip-allocated-from-pool` annotation; see [`pool_of_nth`].
    pub allocated_from: Option<String>,
}

/// The requests of a Service in annotations and fields, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// The pool in the annotation. If two spellings of the annotation differ, both values, sorted.
    pub pools: Vec<String>,
    /// The values of the `load-balancer-ips` annotations and of `spec.loadBalancerIP`, each a comma-separated
    /// list, sorted and without duplicates.
    pub addresses: Vec<String>,
    /// The sharing keys if two spellings of the annotation differ; else empty.
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
    /// Reads a Service. Returns `None` unless the Service has `type: LoadBalancer` and the class of Fairlead:
    /// without `lb_class` no `spec.loadBalancerClass`, else exactly that class.
    pub fn from_service(service: &Service, lb_class: Option<&str>) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let class = lb_class.filter(|class| !class.is_empty());
        if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class {
            return None;
        }
        let annotations = service.annotations();
        let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let creation = service.creation_timestamp();
        let sharing_key = values(annotations, &names::ALLOW_SHARED_IP_SPELLINGS).next().map(str::to_owned);
        let mut sharing_keys = distinct(values(annotations, &names::ALLOW_SHARED_IP_SPELLINGS));
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
                pools: distinct(values(annotations, &names::ADDRESS_POOL_SPELLINGS)),
                addresses: distinct(
                    values(annotations, &names::LOAD_BALANCER_IPS_SPELLINGS)
                        .chain(spec.load_balancer_ip.as_deref().map(str::trim).filter(|ip| !ip.is_empty())),
                ),
                sharing_keys,
            },
            sharing_key,
            ports: spec.ports.iter().flatten().filter(|_| shares).filter_map(protocol_and_port).collect(),
            selector: spec.selector.clone().filter(|_| shares_locally).unwrap_or_default(),
            traffic_policy,
            ingress: ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect(),
            allocated_from: values(annotations, &names::ALLOCATED_FROM_POOL_SPELLINGS)
                .next()
                .map(str::to_owned),
        })
    }
}

/// Returns the pool of the `n`th address of a Service from the value of its `ip-allocated-from-pool`
/// annotation: one name for all addresses, or one name per address, separated by commas.
pub fn pool_of_nth(allocated_from: &str, n: usize) -> &str {
    let mut names = allocated_from.split(',').map(str::trim);
    let first = names.next().unwrap_or_default();
    if n == 0 { first } else { names.nth(n - 1).unwrap_or(first) }
}

/// Returns the values under all spellings of a key, except empty ones.
fn values<'a>(annotations: &'a Labels, spellings: &'a [&str]) -> impl Iterator<Item = &'a str> {
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

/// Returns `spec.clusterIPs`, or `spec.clusterIP` if only that is set. The value `None` (headless) is not an
/// address.
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
