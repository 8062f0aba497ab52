//! The parts of a Service that decisions need.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kube::ResourceExt;

use crate::model::labels::{LabelBounds, LabelExcess, Labels, PodSelector};
use crate::model::route_request::RouteRequest;
use crate::objects::{Service, ServicePort, ServiceSpec};
use crate::{names, text};

/// The maximum number of ports of a Service that shares an address.
pub const MAX_PORTS: usize = 4096;
/// The maximum number of entries of `status.loadBalancer.ingress` that are read.
const MAX_INGRESS: usize = 64;

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
    /// True if the Service is being deleted.
    pub is_deleting: bool,
    pub labels: Labels,
    /// Empty for a headless Service, and until the cluster assigns an address.
    pub cluster_ips: Vec<IpAddr>,
    pub ip_family_policy: IpFamilyPolicy,
    pub requested: Requested,
    /// The value of `allow-shared-ip`. If two spellings of the annotation differ, the value of the first; see
    /// [`Requested`].
    pub sharing_key: Option<String>,
    /// The ports: ascending, without duplicates, and at most [`MAX_PORTS`]. Empty without a sharing key.
    pub ports: Arc<[Port]>,
    /// `spec.selector`, which is compared if Services with the policy `Local` share an address; else empty.
    pub selector: PodSelector,
    pub traffic_policy: TrafficPolicy,
    /// The addresses in `status.loadBalancer.ingress`, in order, without entries that have no valid `ip`; at
    /// most 64.
    pub ingress: Vec<IpAddr>,
    /// The value of the `ip-allocated-from-pool` annotation; see [`pool_of_nth`].
    pub allocated_from: Option<String>,
    /// The path attributes that the Service requests for its routes.
    pub route_request: Option<Arc<RouteRequest>>,
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
    /// The first request that is longer than [`text::MAX_REQUEST`]. Such requests are not stored.
    pub too_long: Option<TooLong>,
    /// What else is too large to be stored. The request is invalid.
    pub excess: Option<Excess>,
}

/// A part of a Service that is too large to be stored. It is displayed as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// `metadata.labels`.
    Labels(LabelExcess),
    /// `spec.ports` of a Service that shares an address has so many entries.
    Ports(usize),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels(excess) => write!(f, "the Service has {excess}: remove some"),
            Self::Ports(ports) => write!(
                f,
                "the Service has {ports} ports, and a Service that shares an address may have at most {MAX_PORTS}: \
                 remove some, or the sharing key"
            ),
        }
    }
}

/// A protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

/// A request that is too long to be stored. It is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The key of the annotation, or the field.
    pub source: &'static str,
    /// The length in octets.
    pub length: usize,
}

impl Requested {
    /// Returns true if the sharing key of the Service is not known, because its annotations contradict each
    /// other or are too long.
    pub fn lacks_sharing_key(&self) -> bool {
        let is_too_long = |too_long: TooLong| names::ALLOW_SHARED_IP_SPELLINGS.contains(&too_long.source);
        !self.sharing_keys.is_empty() || self.too_long.is_some_and(is_too_long)
    }
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, length } = self;
        write!(
            f,
            "{source} is too long: it has {length} octets, and at most {} are allowed",
            text::MAX_REQUEST
        )
    }
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
        let mut too_long = None;
        let keys = requests(annotations, &names::ALLOW_SHARED_IP_SPELLINGS, &mut too_long);
        let sharing_key = keys.first().filter(|_| too_long.is_none()).map(|key| (*key).to_owned());
        let mut sharing_keys = distinct(keys);
        if sharing_keys.len() == 1 {
            sharing_keys = Vec::new();
        }
        let pools = requests(annotations, &names::ADDRESS_POOL_SPELLINGS, &mut too_long);
        let mut addresses = requests(annotations, &names::LOAD_BALANCER_IPS_SPELLINGS, &mut too_long);
        addresses.extend(request("spec.loadBalancerIP", spec.load_balancer_ip.as_deref(), &mut too_long));
        let traffic_policy = match spec.external_traffic_policy.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        let labels = Labels::within(LabelBounds::Users, service.labels());
        let excess = labels.excess().map(Excess::Labels);
        let mut requested = Requested {
            pools: distinct(pools),
            addresses: distinct(addresses),
            sharing_keys,
            too_long,
            excess,
        };
        // An earlier sharing key remains in effect until the Service has a valid one.
        let shares = sharing_key.is_some() || requested.lacks_sharing_key();
        let shares_locally = shares && traffic_policy == TrafficPolicy::Local;
        let selector = spec.selector.as_ref().filter(|selector| shares_locally && !selector.is_empty());
        let mut ports: Vec<Port> = spec.ports.iter().flatten().filter(|_| shares).filter_map(port).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > MAX_PORTS {
            requested.excess.get_or_insert(Excess::Ports(ports.len()));
            ports.truncate(MAX_PORTS);
        }
        Some(Self {
            key: ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() },
            uid: service.uid().unwrap_or_default(),
            resource_version: service.resource_version().unwrap_or_default(),
            created: creation.map_or(0, |time| time.0.as_second()),
            is_deleting: service.metadata.deletion_timestamp.is_some(),
            labels,
            cluster_ips: cluster_ips(spec),
            ip_family_policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => IpFamilyPolicy::PreferDualStack,
                Some("RequireDualStack") => IpFamilyPolicy::RequireDualStack,
                _ => IpFamilyPolicy::SingleStack,
            },
            requested,
            sharing_key,
            ports: ports.into(),
            selector: selector.map(PodSelector::from).unwrap_or_default(),
            traffic_policy,
            ingress: ingress
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ip.as_ref()?.parse().ok())
                .take(MAX_INGRESS)
                .collect(),
            allocated_from: allocated_from(annotations),
            route_request: RouteRequest::from_annotations(annotations).map(Arc::new),
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

/// Returns the first value of the `ip-allocated-from-pool` annotations that is set, unless no controller can
/// have written it.
fn allocated_from(annotations: &BTreeMap<String, String>) -> Option<String> {
    let values = names::ALLOCATED_FROM_POOL_SPELLINGS.iter().filter_map(|key| annotations.get(*key));
    let value = values.map(|value| value.trim()).find(|value| !value.is_empty())?;
    let names = value.splitn(3, ',').map(str::trim);
    names.clone().count().le(&2).then_some(())?;
    names.clone().all(text::is_name).then(|| value.to_owned())
}

/// Returns the requests under all spellings of a key, except empty ones. Sets `too_long` if one of them is
/// too long.
fn requests<'a>(
    annotations: &'a BTreeMap<String, String>,
    spellings: &[&'static str],
    too_long: &mut Option<TooLong>,
) -> Vec<&'a str> {
    let mut value = |key: &&'static str| request(key, annotations.get(*key).map(String::as_str), too_long);
    spellings.iter().filter_map(&mut value).collect()
}

/// Returns a request, unless it is empty. If it is too long, sets `too_long` instead.
fn request<'a>(
    source: &'static str,
    text: Option<&'a str>,
    too_long: &mut Option<TooLong>,
) -> Option<&'a str> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
    if text.len() > text::MAX_REQUEST {
        too_long.get_or_insert(TooLong { source, length: text.len() });
        return None;
    }
    Some(text)
}

fn distinct(values: Vec<&str>) -> Vec<String> {
    let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
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

fn port(port: &ServicePort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        // TCP is the default of a ServicePort.
        _ => Protocol::Tcp,
    };
    Some(Port { protocol, number: u16::try_from(port.port).ok()? })
}
