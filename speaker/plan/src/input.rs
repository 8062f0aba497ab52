//! The inputs of the plan: Kubernetes objects, trimmed to the fields that announcements depend on.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Labels, Pool};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::route_request::RouteRequest;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey, TrafficPolicy};

/// Name of a node. The value is shared, because thousands of endpoints name few nodes.
pub type NodeName = Arc<str>;

/// A `type: LoadBalancer` Service of our class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Matched by the service selectors of advertisements.
    pub labels: Labels,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Addresses that the Service holds (`status.loadBalancer.ingress`).
    pub addresses: Vec<IpAddr>,
    /// Pools of the addresses: the value of the annotation `fairlead.dev/ip-allocated-from-pool`.
    pub allocated_from: Option<Box<str>>,
    /// Path attributes that the Service requests for its routes.
    pub route_request: Option<Arc<RouteRequest>>,
}

impl Service {
    /// Returns the pool from which an address was allocated.
    pub fn pool_of<'a>(&self, config: &'a Config, address: IpAddr) -> Option<&'a Pool> {
        let n = self.addresses.iter().position(|ip| *ip == address).unwrap_or_default();
        config.pool_of_held(address, n, self.allocated_from.as_deref())
    }

    /// Returns the names of the pools in the annotation.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        self.allocated_from.as_deref().into_iter().flat_map(|names| names.split(',')).map(str::trim)
    }
}

impl From<LoadBalancer> for Service {
    fn from(service: LoadBalancer) -> Self {
        Self {
            labels: service.labels,
            traffic_policy: service.traffic_policy,
            addresses: service.ingress,
            allocated_from: service.allocated_from.map(String::into_boxed_str),
            route_request: service.route_request,
        }
    }
}

/// The endpoints of an EndpointSlice that kube-proxy sends traffic to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's namespace.
    pub service: String,
    /// `addressType` of the slice.
    pub family: Family,
    /// Endpoints that are ready.
    pub ready: EndpointNodes,
    /// Endpoints that are terminating and still serve. They get traffic only while no endpoint is ready.
    pub terminating: EndpointNodes,
}

/// The nodes of a set of endpoints.
///
/// Of each node only a digest of its name is stored: an EndpointSlice has up to 1,000 endpoints, and each may
/// name another node, which need not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointNodes {
    any: bool,
    /// The digests of the nodes with an endpoint, sorted, and the number of endpoints on each.
    nodes: Box<[(u64, u32)]>,
}

impl EndpointNodes {
    /// Returns true if the set has an endpoint, on whatever node.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Returns the number of nodes with an endpoint.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the number of endpoints on a node.
    pub fn on(&self, node: &str) -> u32 {
        let digest = digest(node);
        let at = self.nodes.binary_search_by_key(&digest, |(known, _)| *known);
        at.ok().and_then(|at| self.nodes.get(at)).map_or(0, |(_, count)| *count)
    }
}

impl<S: AsRef<str>> FromIterator<Option<S>> for EndpointNodes {
    /// Collects the node of each endpoint; `None` for an endpoint without a node.
    fn from_iter<I: IntoIterator<Item = Option<S>>>(endpoints: I) -> Self {
        let mut any = false;
        let mut nodes: Vec<(u64, u32)> = Vec::new();
        for node in endpoints {
            any = true;
            nodes.extend(node.map(|node| (digest(node.as_ref()), 1)));
        }
        nodes.sort_unstable();
        nodes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            earlier.1 += u32::from(same);
            same
        });
        Self { any, nodes: nodes.into() }
    }
}

/// Returns a digest of the name of a node. A name with the digest of another node gives its author no
/// additional right: an endpoint can name that node itself.
fn digest(node: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    hasher.finish()
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Matched by node selectors.
    pub labels: Labels,
    /// True if the Node has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
    /// True if the condition `NetworkUnavailable` of the Node is true.
    pub network_unavailable: bool,
    /// Why the node is being drained; `None` if it is not.
    pub drain: Option<DrainCause>,
    /// Addresses of type `InternalIP`, in order.
    pub internal_ips: Vec<IpAddr>,
}

impl Node {
    /// Returns whether the node may announce anything at all.
    pub fn usable(&self) -> bool {
        !self.excluded && !self.network_unavailable && self.drain.is_none()
    }
}

/// Why a node is being drained. [`fmt::Display`] writes it as a sentence about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainCause {
    /// It has the label `fairlead.dev/drain`.
    Label,
    /// It has the taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// The kubelet shuts it down.
    ShuttingDown,
    /// It is cordoned, and the speakers drain cordoned nodes.
    Cordoned,
}

impl fmt::Display for DrainCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label => "the node has the label fairlead.dev/drain",
            Self::OutOfService => "the node has the taint node.kubernetes.io/out-of-service",
            Self::ShuttingDown => "the node is shutting down",
            Self::Cordoned => "the node is cordoned",
        })
    }
}

/// `namespace/name` of an EndpointSlice.
pub type SliceKey = ObjectKey;
