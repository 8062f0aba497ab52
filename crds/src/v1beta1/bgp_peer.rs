//! The `BGPPeer` kind: a router with which the speakers establish BGP sessions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{AcceptedForm, schema};
use crate::conditions::RawCondition;

const ONE_ASN: &str =
    "(has(self.peerASN) && self.peerASN != 0) != (has(self.dynamicASN) && self.dynamicASN != '')";
const ONE_ADDRESS: &str = "(has(self.peerAddress) && self.peerAddress != '') != (has(self.interface) && self.interface != '') || \
    has(self.peerAddress) && isIP(self.peerAddress) && ip(self.peerAddress).family() == 6 && \
    ip(self.peerAddress).isLinkLocalUnicast()";
const LINK_LOCAL: &str = "!has(self.peerAddress) || !isIP(self.peerAddress) || \
    ip(self.peerAddress).family() != 6 || !ip(self.peerAddress).isLinkLocalUnicast() || \
    has(self.interface) && self.interface != ''";
const GATEWAY_VRF: &str = "!has(self.vrf) || self.vrf == '' || !has(self.peerAddress) || \
    !self.peerAddress.startsWith('default-gateway')";
const LINK_LOCAL_SOURCE: &str = "!has(self.sourceAddress) || !isIP(self.sourceAddress) || \
    ip(self.sourceAddress).family() != 6 || !ip(self.sourceAddress).isLinkLocalUnicast() || \
    !has(self.peerAddress) || !isIP(self.peerAddress) || ip(self.peerAddress).isLinkLocalUnicast()";
const ONE_SOURCE: &str = "!has(self.sourceInterface) || self.sourceInterface == '' || \
    (!has(self.sourceAddress) || self.sourceAddress == '') && (!has(self.interface) || self.interface == '')";
const MULTI_HOP: &str = "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || \
    !((has(self.peerASN) && self.peerASN == self.myASN) || (has(self.dynamicASN) && self.dynamicASN == \
    'internal'))";
const TTL_SECURITY: &str = "!has(self.ttlSecurity) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop";
const LOCAL_ASN: &str = "!has(self.localASN) || \
    !(has(self.peerASN) && (self.peerASN == self.myASN || self.peerASN == self.localASN)) && \
    !(has(self.dynamicASN) && self.dynamicASN == 'internal')";
const TCP_AO: &str = "!has(self.tcpAO) || has(self.passwordSecret) && has(self.passwordSecret.name) && \
    self.passwordSecret.name != ''";
const PASSIVE: &str = "!has(self.passive) || !self.passive || \
    (!has(self.peerPort) || self.peerPort == 179) && !has(self.tcpAO)";
const KEEPALIVE: &str = "!has(self.holdTime) || !has(self.keepaliveTime) || \
    duration(self.keepaliveTime) <= duration(self.holdTime)";
const ZERO_TIMES: &str = "!has(self.holdTime) || !has(self.keepaliveTime) || \
    (duration(self.keepaliveTime).getSeconds() == 0) == (duration(self.holdTime).getSeconds() == 0)";
const SOURCE_FAMILY: &str = "!has(self.sourceAddress) || self.sourceAddress == '' || \
    !has(self.peerAddress) || self.peerAddress == '' || \
    !isIP(self.sourceAddress) || !isIP(self.peerAddress) || \
    ip(self.sourceAddress).family() == ip(self.peerAddress).family()";
const IS_ADDRESS: &str = "self == '' || isIP(self)";
const IS_ADDRESS_OR_GATEWAY: &str =
    "self == '' || isIP(self) || self == 'default-gateway' || self == 'default-gateway-ipv6'";
const IS_HOST: &str = "self == '' || !isIP(self) || (!self.startsWith('0.') && !ip(self).isUnspecified() && \
    (ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast()))";
const IS_ROUTER_ID: &str = "self == '' || (isIP(self) && ip(self).family() == 4 && self != '0.0.0.0')";
const HOLD_TIME: &str = "duration(self) == duration('0s') || \
    (duration(self).getSeconds() >= 3 && duration(self).getSeconds() <= 65535)";
const KEEPALIVE_TIME: &str = "duration(self) == duration('0s') || \
    (duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535)";
const CONNECT_TIME: &str = "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535";
const RESTART_TIME: &str = "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 4095";
const WHOLE_SECONDS: &str = "duration(self).getMilliseconds() % 1000 == 0";

