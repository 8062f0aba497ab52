//! The `Speaker` kind: the state of the speaker on one Node, and its address in the mesh.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions::RawCondition;

/// The maximum number of entries of `status.notAnnounced`.
pub const MAX_NOT_ANNOUNCED: usize = 64;
/// The maximum number of entries of `status.l2.conflicts`.
pub const MAX_CONFLICTS: usize = 64;
/// The maximum number of entries of `status.l2.addresses` and of `status.bgp.addresses`.
pub const MAX_ANNOUNCED_ENTRIES: usize = 4096;
/// The maximum size of `status.l2.addresses` and of `status.bgp.addresses`, in octets of JSON.
pub const MAX_ANNOUNCED_OCTETS: usize = 128 * 1024;

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
    doc = "Speaker describes the speaker on one Node. The speaker writes the object, which is owned by the \
        Node and has its name; the objects of an instance with a load balancer class have the name of the \
        Node, a dot and the namespace of the instance.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.loadBalancerClass", priority = 1),
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh.address", priority = 1),
    printcolumn(name = "Mesh-Key", type_ = "string", json_path = ".spec.mesh.keyFingerprint", priority = 1),
    printcolumn(name = "Sessions", type_ = "string", json_path = ".status.establishedSessions"),
    printcolumn(name = "L2", type_ = "integer", json_path = ".status.l2.announced"),
    printcolumn(name = "BGP", type_ = "integer", json_path = ".status.bgp.announced"),
    printcolumn(name = "Not-Announced", type_ = "integer", json_path = ".status.notAnnouncedCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerSpec {
    /// The address at which other speakers reach this one. Unset while the speaker takes no part in the mesh,
    /// for example because it waits for the key in the Secret `fairlead-mesh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,

    /// The load balancer class of the Services that the speaker announces (`--lb-class`). Speakers of
    /// different classes are not members of one mesh. Unset if the speaker announces Services without a
    /// class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
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

    /// The fingerprint of the key that the speaker uses, which it read from the Secret `fairlead-mesh` when
    /// it started. Speakers accept each other only if they use the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_fingerprint: Option<String>,

    /// The Ethernet addresses of the interfaces on which the speaker announces, by which other speakers tell
    /// it from a host that uses an address of a Service. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 17)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub macs: Vec<String>,
}

/// SpeakerStatus describes what the speaker announces and what it cannot announce.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// The version of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// True if the speaker runs, has received all objects it depends on, and announces accordingly. While it
    /// does not run, the condition Ready contains the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,

    /// The BGP sessions of this Node, one for each BGPPeer that selects it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub sessions: Vec<Session>,

    /// The number of BGP sessions that are established, and the number of all, such as `1/2`. Unset if no
    /// BGPPeer selects this Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_sessions: Option<String>,

    /// The addresses that this Node announces on the local link, and the interfaces on which it can announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<L2Status>,

    /// How the speaker detects that another Node fails (`--l2-detection`): `fast`, `normal` or `swim`. Unset
    /// if the speaker does not announce by L2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub l2_detection: Option<String>,

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
    /// why. `Drained`: the Node is being drained, and can be taken out of service. `Ready`: the speaker runs;
    /// if not, the reason is `Stopping`, `Stopped`, or `NotResponding`, which another speaker or the
    /// controller has found. `AddressConflict`: another host on the link uses an address of this Node;
    /// present only while it is true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,
}

/// L2Conflict describes another host on the link that uses an address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct L2Conflict {
    /// The address.
    #[schemars(length(max = 45))]
    pub address: String,

    /// The Ethernet address of the other host. Unset if its messages do not contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17))]
    pub mac: Option<String>,

    /// The interface of this Node on which the other host was seen.
    #[serde(default)]
    #[schemars(length(max = 15))]
    pub interface: String,

    /// True if this Node answers for the address nevertheless. False if it leaves the address to the other
    /// host, and announces it when that has stopped.
    #[serde(default)]
    pub announced: bool,

    /// The time since which the other host uses the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
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

    /// The description of the BGPPeer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,

    /// The state of the session (RFC 4271): Idle, Connect, Active, OpenSent, OpenConfirm or Established.
    #[serde(default)]
    pub state: String,

    /// What the session waits for. `WaitingForBfd`: BFD reports that the path to the router is down, or is
    /// not up yet. `Listening`: the router of a passive BGPPeer has not connected. `Connecting`: the router
    /// does not accept the TCP connection. `Negotiating`: the router accepts the connection, but not the
    /// session. `Established`: nothing. `Stopped`: the configuration of the peer does not permit a session.
    /// `Shutdown`: the field shutdown of the BGPPeer is true.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,

    /// The time since which the session has been established, or has not been established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_since: Option<Time>,

    /// The time at which the session was established. Unset in all other states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_since: Option<Time>,

    /// The reason for which the session last ended or failed to establish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,

    /// The time since which attempts have failed for the reason in lastError.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_since: Option<Time>,

    /// The number of consecutive attempts that failed for the reason in lastError. Rounded down to a power of
    /// two, so that a router that is down causes few writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_count: Option<i64>,

    /// The number of consecutive attempts that failed for any reason. Rounded down to a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,

    /// The number of times the session was lost after it had been established, since the speaker started.
    #[serde(default)]
    pub flaps: i64,

    /// The parameters that both sides agreed on. Unset unless the session is established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiated: Option<NegotiatedSession>,

    /// The routes of each negotiated address family. Empty unless the session is established.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub families: Vec<SessionFamily>,

    /// The last NOTIFICATION that the speaker sent to the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_notification_sent: Option<SessionNotification>,

    /// The last NOTIFICATION that the peer sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_notification_received: Option<SessionNotification>,

    /// The number of prefixes that are announced to the peer.
    #[serde(default)]
    pub prefixes: i64,

    /// The BFD session with the peer. Unset if the BGPPeer has no bfdProfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BFDSession>,

    /// Limitations of the session, such as an address family whose routes cannot be sent to the peer, and
    /// their causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub messages: Vec<String>,
}

