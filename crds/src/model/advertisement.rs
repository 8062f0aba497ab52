//! Advertisements of addresses by L2 and by BGP.

use std::collections::BTreeSet;

use crate::model::community::Community;
use crate::model::pool::PoolSelection;
use crate::model::route_request::ServiceAttributes;
use crate::model::selector::Selector;

/// Announcement of addresses on the local link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct L2Advertisement {
    pub name: String,
    pub pools: PoolSelection,
    /// Nodes that may announce; one matching selector suffices, and an empty list matches every Node.
    pub node_selectors: Vec<Selector>,
    /// Weights, 1 to 100, of preferred Nodes. The weights of all matching selectors are added.
    pub preferred_nodes: Vec<(u32, Selector)>,
    /// Services to announce; one matching selector suffices, and an empty list matches every Service.
    pub service_selectors: Vec<Selector>,
    /// Interfaces on which to announce; an empty set means all.
    pub interfaces: BTreeSet<String>,
}

/// Announcement of addresses to BGP peers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BgpAdvertisement {
    pub name: String,
    pub pools: PoolSelection,
    /// Nodes that announce; one matching selector suffices, and an empty list matches every Node.
    pub node_selectors: Vec<Selector>,
    /// Services to announce; one matching selector suffices, and an empty list matches every Service.
    pub service_selectors: Vec<Selector>,
    /// Names of the peers that receive the routes; an empty set means all.
    pub peers: BTreeSet<String>,
    /// Prefix length of IPv4 routes, 1 to 32.
    pub aggregation_length: u8,
    /// Prefix length of IPv6 routes, 1 to 128.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF, sent to iBGP peers.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC; `None` omits the attribute.
    pub med: Option<u32>,
    /// Additional occurrences of the AS number in the path towards eBGP peers, at most 10.
    pub as_path_prepend: u8,
    /// True if aggregates carry AGGREGATOR.
    pub aggregator: bool,
    pub communities: BTreeSet<Community>,
    /// Attributes that Services may request. `None` if the advertisement aggregates: Services share its
    /// routes.
    pub service_attributes: Option<ServiceAttributes>,
}
