//! `IPAddressPool`: addresses that Services may get.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema;

// The parts of an entry "first-last", in CEL. Not `split`: of its pieces a real API server does not know how long
// they can get, so it takes any further work on them for unbounded and refuses the rule.
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
/// CEL cannot compare addresses. Those of IPv4 are compared as numbers; those of IPv6 only in `resolve`.
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

/// Addresses that Services of type LoadBalancer may get.
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
    doc = "Addresses that Services of type LoadBalancer may get.",
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled", priority = 1),
    printcolumn(name = "Reclaim", type_ = "string", json_path = ".spec.reclaim", priority = 1),
    printcolumn(name = "Used IPv4", type_ = "integer", json_path = ".status.assignedIPv4"),
    printcolumn(name = "Free IPv4", type_ = "integer", json_path = ".status.availableIPv4"),
    printcolumn(name = "Used IPv6", type_ = "integer", json_path = ".status.assignedIPv6"),
    printcolumn(name = "Free IPv6", type_ = "integer", json_path = ".status.availableIPv6", priority = 1),
    printcolumn(name = "Retained IPv4", type_ = "integer", json_path = ".status.retainedIPv4", priority = 1),
    printcolumn(name = "Retained IPv6", type_ = "integer", json_path = ".status.retainedIPv6", priority = 1),
    printcolumn(name = "Reserved IPv4", type_ = "integer", json_path = ".status.reservedIPv4", priority = 1),
    printcolumn(name = "Reserved IPv6", type_ = "integer", json_path = ".status.reservedIPv6", priority = 1),
    printcolumn(
        name = "Avoid Buggy IPs",
        type_ = "boolean",
        json_path = ".spec.avoidBuggyIPs",
        priority = 1
    ),
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
    /// Addresses of the pool, each entry a CIDR (`198.51.100.0/24`) or a range (`192.0.2.200-192.0.2.230`).
    /// Addresses are given in the order of the entries.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 96)))]
    #[x_kube(
        validation = (ENTRY, "each entry must be a CIDR with a prefix longer than /0, or a range of two addresses \"first-last\""),
        validation = (ONE_FAMILY, "both ends of a range must be of the same address family"),
        validation = (ORDER, "the first address of a range must not be higher than the last"),
        merge_strategy = ListMerge::Atomic
    )]
    pub addresses: Vec<String>,

    /// Whether a Service that names no pool may get an address of this one.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Leave out IPv4 addresses that end in .0 or .255, which some old devices cannot handle.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// Who may use the pool, and in which order pools are tried. Not set: everybody, after the pools that
    /// are meant for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,

    /// What becomes of an address that a Service holds when the pool no longer offers it to that Service, because
    /// addresses, selectors or labels were edited. Retain: the Service keeps it until it releases it, and a pool in use
    /// is deleted only after its last address was released. Reassign: it is taken away and another one given.
    #[serde(default = "retain")]
    #[schemars(schema_with = "reclaim")]
    pub reclaim: String,

    /// Give no more addresses of this pool. Who holds one keeps it.
    #[serde(default)]
    pub disabled: bool,

    /// How long a released address is kept for the Service that had it, by namespace and name, before another may get
    /// it: a duration such as 10m. Not set: another may get it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = (
        "duration(self) >= duration('0s') && duration(self) <= duration('8760h')",
        "reuseAfter must be a duration between 0s and 8760h"
    ))]
    pub reuse_after: Option<String>,

    /// Which Services that share a key may share an address: those of one namespace, or of any. Who shares already goes
    /// on sharing.
    #[serde(default = "any_namespace")]
    #[schemars(schema_with = "sharing")]
    pub sharing: String,
}

/// Who may use a pool, and in which order pools are tried.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first; 0 is last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub priority: Option<i64>,

    /// Namespaces whose Services may use the pool, by name. United with what namespaceSelectors match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub namespaces: Vec<String>,

    /// Namespaces whose Services may use the pool, by label; any one selector suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Services that may use the pool, by label; any one selector suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::selectors")]
    pub service_selectors: Vec<LabelSelector>,
}

/// Most entries of [`IPAddressPoolStatus::recently_released`].
pub const MAX_RECENTLY_RELEASED: usize = 1024;

/// How full the pool is, and whether it is in force. Counts saturate at 9223372036854775807.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// IPv4 addresses of the pool.
    #[serde(default, rename = "totalIPv4", skip_serializing_if = "Option::is_none")]
    pub total_ipv4: Option<i64>,
    /// IPv6 addresses of the pool.
    #[serde(default, rename = "totalIPv6", skip_serializing_if = "Option::is_none")]
    pub total_ipv6: Option<i64>,
    /// IPv4 addresses that Services hold.
    #[serde(default, rename = "assignedIPv4", skip_serializing_if = "Option::is_none")]
    pub assigned_ipv4: Option<i64>,
    /// IPv6 addresses that Services hold.
    #[serde(default, rename = "assignedIPv6", skip_serializing_if = "Option::is_none")]
    pub assigned_ipv6: Option<i64>,
    /// IPv4 addresses that are free.
    #[serde(default, rename = "availableIPv4", skip_serializing_if = "Option::is_none")]
    pub available_ipv4: Option<i64>,
    /// IPv6 addresses that are free.
    #[serde(default, rename = "availableIPv6", skip_serializing_if = "Option::is_none")]
    pub available_ipv6: Option<i64>,
    /// Of the assigned IPv4 addresses, those that the pool no longer offers to their holders.
    #[serde(default, rename = "retainedIPv4", skip_serializing_if = "Option::is_none")]
    pub retained_ipv4: Option<i64>,
    /// Of the assigned IPv6 addresses, those that the pool no longer offers to their holders.
    #[serde(default, rename = "retainedIPv6", skip_serializing_if = "Option::is_none")]
    pub retained_ipv6: Option<i64>,
    /// IPv4 addresses that nobody holds but that are kept for a Service: by an IPClaim, or for the time of reuseAfter.
    #[serde(default, rename = "reservedIPv4", skip_serializing_if = "Option::is_none")]
    pub reserved_ipv4: Option<i64>,
    /// IPv6 addresses that nobody holds but that are kept for a Service: by an IPClaim, or for the time of reuseAfter.
    #[serde(default, rename = "reservedIPv6", skip_serializing_if = "Option::is_none")]
    pub reserved_ipv6: Option<i64>,
    /// Addresses released less than reuseAfter ago, which only the Service that had them may get. At most 1024: what
    /// was released before those may be given to anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub recently_released: Vec<ReleasedAddress>,
    /// Conditions. `Accepted` says whether the pool is in force, and if not, why; `Exhausted` whether an address family
    /// has no free address left; `InUse` who is in the way of a deletion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// An address that is kept for the Service that had it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedAddress {
    /// The address.
    #[schemars(length(max = 45))]
    pub address: String,
    /// Namespace and name of the Service that had it.
    #[schemars(length(max = 317))]
    pub service: String,
    /// When it was released.
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
