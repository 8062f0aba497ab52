//! The inputs of the plan: Kubernetes objects, trimmed to the fields that announcements depend on.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Config, Labels, Pool};
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
        }
    }
}

/// The endpoints of an EndpointSlice that can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's namespace.
    pub service: String,
    /// True if any endpoint can serve, on whatever node.
    pub serving: bool,
    /// Nodes with an endpoint that can serve; sorted, without duplicates.
    pub nodes: Vec<NodeName>,
}

impl Slice {
    /// Returns a slice from the node of each endpoint that can serve; `None` for an endpoint without a node.
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
    /// Matched by node selectors.
    pub labels: Labels,
    /// True if the Node has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
    /// True if the condition `NetworkUnavailable` of the Node is true.
    pub network_unavailable: bool,
    /// Addresses of type `InternalIP`, in order.
    pub internal_ips: Vec<IpAddr>,
}

impl Node {
    /// Returns whether the node may announce anything at all.
    pub fn usable(&self) -> bool {
        !self.excluded && !self.network_unavailable
    }
}

/// `namespace/name` of an EndpointSlice.
pub type SliceKey = ObjectKey;
