//! Resolution of `BGPPeer` objects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kube::ResourceExt;
use serde::Deserialize;
use serde_json::Value;

use super::fields::{interface_name, on_common_nodes, selectors};
use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use super::{Warning, bfd, duration};
use crate::model::config::{
    BfdProfile, GATEWAY_V4, GATEWAY_V6, LinkBandwidth, Peer, PeerAddress, PeerAsn, SecretRef, TcpAo,
    TcpAoAlgorithm,
};
use crate::model::selector::Selector;
use crate::model::special_use::SpecialUse;
use crate::text::quoted;
use crate::v1beta1::{self, BFDProfileSpec};

/// The default of `peerPort` (RFC 4271 §3).
const BGP_PORT: u16 = 179;
/// The default hold time (RFC 4271 §10). The keepalive interval is a third of it.
const HOLD_TIME: Duration = Duration::from_secs(90);
/// The default connect-retry time. RFC 4271 §10 suggests 120 s, but a booting node must not be without routes
/// for so long.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The default restart time, which is that of FRR.
const RESTART_TIME: Duration = Duration::from_secs(120);
/// The longest restart time: a 12-bit number of seconds (RFC 4724 §3).
const MAX_RESTART_TIME: u64 = 4095;
/// The maximum of all other times: 16-bit numbers of seconds on the wire or in MetalLB.
const MAX_SECONDS: u64 = 65_535;
/// The maximum number of characters of a text: the number of octets of a shutdown communication (RFC 9003
/// §2).
const MAX_TEXT: usize = 255;
/// The maximum of `linkBandwidth.megabitsPerEndpoint`: 100 Gbit/s.
const MAX_MEGABITS: u32 = 100_000;

/// The sessions of all peers in force. Two sessions of a node with the same endpoint would replace each
/// other.
#[derive(Default)]
pub(super) struct Sessions(BTreeMap<Endpoint, Vec<Session>>);

/// Address or interface of the peer, port and VRF.
type Endpoint = (String, u16, Option<String>);

struct Session {
    peer: String,
    address: PeerAddress,
    /// True if the router connects: it may do so to any address of the node.
    passive: bool,
    /// Source address or interface.
    source: Option<String>,
    nodes: Vec<Selector>,
}

impl Session {
    /// Returns whether a router would see both sessions as one. Between link-local addresses of an interface,
    /// the source makes no difference: the router of an unnumbered peer is not known in advance. Nor does it
    /// for a passive peer, whose connections are recognized by the address of the router.
    fn replaces(&self, other: &Self) -> bool {
        self.address.may_be_same_router(&other.address)
            && (self.address != other.address || self.source == other.source || self.passive || other.passive)
            && on_common_nodes(&self.nodes, &other.nodes)
    }
}

impl Sessions {
    /// Adds the sessions of a peer, unless a peer that was added before defines the same sessions on the
    /// same nodes.
    pub(super) fn add(&mut self, peer: &Peer) -> Result<(), ObjectRefusal> {
        let source = peer.source_address.map(|address| address.to_string());
        let session = Session {
            peer: peer.name.clone(),
            address: peer.address.clone(),
            passive: peer.passive,
            source: source.or_else(|| peer.source_interface.clone()),
            nodes: peer.node_selectors.clone(),
        };
        let place = match &peer.address {
            PeerAddress::LinkLocal { interface, .. } | PeerAddress::Interface(interface) => interface.clone(),
            address => address.to_string(),
        };
        let same = self.0.entry((place, peer.port, peer.vrf.clone())).or_default();
        if let Some(other) = same.iter().find(|other| other.replaces(&session)) {
            return refuse(
                RefusalReason::DuplicatePeer,
                format!(
                    "BGPPeer {}, which is in force or older, defines the same session on the same nodes: change \
                     the address, port, VRF, source address or node selectors, or delete one of the peers",
                    quoted(&other.peer)
                ),
            );
        }
        same.push(session);
        Ok(())
    }
}

