//! The `Speaker` kind: the state of the speaker on one Node, and its address in the mesh.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions::RawCondition;

/// The maximum number of entries of `status.notAnnounced`.
pub const MAX_NOT_ANNOUNCED: usize = 64;

/// SpeakerSpec contains the address of the speaker in the mesh.
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
    doc = "Speaker describes the speaker on one Node. The speaker writes the object, which has the name of \
        the Node and is owned by the Node.",
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
    /// The address at which other speakers reach this one. Unset while the speaker is not a member of the
    /// mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
}

/// Mesh is the address of a speaker in the mesh of speakers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["address", "port"]))]
pub struct Mesh {
    /// The IP address.
    #[serde(default)]
    #[schemars(length(max = 45))]
    #[x_kube(validation = ("isIP(self)", "address must be an IP address"))]
    pub address: String,

    /// The UDP port.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// SpeakerStatus describes what the speaker announces and what it cannot announce.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// The version of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// True if the speaker has received all objects it depends on and announces accordingly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,

    /// The BGP sessions of this Node, one for each BGPPeer that selects it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub sessions: Vec<Session>,

    /// The addresses that this Node announces on the local link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<Announced>,

    /// The addresses that this Node announces by BGP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Announced>,

    /// Addresses of Services that this Node should announce but cannot. The list contains at most 64 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub not_announced: Vec<NotAnnounced>,

    /// The number of all addresses that this Node should announce but cannot, including those beyond the 64
    /// entries of notAnnounced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_announced_count: Option<i64>,

    /// Conditions of the speaker. `Eligible`: the Node may announce addresses; if not, the message explains
    /// why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,
}

/// Session describes a BGP session.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The name of the BGPPeer.
    pub peer: String,

    /// The IP address of the peer, or the interface that connects to it.
    #[serde(default)]
    pub address: String,

    /// The state of the session (RFC 4271): Idle, Connect, Active, OpenSent, OpenConfirm or Established.
    #[serde(default)]
    pub state: String,

    /// The time at which the session was established. Unset in all other states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_since: Option<Time>,

    /// The reason for which the session last ended or failed to establish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,

    /// The number of prefixes that are announced to the peer.
    #[serde(default)]
    pub prefixes: i64,

    /// Limitations of the session, such as an address family whose routes cannot be sent to the peer, and
    /// their causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub messages: Vec<String>,
}

/// Announced describes what one protocol announces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// The number of announced addresses.
    #[serde(default)]
    pub announced: i64,
}

/// NotAnnounced describes an address that is not announced, and the reason.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotAnnounced {
    /// The Service that holds the address, as `namespace/name`.
    pub service: String,

    /// The IP address that is not announced.
    #[serde(default)]
    pub address: String,

    /// The protocol, `L2` or `BGP`. Unset if the entry applies to both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,

    /// The reason as one CamelCase word.
    #[serde(default)]
    pub reason: String,

    /// The reason in plain text.
    #[serde(default)]
    pub message: String,
}
