//! `BGPPeer`: a router that speakers hold BGP sessions with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, schema};

const ONE_ASN: &str =
    "(has(self.peerASN) && self.peerASN != 0) != (has(self.dynamicASN) && self.dynamicASN != '')";
const ONE_ADDRESS: &str =
    "(has(self.peerAddress) && self.peerAddress != '') != (has(self.interface) && self.interface != '')";
const MULTI_HOP: &str = "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || \
    !((has(self.peerASN) && self.peerASN == self.myASN) || (has(self.dynamicASN) && self.dynamicASN == 'internal'))";
const LOCAL_ASN: &str = "!has(self.localASN) || \
    !(has(self.peerASN) && (self.peerASN == self.myASN || self.peerASN == self.localASN)) && \
    !(has(self.dynamicASN) && self.dynamicASN == 'internal')";
const KEEPALIVE: &str = "!has(self.holdTime) || !has(self.keepaliveTime) || \
    duration(self.keepaliveTime) <= duration(self.holdTime)";
const ZERO_TIMES: &str = "!has(self.holdTime) || !has(self.keepaliveTime) || \
    (duration(self.keepaliveTime).getSeconds() == 0) == (duration(self.holdTime).getSeconds() == 0)";
const SOURCE_FAMILY: &str = "!has(self.sourceAddress) || self.sourceAddress == '' || \
    !has(self.peerAddress) || self.peerAddress == '' || \
    !isIP(self.sourceAddress) || !isIP(self.peerAddress) || \
    ip(self.sourceAddress).family() == ip(self.peerAddress).family()";
const IS_ADDRESS: &str = "self == '' || isIP(self)";
const IS_ROUTER_ID: &str = "self == '' || (isIP(self) && ip(self).family() == 4 && self != '0.0.0.0')";
const HOLD_TIME: &str = "duration(self) == duration('0s') || \
    (duration(self).getSeconds() >= 3 && duration(self).getSeconds() <= 65535)";
const KEEPALIVE_TIME: &str = "duration(self) == duration('0s') || \
    (duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535)";
const CONNECT_TIME: &str = "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535";
const WHOLE_SECONDS: &str = "duration(self).getMilliseconds() % 1000 == 0";

/// A router that the speakers hold BGP sessions with.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "BGPPeer",
    plural = "bgppeers",
    shortname = "bgpp",
    category = "fairlead",
    status = "ObjectStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A router that the speakers hold BGP sessions with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "My ASN", type_ = "string", json_path = ".spec.myASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop", priority = 1),
    printcolumn(name = "Interface", type_ = "string", json_path = ".spec.interface", priority = 1),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["myASN"]))]
#[x_kube(
    validation = (ONE_ASN, "exactly one of peerASN and dynamicASN must be set"),
    validation = (ONE_ADDRESS, "exactly one of peerAddress and interface must be set"),
    validation = (MULTI_HOP, "ebgpMultiHop cannot be set for an iBGP peer"),
    validation = (LOCAL_ASN, "localASN cannot be set for an iBGP peer and cannot be the peer's own AS number"),
    validation = (KEEPALIVE, "keepaliveTime must not be longer than holdTime"),
    validation = (ZERO_TIMES, "keepaliveTime and holdTime must both be zero, or neither"),
    validation = (SOURCE_FAMILY, "sourceAddress and peerAddress must be of the same address family")
)]
pub struct BGPPeerSpec {
    /// AS number of the speakers.
    #[serde(default, rename = "myASN")]
    #[schemars(range(min = 1, max = 4294967295i64))]
    pub my_asn: i64,

    /// AS number that is shown to this peer in place of myASN.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295i64))]
    pub local_asn: Option<i64>,

    /// AS number of the peer. Exactly one of peerASN and dynamicASN must be set.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub peer_asn: Option<i64>,

    /// `internal`: the peer must have our AS number, whatever it is. `external`: it must have another one.
    #[serde(default, rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("enum" = ["internal", "external"]))]
    pub dynamic_asn: Option<String>,

    /// IP address of the peer. Exactly one of peerAddress and interface must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = (IS_ADDRESS, "peerAddress must be an IP address"))]
    pub peer_address: Option<String>,

    /// Interface with the peer at its other end (BGP unnumbered): the session runs over IPv6 link-local addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub interface: Option<String>,

    /// TCP port of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("default" = 179))]
    pub peer_port: Option<i32>,

    /// Local address that the session is opened from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = (IS_ADDRESS, "sourceAddress must be an IP address"))]
    pub source_address: Option<String>,

    /// BGP identifier of the speakers, written like an IPv4 address. Not set: taken from each node.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = (IS_ROUTER_ID, "routerID must be written like an IPv4 address and must not be 0.0.0.0"))]
    pub router_id: Option<String>,

    /// Hold time that is offered, such as `90s` or `1m30s`, in whole seconds: 0s (no keepalives) or at least 3s.
    /// Not set: three times keepaliveTime, or 90s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(validation = (HOLD_TIME, "holdTime must be 0s, or between 3s and 65535s"))]
    pub hold_time: Option<String>,

    /// Time between keepalives, in whole seconds. Not set: a third of holdTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(validation = (KEEPALIVE_TIME, "keepaliveTime must be 0s, or between 1s and 65535s"))]
    pub keepalive_time: Option<String>,

    /// Time between attempts to connect, 1s to 65535s in whole seconds. Not set: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    #[x_kube(
        validation = (CONNECT_TIME, "connectTime must be between 1s and 65535s"),
        validation = (WHOLE_SECONDS, "connectTime must be a whole number of seconds")
    )]
    pub connect_time: Option<String>,

    /// Nodes that hold a session with this peer, by label; any one selector suffices. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Secret of type `kubernetes.io/basic-auth` whose `password` is the TCP-MD5 key of the session (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecret>,

    /// BFDProfile object with the parameters of a BFD session with the peer. Not set: no BFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub bfd_profile: Option<String>,

    /// The eBGP peer is more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,

    /// Offer graceful restart (RFC 4724).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_graceful_restart: Option<bool>,

    /// Carry routes of both address families on the session, not just those of its transport.
    #[serde(default)]
    pub dual_stack_address_family: bool,

    /// Has no effect; kept so that objects written for MetalLB are taken as they are.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,

    /// VRF device of the node that the session runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub vrf: Option<String>,
}

/// Reference to the Secret with a password.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["name"]))]
pub struct PasswordSecret {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Namespace of the Secret. Not set: Fairlead's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// A duration as Go writes it. The pattern keeps the rules from failing on a text that is none.
fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^(0|([0-9]{1,9}([.][0-9]{1,9})?(ns|us|ms|s|m|h))+)$",
    })
}