/// Validates a peer on its own and resolves its BFD profile. `former` is the spec of a profile that may no
/// longer exist.
pub(super) fn peer(
    object: &v1beta1::BGPPeer,
    profiles: &BTreeMap<String, BfdProfile>,
    former: Option<&Value>,
) -> Result<Peer, ObjectRefusal> {
    let spec = &object.spec;
    let my_asn = match u32::try_from(spec.my_asn) {
        Ok(0) => return refuse(RefusalReason::MissingMyASN, "myASN must be set"),
        Ok(asn) => asn,
        Err(_) => return asn_out_of_range("myASN", spec.my_asn),
    };
    let peer_asn = peer_asn(spec)?;
    let internal = peer_asn == PeerAsn::Internal || peer_asn == PeerAsn::Number(my_asn);
    if internal && spec.ebgp_multi_hop == Some(true) {
        return refuse(
            RefusalReason::MultiHopWithIBGP,
            "ebgpMultiHop is true for an iBGP peer: remove it, iBGP sessions are not limited to one hop",
        );
    }
    let address = address(spec)?;
    let (hold_time, keepalive_time) = times(spec)?;
    let bfd = bfd_profile(spec, profiles, former)?;
    let message = ("shutdownMessage", &spec.shutdown_message);
    let message = text(message, RefusalReason::InvalidShutdownMessage)?;
    let description = ("description", &spec.description);
    let password_secret = password_secret(spec)?;
    Ok(Peer {
        name: object.name_any(),
        class: set(&spec.load_balancer_class).map(str::to_owned),
        my_asn,
        local_asn: local_asn(spec, my_asn, peer_asn, internal)?,
        peer_asn,
        description: text(description, RefusalReason::InvalidDescription)?,
        shutdown: (spec.shutdown == Some(true)).then_some(message),
        passive: passive(spec)?,
        port: port(spec)?,
        source_address: source_address(spec, &address)?,
        source_interface: source_interface(spec, &address)?,
        fast_external_failover: spec.fast_external_failover.unwrap_or(true),
        address,
        router_id: router_id(spec)?,
        hold_time,
        keepalive_time,
        connect_time: whole_seconds(
            ("connectTime", &spec.connect_time),
            CONNECT_TIME,
            MAX_SECONDS,
            RefusalReason::InvalidConnectTime,
        )?,
        node_selectors: selectors("nodeSelectors", &spec.node_selectors)?,
        tcp_ao: tcp_ao(spec, password_secret.is_some())?,
        password_secret,
        // BFD in a VRF is not supported: a strict session would wait for it forever.
        bfd_strict: bfd.is_some() && set(&spec.vrf).is_none() && spec.bfd_strict.unwrap_or(false),
        bfd,
        ebgp_multi_hop: spec.ebgp_multi_hop.unwrap_or(false),
        ttl_security: ttl_security(spec)?,
        graceful_restart: spec.enable_graceful_restart.unwrap_or(false),
        graceful_restart_time: whole_seconds(
            ("gracefulRestartTime", &spec.graceful_restart_time),
            RESTART_TIME,
            MAX_RESTART_TIME,
            RefusalReason::InvalidGracefulRestartTime,
        )?,
        dual_stack_address_family: spec.dual_stack_address_family,
        vrf: set(&spec.vrf).map(|vrf| interface_name("vrf", vrf)).transpose()?,
        link_bandwidth: link_bandwidth(spec)?,
    })
}

/// Returns the warnings about a valid peer.
pub(super) fn warnings(peer: &Peer) -> impl Iterator<Item = Warning> {
    let bfd = peer.bfd.as_ref().filter(|_| peer.vrf.is_some());
    bfd.into_iter().map(|_| Warning {
        reason: RefusalReason::BFDInVRF,
        message: "bfdProfile and vrf are both set: BFD in a VRF is not supported, so the session runs \
                  without BFD, also with bfdStrict, and the router detects a failure by its hold timer; \
                  remove bfdProfile, or remove vrf"
            .to_owned(),
    })
}

