//! `BGPAdvertisement`: announcement of addresses to BGP peers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, schema};

const SERVICE_SELECTORS: &str = "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || \
    ((!has(self.aggregationLength) || self.aggregationLength == 32) && \
    (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))";
/// What has a colon is a value, everything else the name of an alias.
const COMMUNITIES: &str = "self.all(c, !c.contains(':') \
    || (c.matches('^[0-9]{1,5}:[0-9]{1,5}$') && c.split(':').all(n, int(n) <= 65535)) \
    || (c.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && c.substring(6).split(':').all(n, int(n) <= 4294967295)))";

/// Announces the addresses of pools to BGP peers.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    shortname = "bgpad",
    category = "fairlead",
    status = "ObjectStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Announces the addresses of pools to BGP peers.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(name = "Node Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = 10),
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
#[x_kube(validation = (SERVICE_SELECTORS, "serviceSelectors and aggregationLength are mutually exclusive, can only be used together with default aggregationLength (32) and aggregationLengthV6 (128)"))]
pub struct BGPAdvertisementSpec {
    /// Prefix length of IPv4 announcements. Shorter than 32: all addresses in one prefix are announced as one route.
    /// Each entry of a pool must have a whole prefix of this length, else the pool is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32), extend("default" = 32))]
    pub aggregation_length: Option<i32>,

    /// Prefix length of IPv6 announcements, like aggregationLength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128), extend("default" = 128))]
    pub aggregation_length_v6: Option<i32>,

    /// LOCAL_PREF of the routes, seen by iBGP peers only. Not set: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub local_pref: Option<i64>,

    /// Communities attached to the routes: `asn:value` (RFC 1997), `large:global:local1:local2` (RFC 8092), or
    /// the name of an alias from a Community object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        validation = (COMMUNITIES, "a community is \"0-65535:0-65535\", \"large:0-4294967295:0-4294967295:0-4294967295\" or the name of an alias"),
        merge_strategy = ListMerge::Set
    )]
    pub communities: Vec<String>,

    /// Pools to announce, by name. With neither this nor ipAddressPoolSelectors: all pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub ip_address_pools: Vec<String>,

    /// Pools to announce, by label; any one selector suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Nodes that announce, by label; any one selector suffices. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Services to announce, by label; any one selector suffices. Empty: all Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub service_selectors: Vec<LabelSelector>,

    /// BGPPeer objects to announce to, by name. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub peers: Vec<String>,
}