/// NegotiatedSession contains the parameters that both sides of a BGP session agreed on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NegotiatedSession {
    /// The AS number of the peer.
    #[serde(default, rename = "peerASN")]
    pub peer_asn: i64,

    /// The BGP identifier of the peer.
    #[serde(default, rename = "peerRouterID")]
    pub peer_router_id: String,

    /// The hold time in use, such as `9s`; `0s` disables it.
    #[serde(default)]
    pub hold_time: String,

    /// The interval of the keepalives of the speaker.
    #[serde(default)]
    pub keepalive_time: String,

    /// The capabilities that both sides offered, such as `route refresh`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub capabilities: Vec<String>,
}

/// SessionFamily describes the routes of one address family on a BGP session.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionFamily {
    /// The address family: `IPv4 unicast` or `IPv6 unicast`.
    #[serde(default)]
    pub family: String,

    /// The number of prefixes that are announced to the peer.
    #[serde(default)]
    pub sent: i64,

    /// The number of prefixes that the peer announced, including repetitions. The speaker discards them.
    /// Rounded down to a power of two.
    #[serde(default)]
    pub received: i64,

    /// True if all initial routes and the End-of-RIB marker (RFC 4724) were sent.
    #[serde(default, rename = "endOfRIBSent")]
    pub end_of_rib_sent: bool,

    /// True if the peer sent the End-of-RIB marker.
    #[serde(default, rename = "endOfRIBReceived")]
    pub end_of_rib_received: bool,
}

/// SessionNotification describes a NOTIFICATION message (RFC 4271).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionNotification {
    /// The code and subcode with their names, and the text of a shutdown communication (RFC 9003).
    #[serde(default)]
    pub message: String,

    /// The time of the first of consecutive NOTIFICATIONs with this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// BFDSession describes a BFD session (RFC 5880). BGP sessions between the same addresses share one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BFDSession {
    /// The state of the session: AdminDown, Down, Init or Up.
    #[serde(default)]
    pub state: String,

    /// The time of the last change of the state. Unset if the state never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,

    /// The address of the Node. Unset while the Node has no route to the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,

    /// `SingleHop` (RFC 5881) or `MultiHop` (RFC 5883).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_mode: Option<String>,

    /// The interval in force between sent control packets, in milliseconds. Unset if none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_interval: Option<i64>,

    /// The minimum interval between received control packets that the speaker requests, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_interval: Option<i64>,

    /// The number of consecutive control packets that the peer must miss before it declares the session down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_multiplier: Option<i64>,

    /// The time without a control packet after which the speaker declares the session down, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_time: Option<i64>,

    /// What the last control packet of the peer contains. Unset if no packet arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<BFDRemote>,

    /// The reason for the last change of the state, in the words of RFC 5880. Unset if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,

    /// The number of times that the session left the state Up.
    #[serde(default)]
    pub flaps: i64,

    /// The number of times that the Node was too late to detect a failure and waited for another packet.
    /// Rounded down to a power of two.
    #[serde(default)]
    pub lateness: i64,

    /// How the kernel schedules the thread that sends the packets: `SCHED_FIFO` with its priority, `nice`
    /// with its value, or `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<String>,

    /// The reason for which the session is not up, or what limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// BFDRemote describes the peer of a BFD session.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BFDRemote {
    /// The state of the session at the peer: AdminDown, Down, Init or Up.
    #[serde(default)]
    pub state: String,

    /// The minimum interval between control packets that the peer prefers to send, in milliseconds.
    #[serde(default)]
    pub transmit_interval: i64,

    /// The minimum interval between control packets that the peer can receive, in milliseconds.
    #[serde(default)]
    pub receive_interval: i64,

    /// The number of consecutive control packets that the speaker must miss before it declares the session
    /// down.
    #[serde(default)]
    pub detect_multiplier: i64,

    /// The reason for the last change of the state at the peer, in the words of RFC 5880. Unset if there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
}

/// Announced describes what one protocol announces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// The number of announced addresses.
    #[serde(default)]
    pub announced: i64,

    /// The announced addresses in ascending order, IPv4 before IPv6. An entry is an address, or a range
    /// `first-last` of adjacent addresses that includes both. By BGP, an address is announced if an
    /// established session carries its route. The list contains at most 4096 entries and 128 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,

    /// True if addresses contains all announced addresses. False if it contains only a part of them because
    /// of its limits. Unset if the version of the speaker does not list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// L2Status describes what the Node announces on the local link.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct L2Status {
    /// The announced addresses.
    #[serde(flatten)]
    pub announced: Announced,

    /// The interfaces on which this Node can announce addresses now, sorted by name. Unset if the version of
    /// the speaker does not list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 48))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub interfaces: Option<Vec<L2Interface>>,

    /// The addresses that another host on the link uses, although this Node announces them or is to announce
    /// them. An entry remains for a minute after the other host was last seen. The list contains at most 64
    /// entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub conflicts: Vec<L2Conflict>,
}

/// L2Interface is an interface on which the Node can announce addresses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct L2Interface {
    /// The name of the interface.
    #[schemars(length(max = 15))]
    pub name: String,

    /// The address families that it can announce: `IPv4` if it supports ARP, `IPv6` if it has a link-local
    /// address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub families: Vec<String>,
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