/// Returns the text of a field that is set. In manifests for MetalLB an unset field may be empty.
fn set(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

/// Returns a text of at most [`MAX_TEXT`] characters; an empty one if it is unset.
fn text((field, text): (&str, &Option<String>), reason: RefusalReason) -> Result<String, ObjectRefusal> {
    let text = text.as_deref().unwrap_or_default();
    match text.chars().count() {
        0..=MAX_TEXT => Ok(text.to_owned()),
        length => refuse(reason, format!("{field} has {length} characters: it must have at most {MAX_TEXT}")),
    }
}

fn asn_out_of_range<T>(field: &str, asn: i64) -> Result<T, ObjectRefusal> {
    refuse(RefusalReason::InvalidASN, format!("{field} is {asn}: it must be between 1 and {}", u32::MAX))
}

fn peer_asn(spec: &v1beta1::BGPPeerSpec) -> Result<PeerAsn, ObjectRefusal> {
    match (spec.peer_asn.filter(|asn| *asn != 0), set(&spec.dynamic_asn)) {
        (Some(_), Some(_)) => refuse(
            RefusalReason::ConflictingPeerASN,
            "peerASN and dynamicASN are both set: set exactly one of them",
        ),
        (None, None) => refuse(
            RefusalReason::MissingPeerASN,
            "neither peerASN nor dynamicASN is set: set exactly one of them",
        ),
        (Some(asn), None) => match u32::try_from(asn) {
            Ok(asn) => Ok(PeerAsn::Number(asn)),
            Err(_) => asn_out_of_range("peerASN", asn),
        },
        (None, Some("internal")) => Ok(PeerAsn::Internal),
        (None, Some("external")) => Ok(PeerAsn::External),
        (None, Some(other)) => refuse(
            RefusalReason::InvalidASN,
            format!("dynamicASN is {}: it must be \"internal\" or \"external\"", quoted(other)),
        ),
    }
}

/// Validates `localASN` by the rules of FRR for `local-as`: for eBGP only, and different from both AS
/// numbers.
fn local_asn(
    spec: &v1beta1::BGPPeerSpec,
    my_asn: u32,
    peer_asn: PeerAsn,
    internal: bool,
) -> Result<Option<u32>, ObjectRefusal> {
    let Some(asn) = spec.local_asn.filter(|asn| *asn != 0) else { return Ok(None) };
    let Ok(asn) = u32::try_from(asn) else { return asn_out_of_range("localASN", asn) };
    if internal {
        return refuse(
            RefusalReason::InvalidASN,
            "localASN is set for an iBGP peer: remove it, iBGP sessions use myASN",
        );
    }
    if peer_asn == PeerAsn::Number(asn) {
        return refuse(
            RefusalReason::InvalidASN,
            format!("localASN is {asn}, the AS number of the peer: it must differ from it"),
        );
    }
    Ok((asn != my_asn).then_some(asn))
}

fn address(spec: &v1beta1::BGPPeerSpec) -> Result<PeerAddress, ObjectRefusal> {
    let interface =
        set(&spec.interface).map(|interface| interface_name("interface", interface)).transpose()?;
    let Some(text) = set(&spec.peer_address) else {
        return match interface {
            Some(interface) => Ok(PeerAddress::Interface(interface)),
            None => refuse(
                RefusalReason::MissingPeerAddress,
                "neither peerAddress nor interface is set: set peerAddress to the IP address of the router, or \
                 interface to the interface that connects to it (BGP unnumbered)",
            ),
        };
    };
    let address = match text {
        GATEWAY_V4 => PeerAddress::GatewayV4,
        GATEWAY_V6 => PeerAddress::GatewayV6,
        _ => match (host(text), &interface) {
            (Some(IpAddr::V6(address)), Some(interface)) if address.is_unicast_link_local() => {
                return Ok(PeerAddress::LinkLocal { address, interface: interface.clone() });
            }
            (Some(IpAddr::V6(address)), None) if address.is_unicast_link_local() => {
                return refuse(
                    RefusalReason::MissingInterface,
                    format!(
                        "peerAddress is the link-local address {address}: set interface to the interface of \
                         the nodes that connects to it"
                    ),
                );
            }
            (Some(address), _) => PeerAddress::Ip(address),
            (None, _) => {
                return refuse(
                    RefusalReason::InvalidPeerAddress,
                    format!(
                        "peerAddress is {}: it must be the unicast IP address of a host, {GATEWAY_V4} or \
                         {GATEWAY_V6}",
                        quoted(text)
                    ),
                );
            }
        },
    };
    let is_gateway = matches!(address, PeerAddress::GatewayV4 | PeerAddress::GatewayV6);
    if is_gateway && set(&spec.vrf).is_some() {
        return refuse(
            RefusalReason::ConflictingPeerAddress,
            format!(
                "peerAddress is {text} and vrf is set: set peerAddress to the address of the router, the speaker \
                 reads the default routes outside of VRFs"
            ),
        );
    }
    if interface.is_some() {
        return refuse(
            RefusalReason::ConflictingPeerAddress,
            "peerAddress and interface are both set: remove one of them; only a link-local peerAddress needs both",
        );
    }
    Ok(address)
}

fn host(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    // A router may run on the node itself, at a loopback address.
    let is_host = matches!(SpecialUse::unusable(ip), None | Some(SpecialUse::Loopback));
    is_host.then_some(ip)
}

fn source_address(spec: &v1beta1::BGPPeerSpec, peer: &PeerAddress) -> Result<Option<IpAddr>, ObjectRefusal> {
    let Some(text) = set(&spec.source_address) else { return Ok(None) };
    let Some(ip) = host(text) else {
        return refuse(
            RefusalReason::InvalidSourceAddress,
            format!("sourceAddress is {}: it must be the unicast IP address of a host", quoted(text)),
        );
    };
    if ip.is_ipv4() != peer.is_ipv4() {
        return refuse(
            RefusalReason::InvalidSourceAddress,
            format!("sourceAddress is {ip}: it must be of the same address family as the peer"),
        );
    }
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if is_link_local && matches!(peer, PeerAddress::Ip(_)) {
        return refuse(
            RefusalReason::InvalidSourceAddress,
            format!(
                "sourceAddress is {ip}, a link-local address, and peerAddress is none: set sourceAddress to a \
                 global address"
            ),
        );
    }
    Ok(Some(ip))
}

fn source_interface(
    spec: &v1beta1::BGPPeerSpec,
    peer: &PeerAddress,
) -> Result<Option<String>, ObjectRefusal> {
    let Some(name) = set(&spec.source_interface) else { return Ok(None) };
    let on_interface = matches!(peer, PeerAddress::LinkLocal { .. } | PeerAddress::Interface(_));
    if set(&spec.source_address).is_some() || on_interface {
        return refuse(
            RefusalReason::ConflictingSource,
            "sourceInterface is set together with sourceAddress or interface: remove one of them",
        );
    }
    interface_name("sourceInterface", name).map(Some)
}

/// Validates `passive`: the speaker listens for the router and does not connect.
fn passive(spec: &v1beta1::BGPPeerSpec) -> Result<bool, ObjectRefusal> {
    if spec.passive != Some(true) {
        return Ok(false);
    }
    if let Some(port) = spec.peer_port.filter(|port| *port != i32::from(BGP_PORT)) {
        return refuse(
            RefusalReason::ConflictingPassive,
            format!(
                "passive is true and peerPort is {port}: remove peerPort, the router connects to the port in \
                 --bgp-listen-port of the speakers"
            ),
        );
    }
    if spec.tcp_ao.is_some() {
        return refuse(
            RefusalReason::ConflictingPassive,
            "passive is true and tcpAO is set: remove one of them, the speakers accept no connections with TCP-AO",
        );
    }
    Ok(true)
}

fn port(spec: &v1beta1::BGPPeerSpec) -> Result<u16, ObjectRefusal> {
    let port = spec.peer_port.unwrap_or(BGP_PORT.into());
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => {
            refuse(RefusalReason::InvalidPort, format!("peerPort is {port}: it must be between 1 and 65535"))
        }
    }
}

