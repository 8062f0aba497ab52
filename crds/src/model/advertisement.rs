//! Advertisements of addresses by L2 and by BGP.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

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
    /// What the node does if another host uses an address that it announces.
    pub on_conflict: OnConflict,
}

/// What a node does if another host on the link uses an address that it announces (RFC 5227 section 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It keeps the address.
    #[default]
    Keep,
    /// It stops answering until the other host stops.
    Yield,
}

/// The LOCAL_PREF of routes whose advertisement does not set one, as routers assume it.
const DEFAULT_LOCAL_PREF: u32 = 100;

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
    /// Creation time; `None` for an advertisement that does not exist in the cluster yet.
    pub created: Option<Timestamp>,
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
    /// When a node begins to announce an address.
    pub announce_when: AnnounceWhen,
    /// Shortest time from a withdrawal because of endpoints until the next announcement, at most 1 h.
    pub reannounce_after: Duration,
}

/// When a node begins to announce an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceWhen {
    /// When an endpoint can serve it.
    #[default]
    EndpointReady,
    /// When, in addition, the node forwards its traffic to the endpoint.
    DataPathReady,
}

impl BgpAdvertisement {
    /// Returns the LOCAL_PREF of the routes towards iBGP peers.
    pub fn effective_local_pref(&self) -> u32 {
        self.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
    }

    /// Returns the sort key of the advertisement among others that disagree with it: the older one takes
    /// precedence.
    pub fn precedence(&self) -> impl Ord + '_ {
        (self.created.is_none(), self.created, &self.name)
    }
}
