//! What the plan is made from: objects of Kubernetes, trimmed to the fields that announcements depend on.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Labels, Pool};
use fairlead_crds::model::service::{LoadBalancer, ObjectKey, TrafficPolicy};

/// Name of a node. Shared: thousands of endpoints name few nodes.
pub type NodeName = Arc<str>;

/// A `type: LoadBalancer` Service of our class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Labels, for the service selectors of advertisements.
    pub labels: Labels,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Addresses the Service holds (`status.loadBalancer.ingress`).
    pub addresses: Vec<IpAddr>,
    /// The pools they are from, as the controller has noted it.
    pub allocated_from: Option<Box<str>>,
}

impl Service {
    /// The pool that the Service holds an address of.
    pub fn pool_of<'a>(&self, config: &'a Config, address: IpAddr) -> Option<&'a Pool> {
        let n = self.addresses.iter().position(|ip| *ip == address).unwrap_or_default();
        config.pool_of_held(address, n, self.allocated_from.as_deref())
    }

    /// The pools that it says its addresses are from.
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
        }
    }
}

/// An EndpointSlice: where its Service has endpoints that can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's namespace.
    pub service: String,
    /// Whether any endpoint can serve, on whatever node.
    pub serving: bool,
    /// Nodes with an endpoint that can serve; sorted, each once.
    pub nodes: Vec<NodeName>,
}

impl Slice {
    /// A slice with endpoints that can serve on these nodes (`None`: an endpoint that is on no node).
    pub fn new(service: impl Into<String>, serving: impl IntoIterator<Item = Option<NodeName>>) -> Self {
        let mut slice = Self { service: service.into(), serving: false, nodes: Vec::new() };
        for node in serving {
            slice.serving = true;
            slice.nodes.extend(node);
        }
        slice.nodes.sort();
        slice.nodes.dedup();
        slice.nodes.shrink_to_fit();
        slice
    }
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Labels, for node selectors.
    pub labels: Labels,
    /// Bears the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
    /// Its condition `NetworkUnavailable` is true.
    pub network_unavailable: bool,
    /// Addresses of type `InternalIP`, in order.
    pub internal_ips: Vec<IpAddr>,
}

impl Node {
    /// Whether the node may announce anything at all.
    pub fn usable(&self) -> bool {
        !self.excluded && !self.network_unavailable
    }
}

/// `namespace/name` of an EndpointSlice.
pub type SliceKey = ObjectKey;