fn router_id(spec: &v1beta1::BGPPeerSpec) -> Result<Option<Ipv4Addr>, ObjectRefusal> {
    let Some(text) = set(&spec.router_id) else { return Ok(None) };
    match text.parse::<Ipv4Addr>() {
        // RFC 6286 §2.1: any value except zero.
        Ok(id) if !id.is_unspecified() => Ok(Some(id)),
        _ => refuse(
            RefusalReason::InvalidRouterID,
            format!(
                "routerID is {}: it must have the notation of an IPv4 address and must not be 0.0.0.0",
                quoted(text)
            ),
        ),
    }
}

fn ttl_security(spec: &v1beta1::BGPPeerSpec) -> Result<Option<u8>, ObjectRefusal> {
    let Some(hops) = spec.ttl_security else { return Ok(None) };
    if spec.ebgp_multi_hop == Some(true) {
        return refuse(
            RefusalReason::InvalidTTLSecurity,
            "ttlSecurity and ebgpMultiHop are both set: remove ebgpMultiHop, ttlSecurity is the number of hops",
        );
    }
    match u8::try_from(hops) {
        Ok(hops @ 1..=254) => Ok(Some(hops)),
        _ => refuse(
            RefusalReason::InvalidTTLSecurity,
            format!("ttlSecurity is {hops}: it must be between 1 and 254"),
        ),
    }
}

