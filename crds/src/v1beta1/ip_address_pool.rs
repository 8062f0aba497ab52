//! The `IPAddressPool` kind: addresses for Services of type LoadBalancer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema;
use crate::conditions::RawCondition;
use crate::read;

// CEL expressions for the parts of an entry "first-last". `split` cannot be used: the API server does not
// know the maximum length of its results, so it estimates the cost of the rule as unbounded and rejects the
// definition.
macro_rules! first {
    () => {
        "a.substring(0, a.indexOf('-')).trim()"
    };
}
macro_rules! last {
    () => {
        "a.substring(a.indexOf('-') + 1).trim()"
    };
}
macro_rules! is_range {
    () => {
        concat!("(a.contains('-') && isIP(", first!(), ") && isIP(", last!(), "))")
    };
}
macro_rules! octets {
    ($address:expr) => {
        concat!($address, ".split('.').map(o, int(o))")
    };
}

const ENTRY: &str =
    concat!("self.all(a, isCIDR(a.trim()) ? cidr(a.trim()).prefixLength() > 0 : ", is_range!(), ")");
const ONE_FAMILY: &str =
    concat!("self.all(a, !", is_range!(), " || ip(", first!(), ").family() == ip(", last!(), ").family())");
/// CEL cannot compare addresses. The rule compares IPv4 addresses as numbers; only `resolve` compares IPv6
/// addresses.
const ORDER: &str = concat!(
    "self.all(a, !",
    is_range!(),
    " || ip(",
    first!(),
    ").family() != 4 || ip(",
    last!(),
    ").family() != 4 || [[",
    octets!(first!()),
    ", ",
    octets!(last!()),
    "]].all(r, ((r[0][0] * 256 + r[0][1]) * 256 + r[0][2]) * 256 + r[0][3] <= \
     ((r[1][0] * 256 + r[1][1]) * 256 + r[1][2]) * 256 + r[1][3]))"
);

/// Only unicast addresses. Two CIDRs overlap if one contains the other. Of a range, both ends are checked,
/// and for IPv4 by the first octets also what is between them; only `resolve` checks what is between two
/// IPv6 addresses.
const UNICAST: &str = concat!(
    "self.all(a, isCIDR(a.trim()) ? ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4', '255.255.255.255/32', \
     '::/127', 'ff00::/8'].all(b, !cidr(b).containsCIDR(cidr(a.trim())) && \
     !cidr(a.trim()).containsCIDR(cidr(b))) : !",
    is_range!(),
    " || ([",
    first!(),
    ", ",
    last!(),
    "].all(e, ip(e).isGlobalUnicast() || ip(e).isLinkLocalUnicast()) && (ip(",
    first!(),
    ").family() != 4 || ip(",
    last!(),
    ").family() != 4 || [[",
    octets!(first!()),
    ", ",
    octets!(last!()),
    "]].all(r, r[0][0] > 0 && (r[1][0] < 127 || r[0][0] > 127) && (r[1][0] < 224 || r[0][0] > 239)))))"
);

