//! Plain, validated configuration: what `resolve` makes out of objects.
//!
//! Controller, speaker and command-line tool decide on these values and on nothing else. A value of one of
//! these types is already known to be sound, so no code that receives one checks it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::model::lookup::Lookup;
use crate::model::range::IpRange;
use crate::model::selector::Selector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything the cluster's configuration objects say, validated, by object name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// From `IPAddressPool` objects.
    pub pools: BTreeMap<String, Pool>,
    /// `IPAddressPool` objects that are refused, with name, labels and those ranges that can be read. Nothing is given
    /// from them and no address is looked up in them. Who holds addresses of one keeps them, and they stay announced.
    pub refused_pools: BTreeMap<String, Pool>,
    /// From `L2Advertisement` objects.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
    /// From `BGPAdvertisement` objects; communities are already looked up.
    pub bgp_advertisements: BTreeMap<String, BgpAdvertisement>,
    /// From `BGPPeer` objects; BFD profiles are already looked up.
    pub peers: BTreeMap<String, Peer>,
    /// What lookups need beyond that; `Lookup::default()` in a configuration made by hand.
    pub lookup: Lookup,
}

/// A pool of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Object name.
    pub name: String,
    /// Labels, for the pool selectors of advertisements.
    pub labels: Labels,
    /// Disjoint ranges in the order the object lists them; that is the order of allocation.
    pub ranges: Vec<IpRange>,
    /// May be used for a Service that names no pool.
    pub auto_assign: bool,
    /// Skip IPv4 addresses that end in .0 or .255.
    pub avoid_buggy_ips: bool,
    /// Who may use the pool; `None` means everybody.
    pub allocation: Option<ServiceAllocation>,
    /// What becomes of an address that the pool no longer offers to its holder.
    pub reclaim: Reclaim,
    /// Why nothing more is given from the pool; `None` means it is open.
    pub closed: Option<Closed>,
    /// How long a released address is kept for the Service that had it.
    pub reuse_after: Duration,
    /// Which Services may share an address.
    pub sharing: SharingScope,
}

impl Pool {
    /// A pool as it is when an object says nothing but its addresses: open to everybody.
    pub fn new(name: impl Into<String>, ranges: Vec<IpRange>) -> Self {
        Self {
            name: name.into(),
            labels: Labels::new(),
            ranges,
            auto_assign: true,
            avoid_buggy_ips: false,
            allocation: None,
            reclaim: Reclaim::default(),
            closed: None,
            reuse_after: Duration::ZERO,
            sharing: SharingScope::default(),
        }
    }
}

/// What becomes of an address that its pool no longer offers to the Service that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// The Service keeps it until it releases it.
    #[default]
    Retain,
    /// It is taken away, and another one given. What MetalLB does.
    Reassign,
}

/// Why a pool gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `spec.disabled`.
    Disabled,
    /// It is being deleted, which waits for those who hold addresses of it.
    Deleting,
}

/// Which Services with the same sharing key may share an address of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharingScope {
    /// Those of one namespace.
    SameNamespace,
    /// All.
    #[default]
    AnyNamespace,
}

/// Which Services may use a pool, and in which order pools are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Lower is tried first; 0 is last.
    pub priority: u32,
    /// Namespaces by name. United with what `namespace_selectors` match.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label; any one suffices.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label; any one suffices, none listed means every Service.
    pub service_selectors: Vec<Selector>,
}

/// Which pools an advertisement covers. With both empty: every pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSelection {
    /// Pools by name.
    pub names: BTreeSet<String>,
    /// Pools by label; any one suffices.
    pub selectors: Vec<Selector>,
}

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

/// A BGP peer as the speaker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Object name.
    pub name: String,
    /// Our AS number.
    pub my_asn: u32,
    /// AS number shown to this peer in place of `my_asn` (FRR: `local-as N no-prepend replace-as`).
    pub local_asn: Option<u32>,
    /// The peer's AS number.
    pub peer_asn: PeerAsn,
    /// Where the peer is.
    pub address: PeerAddress,
    /// TCP port of the peer.
    pub port: u16,
    /// Local address to connect from.
    pub source_address: Option<IpAddr>,
    /// BGP identifier; `None` means it is taken from the node.
    pub router_id: Option<Ipv4Addr>,
    /// Offered hold time: zero (no keepalives) or at least 3 s, whole seconds.
    pub hold_time: Duration,
    /// Offered interval of keepalives, whole seconds; zero when the hold time is.
    pub keepalive_time: Duration,
    /// Time between attempts to connect.
    pub connect_time: Duration,
    /// Nodes that open this session; any one suffices, empty means every node.
    pub node_selectors: Vec<Selector>,
    /// Secret of type `kubernetes.io/basic-auth` with the TCP-MD5 key in `password`.
    pub password_secret: Option<SecretRef>,
    /// BFD parameters, where BFD is wanted.
    pub bfd: Option<BfdProfile>,
    /// The eBGP peer is more than one hop away.
    pub ebgp_multi_hop: bool,
    /// Offer graceful restart.
    pub graceful_restart: bool,
    /// Carry both address families on this session, not just that of its transport.
    pub dual_stack_address_family: bool,
    /// VRF device to bind the session to.
    pub vrf: Option<String>,
}

/// What AS number a peer must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAsn {
    /// Exactly this one.
    Number(u32),
    /// Ours (iBGP), whatever it is.
    Internal,
    /// Any but ours (eBGP).
    External,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// At an address.
    Ip(IpAddr),
    /// On the other end of an interface (BGP unnumbered).
    Interface(String),
}

/// Reference to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Its namespace; `None` means Fairlead's own.
    pub namespace: Option<String>,
}

/// Parameters of a BFD session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// Object name.
    pub name: String,
    /// Receive interval, 10 ms to 60 s.
    pub receive_interval: Duration,
    /// Transmit interval, 10 ms to 60 s.
    pub transmit_interval: Duration,
    /// Echo interval, 10 ms to 60 s.
    pub echo_interval: Duration,
    /// Missed packets until the session is down, 2 to 255.
    pub detect_multiplier: u8,
    /// Send echo packets (IPv4 only).
    pub echo_mode: bool,
    /// Wait for the peer to begin.
    pub passive_mode: bool,
    /// Least TTL accepted on multihop sessions, 1 to 254.
    pub minimum_ttl: u8,
}