/// Returns the hold time and the keepalive interval in whole seconds. If one is unset, it is derived from the
/// other.
fn times(spec: &v1beta1::BGPPeerSpec) -> Result<(Duration, Duration), ObjectRefusal> {
    let hold = seconds("holdTime", &spec.hold_time, RefusalReason::InvalidHoldTime)?;
    let keepalive = seconds("keepaliveTime", &spec.keepalive_time, RefusalReason::InvalidKeepaliveTime)?;
    let (hold, keepalive) = match (hold, keepalive) {
        (Some(hold), Some(keepalive)) => (hold, keepalive),
        (Some(hold), None) => (hold, hold / 3),
        (None, Some(keepalive)) => (keepalive * 3, keepalive),
        (None, None) => (HOLD_TIME.as_secs(), HOLD_TIME.as_secs() / 3),
    };
    // RFC 4271 §4.2: zero or at least three seconds.
    if !(hold == 0 || (3..=MAX_SECONDS).contains(&hold)) {
        return refuse(
            RefusalReason::InvalidHoldTime,
            format!("holdTime is {hold}s: it must be 0s, or between 3s and {MAX_SECONDS}s"),
        );
    }
    if keepalive > hold {
        return refuse(
            RefusalReason::InvalidKeepaliveTime,
            format!("keepaliveTime is {keepalive}s: it must not exceed holdTime, which is {hold}s"),
        );
    }
    if keepalive == 0 && hold > 0 {
        return refuse(
            RefusalReason::InvalidKeepaliveTime,
            format!("keepaliveTime is 0s: with holdTime {hold}s, keepalives are required"),
        );
    }
    Ok((Duration::from_secs(hold), Duration::from_secs(keepalive)))
}

/// Returns a time in whole seconds. Fractions are truncated, as in MetalLB, but a nonzero time below 1 s is
/// invalid.
fn seconds(field: &str, text: &Option<String>, reason: RefusalReason) -> Result<Option<u64>, ObjectRefusal> {
    let Some(text) = set(text) else { return Ok(None) };
    match duration::parse(text) {
        Some(time) if time.is_zero() => Ok(Some(0)),
        Some(time) if (1..=MAX_SECONDS).contains(&time.as_secs()) => Ok(Some(time.as_secs())),
        _ => refuse(
            reason,
            format!(
                "{field} is {}: it must be 0s or a duration between 1s and {MAX_SECONDS}s, such as \
                 \"90s\"",
                quoted(text)
            ),
        ),
    }
}