/// BGPPeerSpec defines a BGP peer and the parameters of the sessions with it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "BGPPeer",
    plural = "bgppeers",
    shortname = "bgpp",
    category = "fairlead",
    status = "BGPPeerStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "BGPPeer is a router with which the speakers establish BGP sessions.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "My-ASN", type_ = "string", json_path = ".spec.myASN"),
    printcolumn(name = "BFD-Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi-Hop", type_ = "string", json_path = ".spec.ebgpMultiHop", priority = 1),
    printcolumn(name = "Sessions", type_ = "string", json_path = ".status.establishedSessions"),
    printcolumn(name = "Interface", type_ = "string", json_path = ".spec.interface", priority = 1),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["myASN"]))]
#[x_kube(
    validation = (ONE_ASN, "exactly one of peerASN and dynamicASN must be set"),
    validation = (ONE_ADDRESS, "exactly one of peerAddress and interface must be set, or both if peerAddress is \
        an IPv6 link-local address"),
    validation = (LINK_LOCAL, "interface must be set: peerAddress is a link-local address"),
    validation = (GATEWAY_VRF, "vrf must not be set together with peerAddress default-gateway or \
        default-gateway-ipv6: the speaker reads the default routes outside of VRFs"),
    validation = (LINK_LOCAL_SOURCE, "sourceAddress must not be a link-local address: peerAddress is none"),
    validation = (ONE_SOURCE, "sourceInterface must not be set together with sourceAddress or interface"),
    validation = (MULTI_HOP, "ebgpMultiHop must not be true for an iBGP peer"),
    validation = (TTL_SECURITY, "ttlSecurity and ebgpMultiHop must not both be set: ttlSecurity limits the number \
        of hops"),
    validation = (LOCAL_ASN, "localASN must not be set for an iBGP peer and must differ from the AS number \
        of the peer"),
    validation = (TCP_AO, "passwordSecret must be set together with tcpAO: it contains the key"),
    validation = (PASSIVE, "passive must not be true together with tcpAO or a peerPort other than 179"),
    validation = (KEEPALIVE, "keepaliveTime must not be longer than holdTime"),
    validation = (ZERO_TIMES, "keepaliveTime and holdTime must both be zero or both be nonzero"),
    validation = (SOURCE_FAMILY, "sourceAddress and peerAddress must be of the same address family")
)]
pub struct BGPPeerSpec {
    /// The AS number of the speakers. Required. Must be between 1 and 4294967295.
    #[serde(default, rename = "myASN")]
    #[schemars(range(min = 1, max = 4294967295i64))]
    pub my_asn: i64,

    /// The AS number that the speakers present to this peer in place of myASN. For eBGP peers only; must
    /// differ from the AS number of the peer. If unset, the speakers present myASN.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295i64))]
    pub local_asn: Option<i64>,

    /// The AS number of the peer. Exactly one of peerASN and dynamicASN must be set.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub peer_asn: Option<i64>,

    /// The kind of the session if the AS number of the peer is not known in advance. `internal` (iBGP): the
    /// peer must present the AS number in myASN. `external` (eBGP): the peer must present any other AS
    /// number. Exactly one of peerASN and dynamicASN must be set.
    #[serde(default, rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("enum" = ["internal", "external"]))]
    pub dynamic_asn: Option<String>,