/// IPAddressPoolSpec defines the addresses of a pool and the Services that may use them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    shortname = "ipap",
    category = "fairlead",
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "IPAddressPool is a pool of addresses for Services of type LoadBalancer.",
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(name = "Auto-Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled", priority = 1),
    printcolumn(name = "Reclaim", type_ = "string", json_path = ".spec.reclaim", priority = 1),
    printcolumn(name = "Used-IPv4", type_ = "integer", json_path = ".status.assignedIPv4"),
    printcolumn(name = "Used-IPv6", type_ = "integer", json_path = ".status.assignedIPv6"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free"),
    printcolumn(name = "Retained-IPv4", type_ = "integer", json_path = ".status.retainedIPv4", priority = 1),
    printcolumn(name = "Retained-IPv6", type_ = "integer", json_path = ".status.retainedIPv6", priority = 1),
    printcolumn(name = "Reserved-IPv4", type_ = "integer", json_path = ".status.reservedIPv4", priority = 1),
    printcolumn(name = "Reserved-IPv6", type_ = "integer", json_path = ".status.reservedIPv6", priority = 1),
    printcolumn(
        name = "Avoid-Buggy-IPs",
        type_ = "boolean",
        json_path = ".spec.avoidBuggyIPs",
        priority = 1
    ),
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
    printcolumn(
        name = "Exhausted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Exhausted\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["addresses"]))]
pub struct IPAddressPoolSpec {
    /// The addresses of the pool. Each entry is a CIDR such as `198.51.100.0/24` or an inclusive range such
    /// as `192.0.2.200-192.0.2.230`. Addresses are allocated in the order of the entries. Required. No other
    /// pool may contain the same addresses: the pool that is already in force takes precedence, then the
    /// older one, and the other one is refused.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 96)))]
    #[x_kube(
        validation = (ENTRY, "each entry must be a CIDR with a prefix longer than /0, or a range of two \
            addresses \"first-last\""),
        validation = (ONE_FAMILY, "both ends of a range must be of the same address family"),
        validation = (ORDER, "the first address of a range must not be higher than the last"),
        validation = (UNICAST, "each entry must contain only addresses that a Service can use: none of \
            0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255, ::, ::1 and ff00::/8"),
        merge_strategy = ListMerge::Atomic
    )]
    pub addresses: Vec<String>,

    /// If true, Services that do not request a pool may get addresses of this pool. If false, only Services
    /// that request the pool or one of its addresses may. Defaults to true.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// If true, IPv4 addresses that end in .0 or .255 are not allocated, because some old devices do not
    /// accept them. Defaults to false.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// The Services that may use the pool, and its priority. If unset, any Service may use the pool; pools
    /// with a serviceAllocation are tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,

    /// Determines what happens to an address if an edit of addresses, selectors or labels excludes the
    /// Service that holds it. Retain: the Service keeps the address until it releases it, and the deletion of
    /// a pool in use waits until all its addresses are released. Reassign: the Service loses the address and
    /// gets another one. Defaults to Retain.
    #[serde(default = "retain")]
    #[schemars(schema_with = "reclaim")]
    pub reclaim: String,

    /// If true, stop allocating from this pool. Services keep the addresses they already hold. Defaults to
    /// false.
    #[serde(default)]
    pub disabled: bool,

    /// The cool-down of a released address, a duration such as `10m` between 0s and 8760h. During this time
    /// only the Service that released the address, identified by namespace and name, can get it again. If
    /// unset, any Service can get it immediately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = (
        "duration(self) >= duration('0s') && duration(self) <= duration('8760h')",
        "reuseAfter must be a duration between 0s and 8760h"
    ))]
    pub reuse_after: Option<String>,

    /// Determines which Services with the same sharing key may share an address: Services of one namespace
    /// (SameNamespace) or of any namespace (AnyNamespace). Services that already share an address continue to
    /// share it after a change of this field. Defaults to AnyNamespace.
    #[serde(default = "any_namespace")]
    #[schemars(schema_with = "sharing")]
    pub sharing: String,

    /// The load balancer class of the Services that may use the pool, as in `spec.loadBalancerClass` of a
    /// Service: the pool belongs to the instance of Fairlead that runs with this `--lb-class`. Other
    /// instances neither use the pool nor write its status. If unset, the pool belongs to the instance
    /// without a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
}

/// ServiceAllocation defines the Services that may use a pool, and its priority.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// The order in which pools are tried: pools with a lower number first, pools with 0 last. If unset,
    /// defaults to 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub priority: Option<i64>,

    /// The names of the namespaces whose Services may use the pool, in addition to those that
    /// namespaceSelectors match. If both fields are empty, Services of all namespaces may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub namespaces: Vec<String>,

    /// Label selectors of the namespaces whose Services may use the pool, in addition to those in namespaces.
    /// A namespace is selected if any selector matches its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Label selectors of the Services that may use the pool. A Service is selected if any selector matches
    /// its labels. If empty, all Services may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub service_selectors: Vec<LabelSelector>,
}

