//! The `Community` kind: names for BGP communities.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::ObjectStatus;

/// Returns a CEL expression that is true if the variable is the value of a community.
macro_rules! community_value {
    ($v:literal) => {
        concat!(
            "(",
            $v,
            ".matches('^[0-9]{1,5}:[0-9]{1,5}$') && ",
            $v,
            ".split(':').all(n, int(n) <= 65535)) || (",
            $v,
            ".matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && ",
            $v,
            ".substring(6).split(':').all(n, int(n) <= 4294967295)) || (",
            $v,
            ".matches('^(rt|soo):[0-9]{1,10}:[0-9]{1,10}$') && int(",
            $v,
            ".split(':')[1]) <= 4294967295 && ",
            "int(",
            $v,
            ".split(':')[2]) <= (int(",
            $v,
            ".split(':')[1]) <= 65535 ? 4294967295 : 65535)) || (",
            $v,
            ".matches('^(rt|soo):[0-9.]{7,15}:[0-9]{1,5}$') && isIP(",
            $v,
            ".split(':')[1]) && ",
            "int(",
            $v,
            ".split(':')[2]) <= 65535) || (",
            $v,
            ".matches('^link-bandwidth:[0-9]{1,5}:[0-9]{1,7}$') && int(",
            $v,
            ".split(':')[1]) <= 65535) || ",
            $v,
            ".matches('^ext:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}:[0-9a-fA-F]{12}$')"
        )
    };
}
pub(super) use community_value;

const VALUE: &str = concat!(
    "self in ['graceful-shutdown', 'accept-own', 'accept-own-nexthop', 'llgr-stale', 'no-llgr', 'blackhole', \
     'no-export', 'no-advertise', 'no-export-subconfed', 'local-AS', 'no-peer', 'standby-pe'] || ",
    community_value!("self")
);

/// CommunitySpec defines names for BGP communities.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    shortname = "bgpcomm",
    category = "fairlead",
    status = "ObjectStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Community defines names for BGP communities. BGPAdvertisements refer to the communities by \
        these names.",
    printcolumn(name = "Names", type_ = "string", json_path = ".spec.communities[*].name"),
    printcolumn(name = "Values", type_ = "string", json_path = ".spec.communities[*].value", priority = 1),
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
pub struct CommunitySpec {
    /// The names and their values. Each name may be defined only once in the cluster; if two objects define
    /// the same name, the one in force takes precedence, or else the older one, and the other one is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub communities: Vec<CommunityAlias>,
}

/// CommunityAlias is a name for a BGP community.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["name", "value"]))]
pub struct CommunityAlias {
    /// The name. Required. Must not contain a colon.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[^:]+$"))]
    pub name: String,

    /// The community that the name stands for: a value or a well-known name, as in the communities of a
    /// BGPAdvertisement. Required.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = (VALUE, "a community must be \"asn:value\", \"large:global:local1:local2\", \
        \"rt:admin:value\", \"soo:admin:value\", \"link-bandwidth:asn:rate\", \"ext:type:subtype:value\" or a \
        well-known name"))]
    pub value: String,
}