    /// The IP address of the peer, or `default-gateway` or `default-gateway-ipv6`: the gateway of the default
    /// route of the Node for IPv4 or IPv6. If that route changes, the session moves to the new gateway.
    /// Must not be a gateway if vrf is set. Exactly one of peerAddress and interface must be set, or both for
    /// an IPv6 link-local address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(
        validation = (IS_ADDRESS_OR_GATEWAY, "peerAddress must be an IP address, default-gateway or \
            default-gateway-ipv6"),
        validation = (IS_HOST, "peerAddress must be the unicast address of a host")
    )]
    pub peer_address: Option<String>,

    /// The network interface of the Node that connects to the peer. Without peerAddress (BGP unnumbered), the
    /// speaker learns the IPv6 link-local address of the peer from its router advertisements, and the session
    /// carries routes of both address families. With peerAddress, which must then be an IPv6 link-local
    /// address, the speaker connects to that address on this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub interface: Option<String>,

    /// If true, the speakers end their sessions with the peer and open no new ones. They ask the peer to
    /// prefer other paths, withdraw their routes and send a Cease NOTIFICATION (Administrative Shutdown, RFC
    /// 4486). If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<bool>,

    /// The text that the speakers send to the operator of the peer with the Cease NOTIFICATION when shutdown
    /// becomes true (RFC 9003). The first 255 octets of its UTF-8 form are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub shutdown_message: Option<String>,

    /// A text about the peer for operators. The status of each Speaker object contains it with the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub description: Option<String>,

    /// If true, the peer connects to the speakers, which never connect to it, as with `neighbor … passive` in
    /// FRR. The speakers listen on the port in their flag `--bgp-listen-port`, on all addresses unless
    /// sourceAddress or sourceInterface is set, and accept only connections from the addresses of passive
    /// peers. The peer must have a short retry time, because it decides when a session returns. Must not be
    /// true together with tcpAO or a peerPort other than 179. If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<bool>,

    /// The TCP port of the peer. If unset, defaults to 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("default" = 179))]
    pub peer_port: Option<i32>,

    /// The local IP address of the session: the speaker connects from it, or accepts connections to it if
    /// passive is true. Must be of the same address family as peerAddress. If unset, the Node selects an
    /// address by its routes, or a passive peer selects one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(
        validation = (IS_ADDRESS, "sourceAddress must be an IP address"),
        validation = (IS_HOST, "sourceAddress must be the unicast address of a host")
    )]
    pub source_address: Option<String>,

    /// The interface of the Node whose first address of the family of peerAddress is the local address of the
    /// session, such as a loopback interface. Must not be set together with sourceAddress or interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub source_interface: Option<String>,

    /// If true, a session with an eBGP peer on the link ends at once if the interface that connects to it
    /// goes down or loses its carrier. If false, the session lasts until the hold timer expires or BFD
    /// detects the failure. If unset, defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_external_failover: Option<bool>,

    /// The BGP identifier of the speakers, in the notation of an IPv4 address. If unset, each speaker uses
    /// the IPv4 InternalIP of its Node, or a hash of the name of the Node if it has none.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = (IS_ROUTER_ID, "routerID must be written like an IPv4 address and must not be \
        0.0.0.0"))]
    pub router_id: Option<String>,

    /// The proposed hold time, a duration such as `90s` or `1m30s` in whole seconds. Must be 0s, which
    /// disables keepalives and the hold timer, or between 3s and 65535s. If unset, defaults to three times
    /// keepaliveTime if that is set, else to 90s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(validation = (HOLD_TIME, "holdTime must be 0s, or between 3s and 65535s"))]
    pub hold_time: Option<String>,

    /// The interval between keepalives, a duration in whole seconds. Must not exceed holdTime. If unset,
    /// defaults to a third of holdTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(validation = (KEEPALIVE_TIME, "keepaliveTime must be 0s, or between 1s and 65535s"))]
    pub keepalive_time: Option<String>,

    /// The time between attempts to connect, a duration in whole seconds between 1s and 65535s. For a passive
    /// peer, the longest time that its connection waits after errors. If unset, defaults to 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(
        validation = (CONNECT_TIME, "connectTime must be between 1s and 65535s"),
        validation = (WHOLE_SECONDS, "connectTime must be a whole number of seconds")
    )]
    pub connect_time: Option<String>,

    /// Label selectors of the Nodes that establish a session with this peer. A Node is selected if any
    /// selector matches its labels. If empty, all Nodes establish a session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// The Secret of type `kubernetes.io/basic-auth` whose `password` is the TCP MD5 key of the session (RFC
    /// 2385). If unset, the session is not authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecret>,

    /// TCP-AO (RFC 5925) in place of TCP MD5. The `password` of passwordSecret, which must be set, is the
    /// master key. The nodes need Linux 6.7 or newer with CONFIG_TCP_AO. If a node does not support TCP-AO,
    /// its Speaker object says so.
    #[serde(default, rename = "tcpAO", skip_serializing_if = "Option::is_none")]
    pub tcp_ao: Option<TcpAO>,

    /// The name of the BFDProfile with the parameters of a BFD session with the peer. If unset, BFD is not
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub bfd_profile: Option<String>,

    /// If true, the session with the peer is established only after the BFD session is up, or while the peer
    /// has disabled BFD (state AdminDown). Otherwise, a peer that does not answer by BFD has a BGP session
    /// without BFD. Without bfdProfile, or with vrf, the field has no effect, because BFD in a VRF is not
    /// supported. If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd_strict: Option<bool>,

    /// If true, the eBGP peer may be more than one hop away. Must not be true for an iBGP peer or together
    /// with ttlSecurity. If unset, defaults to false: an eBGP peer without ttlSecurity must be on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,

    /// The number of hops to the peer, between 1 and 254 (GTSM, RFC 5082): the speaker sends packets with TTL
    /// 255 and accepts only packets with a TTL of at least 256 minus this number. A host that is farther away
    /// cannot disturb the session. The peer must do the same, as with `ttl-security hops` in FRR. Must not be
    /// set together with ebgpMultiHop. If unset, packets of any TTL are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub ttl_security: Option<i32>,

    /// If true, the speaker advertises the graceful restart capability (RFC 4724, RFC 8538), so that the peer
    /// keeps the routes while the speaker restarts, and while a connection is replaced after an error. A node
    /// that is drained withdraws its routes all the same. If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_graceful_restart: Option<bool>,

    /// The time for which the peer keeps the routes after the speaker has stopped (RFC 4724), a duration in
    /// whole seconds between 1s and 4095s. Has an effect only with enableGracefulRestart. If unset, defaults
    /// to 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(
        validation = (RESTART_TIME, "gracefulRestartTime must be between 1s and 4095s"),
        validation = (WHOLE_SECONDS, "gracefulRestartTime must be a whole number of seconds")
    )]
    pub graceful_restart_time: Option<String>,

    /// If true, the session carries routes of both address families. If false, it carries only routes of the
    /// address family of its transport. Without peerAddress it always carries both. Defaults to false.
    #[serde(default)]
    pub dual_stack_address_family: bool,

    /// Has no effect. The field exists so that manifests for MetalLB remain valid.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,

    /// The VRF device of the Node in which the session runs. Must not be set if peerAddress is a gateway. If
    /// unset, the session runs in the default VRF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub vrf: Option<String>,

    /// The load balancer class of the instance of Fairlead whose speakers establish sessions with the peer:
    /// the one that runs with this `--lb-class`. Other instances neither use the BGPPeer nor write its
    /// status. If unset, the BGPPeer belongs to the instance without a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,

    /// The link bandwidth that routes to this peer carry, so that a router with unequal load balancing
    /// distributes the traffic of a Service by endpoints and not by Nodes. Applies to Services with
    /// `externalTrafficPolicy: Local`. If unset, the routes carry no link bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bandwidth: Option<LinkBandwidth>,
}

