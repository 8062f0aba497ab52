//! The `BFDProfile` kind: parameters of BFD sessions.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::ObjectStatus;

/// BFDProfileSpec defines the parameters of a BFD session.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "BFDProfile",
    plural = "bfdprofiles",
    shortname = "bfdp",
    category = "fairlead",
    status = "ObjectStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "BFDProfile contains the parameters of the BFD sessions (RFC 5880) with the BGP peers that name \
        it.",
    printcolumn(name = "Passive-Mode", type_ = "boolean", json_path = ".spec.passiveMode"),
    printcolumn(name = "Transmit-Interval", type_ = "integer", json_path = ".spec.transmitInterval"),
    printcolumn(name = "Receive-Interval", type_ = "integer", json_path = ".spec.receiveInterval"),
    printcolumn(name = "Multiplier", type_ = "integer", json_path = ".spec.detectMultiplier"),
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
pub struct BFDProfileSpec {
    /// The minimum interval, in milliseconds, between control packets that the speaker can receive. Must be
    /// between 10 and 60000. If unset, defaults to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000))]
    pub receive_interval: Option<i32>,

    /// The minimum interval, in milliseconds, between control packets that the speaker prefers to send. Must
    /// be between 10 and 60000. If unset, defaults to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000))]
    pub transmit_interval: Option<i32>,

    /// The number of consecutive control packets that must be missed before the session is declared down.
    /// Must be between 2 and 255. If unset, defaults to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 255))]
    pub detect_multiplier: Option<i32>,

    /// The minimum interval, in milliseconds, between echo packets. Has no effect, like echoMode. Must be
    /// between 10 and 60000. If unset, defaults to 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000))]
    pub echo_interval: Option<i32>,

    /// Has no effect: the speaker sends no echo packets. The condition Accepted and the session status in the
    /// Speaker object say so. If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,

    /// If true, the speaker waits for the first control packet of the peer before it sends any. If unset,
    /// defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,

    /// The minimum TTL of received control packets on multihop sessions; packets with a lower TTL are
    /// dropped. Must be between 1 and 254. If unset, defaults to 254.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub minimum_ttl: Option<i32>,
}
