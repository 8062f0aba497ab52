//! `Speaker`: what the speaker of one node does, and how the others find it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Most entries of `status.notAnnounced`.
pub const MAX_NOT_ANNOUNCED: usize = 64;

/// The speaker of one node, written by that speaker. Bears the node's name and is owned by the Node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "Speaker",
    plural = "speakers",
    shortname = "spk",
    category = "fairlead",
    status = "SpeakerStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The speaker of one node, written by that speaker. Bears the node's name and is owned by the Node.",
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh.address", priority = 1),
    printcolumn(name = "Sessions", type_ = "string", json_path = ".status.sessions[*].state"),
    printcolumn(name = "L2", type_ = "integer", json_path = ".status.l2.announced"),
    printcolumn(name = "BGP", type_ = "integer", json_path = ".status.bgp.announced"),
    printcolumn(name = "Not Announced", type_ = "integer", json_path = ".status.notAnnouncedCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerSpec {
    /// Where the other speakers reach this one. Not set while it does not take part in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
}

/// Where a speaker takes part in the mesh of speakers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["address", "port"]))]
pub struct Mesh {
    /// IP address.
    #[serde(default)]
    #[schemars(length(max = 45))]
    #[x_kube(validation = ("isIP(self)", "address must be an IP address"))]
    pub address: String,

    /// UDP port.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What the speaker does and what it cannot do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// Version of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Whether it has seen the configuration and acts on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,

    /// BGP sessions of this node, one for each peer it should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub sessions: Vec<Session>,

    /// What is announced on the local link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<Announced>,

    /// What is announced by BGP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Announced>,

    /// Addresses that Services hold and this node should announce but cannot, at most 64 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub not_announced: Vec<NotAnnounced>,

    /// How many there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_announced_count: Option<i64>,

    /// Conditions of the speaker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A BGP session.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Name of the BGPPeer object.
    pub peer: String,

    /// Address of the peer, or the interface it is on.
    #[serde(default)]
    pub address: String,

    /// State of the session in the words of RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm or Established.
    #[serde(default)]
    pub state: String,

    /// Since when it has been established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_since: Option<Time>,

    /// Why it ended or did not come up the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,

    /// Prefixes announced to the peer.
    #[serde(default)]
    pub prefixes: i64,

    /// What does not work on this session, such as an address family whose routes the peer does not get, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub messages: Vec<String>,
}

/// What is announced by one protocol.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// Number of addresses.
    #[serde(default)]
    pub announced: i64,
}

/// An address that is not announced, and why.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotAnnounced {
    /// The Service, as `namespace/name`.
    pub service: String,

    /// The address.
    #[serde(default)]
    pub address: String,

    /// Protocol: `L2` or `BGP`; not set where it concerns both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,

    /// Reason in one CamelCase word.
    #[serde(default)]
    pub reason: String,

    /// The reason in a sentence.
    #[serde(default)]
    pub message: String,
}
