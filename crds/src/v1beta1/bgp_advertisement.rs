//! The `BGPAdvertisement` kind: announcement of addresses to BGP peers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::community::community_value;
use super::{ObjectStatus, schema};

const SERVICE_SELECTORS: &str = "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || \
    ((!has(self.aggregationLength) || self.aggregationLength == 32) && \
    (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))";
const SERVICE_ATTRIBUTES: &str = "!has(self.serviceAttributes) || \
    ((!has(self.aggregationLength) || self.aggregationLength == 32) && \
    (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))";
/// A text with a colon is a value; every other text is the name of an alias or of a well-known community.
const COMMUNITY_FORMS: &str = "a community must be \"asn:value\", \"large:global:local1:local2\", \
    \"rt:admin:value\", \"soo:admin:value\", \"link-bandwidth:asn:rate\", \"ext:type:subtype:value\" or the \
    name of an alias or of a well-known community";
const COMMUNITIES: &str = concat!("self.all(c, !c.contains(':') || ", community_value!("c"), ")");

/// BGPAdvertisementSpec defines which addresses are announced, to which peers, and with which attributes.
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
    doc = "BGPAdvertisement announces the addresses of IPAddressPools to BGP peers.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(name = "Pool-Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
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
#[x_kube(
    validation = (SERVICE_SELECTORS, "serviceSelectors and aggregation are mutually exclusive: \
        serviceSelectors require aggregationLength 32 and aggregationLengthV6 128, the defaults"),
    validation = (SERVICE_ATTRIBUTES, "serviceAttributes and aggregation are mutually exclusive: \
        serviceAttributes require aggregationLength 32 and aggregationLengthV6 128, the defaults")
)]
pub struct BGPAdvertisementSpec {
    /// The prefix length of announced IPv4 routes. If it is shorter than 32, all announced addresses with a
    /// common prefix of this length share one route. The advertisement does not apply to a pool unless each
    /// IPv4 entry of the pool contains a complete prefix of this length. For a Service with
    /// externalTrafficPolicy Local, the nodes that serve it announce a host route as well. Must be between 1
    /// and 32. If unset, defaults to 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32), extend("default" = 32))]
    pub aggregation_length: Option<i32>,

    /// The prefix length of announced IPv6 routes. The rules of aggregationLength apply. Must be between 1
    /// and 128. If unset, defaults to 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128), extend("default" = 128))]
    pub aggregation_length_v6: Option<i32>,

    /// The LOCAL_PREF attribute of the routes, sent to iBGP peers only. Of several
    /// advertisements for a host route, the value of the oldest one is used; for an aggregate, the highest.
    /// If unset, defaults to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub local_pref: Option<i64>,

    /// The MULTI_EXIT_DISC attribute of the routes. Routers prefer the lowest value. If several
    /// advertisements for the same route set different values, the lowest is sent. If unset, the routes carry
    /// no MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub med: Option<i64>,

    /// The number of additional occurrences of the AS number of the speakers in the AS_PATH of the routes,
    /// which makes them less preferred. Applies to eBGP peers only. If several advertisements for the same
    /// route set different numbers, the highest applies. Must be between 1 and 10. If unset, the AS number
    /// occurs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub as_path_prepend: Option<i32>,

    /// If true, aggregated routes carry the AGGREGATOR attribute with the AS number and the router ID of the
    /// speaker. If unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<bool>,

    /// The communities that are attached to the routes. Each entry is a standard community `asn:value` (RFC
    /// 1997), a large community `large:global:local1:local2` (RFC 8092), an extended community, the name of
    /// a well-known community, or the name of an alias from a Community object. Extended communities are
    /// `rt:admin:value` and `soo:admin:value` with an AS number or an IPv4 address as admin (RFC 4360, RFC
    /// 5668), `link-bandwidth:asn:rate` in Mbit/s, and `ext:type:subtype:value` in 2, 2 and 12 hexadecimal
    /// digits. Well-known names are graceful-shutdown, accept-own, accept-own-nexthop, llgr-stale, no-llgr,
    /// blackhole, no-export, no-advertise, no-export-subconfed, local-AS, no-peer and standby-pe. If empty,
    /// the routes carry no communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        validation = (COMMUNITIES, COMMUNITY_FORMS),
        merge_strategy = ListMerge::Set
    )]
    pub communities: Vec<String>,

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

    /// Label selectors of the Nodes that announce. A Node is selected if any selector matches its labels. If
    /// empty, all Nodes announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Label selectors of the Services to announce. A Service is selected if any selector matches its labels.
    /// If empty, all Services are announced. Cannot be combined with aggregation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub service_selectors: Vec<LabelSelector>,

    /// The names of the BGPPeers that receive the routes. If empty, all peers receive them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub peers: Vec<String>,

    /// The attributes that Services may add to their routes by annotations. Cannot be combined with
    /// aggregation. If unset, the annotations have no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_attributes: Option<ServiceAttributes>,

    /// When a Node begins to announce an address. EndpointReady: as soon as an endpoint can serve the
    /// address. DataPathReady: as soon as, in addition, the Service proxy of the Node has applied the change
    /// of the endpoints. The Node waits for the proxy no longer than `--data-path-wait` of the speaker. The
    /// field withdraws no route that the Node announces already. If unset, defaults to EndpointReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("enum" = ["EndpointReady", "DataPathReady"]))]
    pub announce_when: Option<String>,

    /// The shortest time from the withdrawal of an address because of its endpoints until the same Node
    /// announces it again, a duration such as `10s` between 0s and 1h. A longer time causes fewer UPDATE
    /// messages if endpoints often become ready and unready. If unset, defaults to 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = (
        "duration(self) >= duration('0s') && duration(self) <= duration('1h')",
        "reannounceAfter must be a duration between 0s and 1h"
    ))]
    pub reannounce_after: Option<String>,
}

/// ServiceAttributes defines which attributes Services may add to their routes by annotations.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAttributes {
    /// The communities that the annotation `fairlead.dev/bgp-communities` may contain, as they are written
    /// there. The forms are those of the communities of the advertisement. If empty, the annotation has no
    /// effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        validation = (COMMUNITIES, COMMUNITY_FORMS),
        merge_strategy = ListMerge::Set
    )]
    pub communities: Vec<String>,

    /// The highest value of the annotation `fairlead.dev/bgp-as-path-prepend`. Must be between 1 and 10. If
    /// unset, the annotation has no effect.
    #[serde(default, rename = "maxASPathPrepend", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub max_as_path_prepend: Option<i32>,

    /// If true, the annotation `fairlead.dev/bgp-med` replaces the MULTI_EXIT_DISC of the advertisement. If
    /// unset, defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<bool>,
}