/// The maximum number of addresses of a pool in cool-down.
pub const MAX_RECENTLY_RELEASED: usize = 1024;

/// IPAddressPoolStatus describes the use of the pool and whether it is in force. Counts saturate at
/// 9223372036854775807.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// The metadata.generation of the pool that the status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The number of IPv4 addresses in the pool.
    #[serde(default, rename = "totalIPv4", skip_serializing_if = "Option::is_none")]
    pub total_ipv4: Option<i64>,
    /// The number of IPv6 addresses in the pool.
    #[serde(default, rename = "totalIPv6", skip_serializing_if = "Option::is_none")]
    pub total_ipv6: Option<i64>,
    /// The number of IPv4 addresses that Services hold.
    #[serde(default, rename = "assignedIPv4", skip_serializing_if = "Option::is_none")]
    pub assigned_ipv4: Option<i64>,
    /// The number of IPv6 addresses that Services hold.
    #[serde(default, rename = "assignedIPv6", skip_serializing_if = "Option::is_none")]
    pub assigned_ipv6: Option<i64>,
    /// The numbers of free addresses as a text, IPv4 and then IPv6, such as `56` or `56,>=2^63`. Address
    /// families that the pool does not contain are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
    /// The number of free IPv4 addresses.
    #[serde(default, rename = "availableIPv4", skip_serializing_if = "Option::is_none")]
    pub available_ipv4: Option<i64>,
    /// The number of free IPv6 addresses.
    #[serde(default, rename = "availableIPv6", skip_serializing_if = "Option::is_none")]
    pub available_ipv6: Option<i64>,
    /// The number of assigned IPv4 addresses that the pool no longer offers to the Services that hold them.
    #[serde(default, rename = "retainedIPv4", skip_serializing_if = "Option::is_none")]
    pub retained_ipv4: Option<i64>,
    /// The number of assigned IPv6 addresses that the pool no longer offers to the Services that hold them.
    #[serde(default, rename = "retainedIPv6", skip_serializing_if = "Option::is_none")]
    pub retained_ipv6: Option<i64>,
    /// The number of IPv4 addresses that no Service holds but that are reserved for one, by an IPClaim or
    /// during the time of reuseAfter.
    #[serde(default, rename = "reservedIPv4", skip_serializing_if = "Option::is_none")]
    pub reserved_ipv4: Option<i64>,
    /// The number of IPv6 addresses that no Service holds but that are reserved for one, by an IPClaim or
    /// during the time of reuseAfter.
    #[serde(default, rename = "reservedIPv6", skip_serializing_if = "Option::is_none")]
    pub reserved_ipv6: Option<i64>,
    /// Deprecated: earlier versions listed the addresses in cool-down here. The controller moves them to the
    /// PoolCooldown object of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub recently_released: Vec<ReleasedAddress>,
    /// Conditions of the pool. `Accepted`: the pool is in force; if not, the message explains why. `Ready`:
    /// the pool is in force and is not being deleted. `Stalled`, present only while it is true: the pool is
    /// refused.
    /// `Exhausted`: no address of at least one address family is free. `InUse`: the deletion of the pool
    /// waits for the Services and IPClaims in the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,
}

/// ReleasedAddress is an address that is reserved for the Service that released it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedAddress {
    /// The released address.
    #[schemars(length(max = 45))]
    pub address: String,
    /// The Service that released the address, as `namespace/name`.
    #[schemars(length(max = 317))]
    pub service: String,
    /// The time of the release.
    #[serde(deserialize_with = "read::time")]
    pub released: Time,
}

fn yes() -> bool {
    true
}

fn retain() -> String {
    "Retain".to_owned()
}

fn any_namespace() -> String {
    "AnyNamespace".to_owned()
}

fn reclaim(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Retain", "Reassign"], "default": "Retain" })
}

fn sharing(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["SameNamespace", "AnyNamespace"], "default": "AnyNamespace" })
}
