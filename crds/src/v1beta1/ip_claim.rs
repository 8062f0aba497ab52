//! `IPClaim`: addresses that are kept for a Service, whether or not it exists.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Addresses that are kept for a Service of this namespace, whether or not the Service exists.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "IPClaim",
    plural = "ipclaims",
    shortname = "ipc",
    category = "fairlead",
    namespaced,
    status = "IPClaimStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Addresses that are kept for a Service of this namespace, whether or not the Service exists.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.serviceName"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".status.addresses"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".status.pool"),
    printcolumn(
        name = "Reserved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reserved\")].status"
    ),
    printcolumn(
        name = "Bound",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Bound\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reserved\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["serviceName"]))]
#[x_kube(
    validation = (
        "has(self.pool) != (has(self.addresses) && size(self.addresses) > 0)",
        "give either addresses or the pool to choose them from"
    ),
    validation = (
        "!has(self.ipFamilies) || has(self.pool)",
        "ipFamilies says what to choose from a pool; addresses have their family"
    )
)]
pub struct IPClaimSpec {
    /// Name of the Service, in the namespace of the claim. It need not exist.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self == oldSelf", "serviceName cannot be changed: make another claim"))]
    pub service_name: String,

    /// The addresses to reserve, at most one of each address family, all from one pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    #[x_kube(
        validation = ("self.all(a, isIP(a))", "each address must be an IP address"),
        validation = (
            "size(self) < 2 || !self.all(a, isIP(a)) || ip(self[0]).family() != ip(self[1]).family()",
            "two addresses must be of different address families"
        ),
        merge_strategy = ListMerge::Atomic
    )]
    pub addresses: Vec<String>,

    /// Name of the IPAddressPool to choose addresses from, once and for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: Option<String>,

    /// Address families to choose from the pool. Not set: IPv4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "families")]
    pub ip_families: Vec<String>,
}

/// What is reserved, and whether the Service has it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPClaimStatus {
    /// The addresses that are reserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,
    /// The pool that they are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Name of the Service, while it holds what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_service: Option<String>,
    /// Conditions. `Reserved` says whether nobody else can get the addresses, and if not, why; `Bound` whether the Service
    /// holds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn families(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": ["IPv4", "IPv6"] },
    })
}