/// Returns a time that must be a whole number of seconds between 1 s and `max`; `default` if it is unset.
fn whole_seconds(
    (field, text): (&str, &Option<String>),
    default: Duration,
    max: u64,
    reason: RefusalReason,
) -> Result<Duration, ObjectRefusal> {
    let Some(text) = set(text) else { return Ok(default) };
    match duration::parse(text) {
        Some(time) if time.subsec_nanos() == 0 && (1..=max).contains(&time.as_secs()) => Ok(time),
        _ => refuse(
            reason,
            format!(
                "{field} is {}: it must be a whole number of seconds between 1s and {max}s",
                quoted(text)
            ),
        ),
    }
}

fn password_secret(spec: &v1beta1::BGPPeerSpec) -> Result<Option<SecretRef>, ObjectRefusal> {
    let Some(secret) = &spec.password_secret else { return Ok(None) };
    if secret.name.is_empty() {
        // Go encodes an unset reference as an empty one.
        return match set(&secret.namespace) {
            None => Ok(None),
            Some(_) => refuse(RefusalReason::InvalidPasswordSecret, "passwordSecret.name must be set"),
        };
    }
    Ok(Some(SecretRef { name: secret.name.clone(), namespace: set(&secret.namespace).map(str::to_owned) }))
}

fn tcp_ao(spec: &v1beta1::BGPPeerSpec, has_key: bool) -> Result<Option<TcpAo>, ObjectRefusal> {
    let Some(options) = &spec.tcp_ao else { return Ok(None) };
    if !has_key {
        return refuse(
            RefusalReason::InvalidTCPAO,
            "tcpAO is set: set passwordSecret to the Secret with its key",
        );
    }
    let id = |field, id| {
        u8::try_from(id).or_else(|_| {
            let message = format!("tcpAO.{field} is {id}: it must be between 0 and 255");
            refuse(RefusalReason::InvalidTCPAO, message)
        })
    };
    let algorithm = match set(&options.algorithm) {
        None | Some("HMAC-SHA-1-96") => TcpAoAlgorithm::HmacSha1,
        Some("AES-128-CMAC-96") => TcpAoAlgorithm::Aes128Cmac,
        Some(other) => {
            return refuse(
                RefusalReason::InvalidTCPAO,
                format!(
                    "tcpAO.algorithm is {}: it must be \"HMAC-SHA-1-96\" or \"AES-128-CMAC-96\"",
                    quoted(other)
                ),
            );
        }
    };
    let (send_id, receive_id) = (id("sendID", options.send_id)?, id("receiveID", options.receive_id)?);
    Ok(Some(TcpAo { send_id, receive_id, algorithm }))
}

fn link_bandwidth(spec: &v1beta1::BGPPeerSpec) -> Result<Option<LinkBandwidth>, ObjectRefusal> {
    let Some(bandwidth) = &spec.link_bandwidth else { return Ok(None) };
    let rate = bandwidth.megabits_per_endpoint;
    match u32::try_from(rate) {
        Ok(megabits_per_endpoint) if (1..=MAX_MEGABITS).contains(&megabits_per_endpoint) => {
            let transitive = bandwidth.transitive.unwrap_or(false);
            Ok(Some(LinkBandwidth { megabits_per_endpoint, transitive }))
        }
        _ => refuse(
            RefusalReason::InvalidLinkBandwidth,
            format!("linkBandwidth.megabitsPerEndpoint is {rate}: it must be between 1 and {MAX_MEGABITS}"),
        ),
    }
}

fn bfd_profile(
    spec: &v1beta1::BGPPeerSpec,
    profiles: &BTreeMap<String, BfdProfile>,
    former: Option<&Value>,
) -> Result<Option<BfdProfile>, ObjectRefusal> {
    let Some(name) = set(&spec.bfd_profile) else { return Ok(None) };
    let former = || bfd::of_spec(name, &BFDProfileSpec::deserialize(former?).ok()?).ok();
    match profiles.get(name).cloned().or_else(former) {
        Some(profile) => Ok(Some(profile)),
        None => refuse(
            RefusalReason::BFDProfileNotFound,
            format!("bfdProfile is {}: this BFDProfile does not exist or is refused", quoted(name)),
        ),
    }
}
