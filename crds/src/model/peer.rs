//! BGP peers and BFD profiles.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::model::selector::Selector;

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