/// BGPPeerStatus describes whether the peer is in force, and its sessions.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerStatus {
    /// The metadata.generation of the object that the status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The number of established sessions with the peer, and the number of speakers that should have one,
    /// such as `5/6`. The sessions of a speaker that does not respond count as not established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_sessions: Option<String>,

    /// Conditions of the peer. `Accepted`, `Ready`, `Stalled` and `InForce` have the same meaning as for the
    /// other kinds. `SessionsEstablished`: whether all sessions that speakers should have with the peer are
    /// established. The causes of failures are in status.sessions of the Speaker objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,

    /// The form of the peer that was accepted last. It remains in force while the peer is refused. If it is
    /// larger than 64 KiB, it is not recorded, and a speaker that starts while the peer is refused does not
    /// use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<AcceptedForm>,
}

/// LinkBandwidth defines the link bandwidth extended community of routes (draft-ietf-idr-link-bandwidth).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["megabitsPerEndpoint"]))]
pub struct LinkBandwidth {
    /// The bandwidth in Mbit/s for each endpoint of the Service on the Node that is ready. Only the ratio
    /// between the Nodes matters to most routers. Required. Must be between 1 and 100000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100000))]
    pub megabits_per_endpoint: i64,

    /// If true, the transitive form of the community is sent, which the peer may pass on to other AS. If
    /// unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitive: Option<bool>,
}

/// TcpAO defines how the segments of a session are authenticated by TCP-AO (RFC 5925).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["sendID", "receiveID"]))]
pub struct TcpAO {
    /// The KeyID in segments that the speaker sends: the receive ID of the router. Required. Must be between
    /// 0 and 255.
    #[serde(default, rename = "sendID")]
    #[schemars(range(min = 0, max = 255))]
    pub send_id: i32,

    /// The KeyID in segments that the speaker receives: the send ID of the router. Required. Must be between
    /// 0 and 255.
    #[serde(default, rename = "receiveID")]
    #[schemars(range(min = 0, max = 255))]
    pub receive_id: i32,

    /// The algorithm (RFC 5926): `HMAC-SHA-1-96` or `AES-128-CMAC-96`. If unset, defaults to HMAC-SHA-1-96.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), extend("enum" = ["HMAC-SHA-1-96", "AES-128-CMAC-96"]))]
    pub algorithm: Option<String>,
}

/// PasswordSecret refers to a Secret that contains a password.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["name"]))]
pub struct PasswordSecret {
    /// The name of the Secret. Required.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The namespace of the Secret. If unset, defaults to the namespace of Fairlead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// A duration in the format of Go. The pattern excludes texts on which the CEL function `duration` fails.
fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^(0|([0-9]{1,9}([.][0-9]{1,9})?(ns|us|ms|s|m|h))+)$",
    })
}
