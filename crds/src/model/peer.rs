//! BGP peers and BFD profiles.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::model::selector::Selector;

/// A BGP peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Peer {
    pub name: String,
    /// The load balancer class of the instance that uses the peer; `None` is the instance without a class.
    pub class: Option<String>,
    /// The AS number of the speakers.
    pub my_asn: u32,
    /// The AS number that the speakers present to this peer in place of `my_asn` (FRR: `local-as N no-prepend
    /// replace-as`).
    pub local_asn: Option<u32>,
    pub peer_asn: PeerAsn,
    /// Text about the peer for operators; empty if there is none.
    pub description: String,
    /// Text of the Cease if the sessions with the peer are shut down; `None` if they are not.
    pub shutdown: Option<String>,
    pub address: PeerAddress,
    /// True if the router connects to the speaker, which never connects to the router.
    pub passive: bool,
    /// TCP port of the router, unless it connects to the speaker.
    pub port: u16,
    /// The local address of the connection.
    pub source_address: Option<IpAddr>,
    /// Interface whose address is the local address; `None` if `source_address` is set.
    pub source_interface: Option<String>,
    /// True if the session ends with the carrier of the interface that connects to an eBGP peer on the link.
    pub fast_external_failover: bool,
    /// BGP identifier; `None` means that the speaker derives it from the Node.
    pub router_id: Option<Ipv4Addr>,
    /// Proposed hold time in whole seconds: zero (no keepalives) or at least 3 s.
    pub hold_time: Duration,
    /// Proposed keepalive interval in whole seconds; zero if and only if the hold time is zero.
    pub keepalive_time: Duration,
    /// Time between attempts to connect.
    pub connect_time: Duration,
    /// Nodes that establish this session; one matching selector suffices, and an empty list matches every
    /// Node.
    pub node_selectors: Vec<Selector>,
    /// Secret of type `kubernetes.io/basic-auth` with the TCP MD5 or TCP-AO key in `password`.
    pub password_secret: Option<SecretRef>,
    /// TCP-AO with the key in `password_secret`, which is set; `None` means TCP MD5.
    pub tcp_ao: Option<TcpAo>,
    /// Parameters of a BFD session; `None` means that BFD is not used.
    pub bfd: Option<BfdProfile>,
    /// True if the session is established only while BFD is up; false without `bfd`.
    pub bfd_strict: bool,
    /// True if the eBGP peer may be more than one hop away.
    pub ebgp_multi_hop: bool,
    /// Number of hops to the peer for GTSM (RFC 5082), 1 to 254; `None` accepts packets of any TTL.
    pub ttl_security: Option<u8>,
    /// True if the speaker advertises the graceful restart capability.
    pub graceful_restart: bool,
    /// Time for which the peer keeps the routes of a speaker that has stopped, 1 s to 4095 s.
    pub graceful_restart_time: Duration,
    /// True if the session carries routes of both address families, not only of that of its transport.
    pub dual_stack_address_family: bool,
    /// VRF device in which the session runs.
    pub vrf: Option<String>,
    /// Link bandwidth that routes carry; `None` means that they carry none.
    pub link_bandwidth: Option<LinkBandwidth>,
}

/// Parameters of TCP-AO (RFC 5925) beside the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAo {
    /// KeyID of sent segments.
    pub send_id: u8,
    /// KeyID of received segments.
    pub receive_id: u8,
    #[allow(missing_docs)]
    pub algorithm: TcpAoAlgorithm,
}

/// Algorithm of TCP-AO (RFC 5926).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TcpAoAlgorithm {
    #[default]
    HmacSha1,
    Aes128Cmac,
}

/// Weights for unequal load balancing: a link bandwidth in proportion to the endpoints on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkBandwidth {
    /// Mbit/s per endpoint, 1 to 100,000.
    pub megabits_per_endpoint: u32,
    /// True to send the transitive form of the extended community.
    pub transitive: bool,
}

impl Peer {
    /// Returns true for an iBGP peer.
    pub fn is_internal(&self) -> bool {
        match self.peer_asn {
            PeerAsn::Internal => true,
            PeerAsn::External => false,
            PeerAsn::Number(number) => number == self.local_asn.unwrap_or(self.my_asn),
        }
    }

    /// Returns whether sessions carry routes of this family: that of their transport, or both if so
    /// configured or if the peer is unnumbered.
    pub fn carries(&self, ipv4: bool) -> bool {
        let unnumbered = matches!(self.address, PeerAddress::Interface(_));
        unnumbered || self.dual_stack_address_family || self.address.is_ipv4() == ipv4
    }
}

/// The AS number that a peer has to present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAsn {
    /// Exactly this AS number.
    Number(u32),
    /// The AS number of the speakers (iBGP).
    Internal,
    /// Any AS number except that of the speakers (eBGP).
    External,
}

/// The location of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// At this address, which is not an IPv6 link-local address.
    Ip(IpAddr),
    /// At this IPv6 link-local address.
    LinkLocal {
        #[allow(missing_docs)]
        address: Ipv6Addr,
        /// Name of the interface that connects to the peer.
        interface: String,
    },
    /// At the other end of the interface with this name (BGP unnumbered): the router that advertises itself
    /// there.
    Interface(String),
    /// The gateway of the IPv4 default route.
    GatewayV4,
    /// The gateway of the IPv6 default route.
    GatewayV6,
}

/// `peerAddress` of [`PeerAddress::GatewayV4`].
pub const GATEWAY_V4: &str = "default-gateway";
/// `peerAddress` of [`PeerAddress::GatewayV6`].
pub const GATEWAY_V6: &str = "default-gateway-ipv6";

impl PeerAddress {
    /// Returns whether the transport of sessions is IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_ipv4(),
            Self::GatewayV4 => true,
            Self::LinkLocal { .. } | Self::Interface(_) | Self::GatewayV6 => false,
        }
    }
}

impl PeerAddress {
    /// Returns whether two addresses can be those of one router, which accepts only one session from a node:
    /// they are equal, or one is the link-local address of the router that the other one finds on the same
    /// interface.
    pub fn may_be_same_router(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Interface(one), Self::LinkLocal { interface: other, .. })
            | (Self::LinkLocal { interface: one, .. }, Self::Interface(other)) => one == other,
            _ => self == other,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::LinkLocal { address, interface } => write!(f, "{address}%{interface}"),
            Self::Interface(interface) => f.write_str(interface),
            Self::GatewayV4 => f.write_str(GATEWAY_V4),
            Self::GatewayV6 => f.write_str(GATEWAY_V6),
        }
    }
}

/// A reference to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct SecretRef {
    pub name: String,
    /// `None` means the namespace of Fairlead.
    pub namespace: Option<String>,
}

/// Parameters of a BFD session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BfdProfile {
    pub name: String,
    /// 10 ms to 60 s.
    pub receive_interval: Duration,
    /// 10 ms to 60 s.
    pub transmit_interval: Duration,
    /// 10 ms to 60 s.
    pub echo_interval: Duration,
    /// Missed packets until the session is down, 2 to 255.
    pub detect_multiplier: u8,
    /// True if the speaker sends echo packets (IPv4 only).
    pub echo_mode: bool,
    /// True if the speaker waits for the first packet of the peer.
    pub passive_mode: bool,
    /// Minimum TTL of received packets on multihop sessions, 1 to 254.
    pub minimum_ttl: u8,
}
