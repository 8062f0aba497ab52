//! Advertisements of addresses by L2 and by BGP.

use std::collections::BTreeSet;

use crate::model::pool::PoolSelection;
use crate::model::selector::Selector;

/// Announcement of addresses on the local link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Advertisement {
    /// Object name.
    pub name: String,
    /// Pools covered.
    pub pools: PoolSelection,
    /// Nodes that may announce; any one suffices, empty means every node.
    pub node_selectors: Vec<Selector>,
    /// Preferred nodes among those, with weights 1 to 100; the weights of all matches add up.
    pub preferred_nodes: Vec<(u32, Selector)>,
    /// Services covered; any one suffices, empty means every Service.
    pub service_selectors: Vec<Selector>,
    /// Interfaces to announce on; empty means all.
    pub interfaces: BTreeSet<String>,
}

/// Announcement of addresses to BGP peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpAdvertisement {
    /// Object name.
    pub name: String,
    /// Pools covered.
    pub pools: PoolSelection,
    /// Nodes that announce; any one suffices, empty means every node.
    pub node_selectors: Vec<Selector>,
    /// Services covered; any one suffices, empty means every Service.
    pub service_selectors: Vec<Selector>,
    /// Peers announced to, by name; empty means all.
    pub peers: BTreeSet<String>,
    /// Prefix length of IPv4 announcements, 1 to 32.
    pub aggregation_length: u8,
    /// Prefix length of IPv6 announcements, 1 to 128.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF sent to iBGP peers.
    pub local_pref: Option<u32>,
    /// Communities attached.
    pub communities: BTreeSet<Community>,
}

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997, `asn:value`.
    Standard(u16, u16),
    /// RFC 8092, `large:global:local1:local2`.
    Large(u32, u32, u32),
}
