//! The `L2Advertisement` kind: announcement of addresses on the local link.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, schema};

/// L2AdvertisementSpec defines which addresses are announced, by which Nodes and on which interfaces.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    shortname = "l2ad",
    category = "fairlead",
    status = "ObjectStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "L2Advertisement announces the addresses of IPAddressPools on the local link, by ARP and NDP.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(name = "Pool-Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(name = "Node-Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = 10),
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
pub struct L2AdvertisementSpec {
    /// The names of the IPAddressPools to announce, in addition to those that ipAddressPoolSelectors match.
    /// If both fields are empty, all pools are announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub ip_address_pools: Vec<String>,

    /// Label selectors of the IPAddressPools to announce, in addition to those that ipAddressPools names. A
    /// pool is selected if any selector matches its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Label selectors of the Nodes that may announce. A Node is selected if any selector matches its labels.
    /// If empty, all Nodes may announce. One of the selected Nodes announces each address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Preferences among the Nodes that may announce. For each Node, the weights of all matching entries of
    /// all L2Advertisements that cover the address are added; a Node with the highest sum announces the
    /// address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,

    /// Label selectors of the Services to announce. A Service is selected if any selector matches its labels.
    /// If empty, all Services are announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub service_selectors: Vec<LabelSelector>,

    /// The names of the network interfaces on which to announce. If empty, addresses are announced on all
    /// interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "interfaces")]
    pub interfaces: Vec<String>,

    /// What a Node does if another host on the link uses an address that it announces. Keep: it keeps the
    /// address, and announces it again at most once in 10 seconds. Yield: it stops answering for the address,
    /// and announces it again when the other host has stopped; it looks every 30 seconds. If several
    /// L2Advertisements cover an address, Keep takes precedence. If unset, defaults to Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("enum" = ["Keep", "Yield"]))]
    pub on_conflict: Option<String>,
}

/// PreferredNodeSelector gives a weight to the Nodes that match a label selector.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["weight", "preference"]))]
pub struct PreferredNodeSelector {
    /// The weight that is added for each matching Node. Required. Must be between 1 and 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// The label selector of the preferred Nodes. Required.
    #[serde(default)]
    #[schemars(schema_with = "schema::selector")]
    pub preference: LabelSelector,
}

/// Interface names of 1 to 15 octets: the Linux constant IFNAMSIZ without the terminating zero.
fn interfaces(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "minLength": 1, "maxLength": 15 },
    })
}
