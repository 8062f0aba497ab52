//! The `IPClaim` kind: addresses that are reserved for a Service.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::conditions::RawCondition;

/// IPClaimSpec defines the Service and the addresses of a claim.
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
    doc = "IPClaim reserves addresses for a Service in its namespace, whether or not the Service exists.",
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
        "exactly one of addresses and pool must be set"
    ),
    validation = (
        "!has(self.ipFamilies) || has(self.pool)",
        "ipFamilies can be set only together with pool"
    )
)]
pub struct IPClaimSpec {
    /// The name of the Service, in the namespace of the claim. Required and immutable. The Service does not
    /// need to exist.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self == oldSelf", "serviceName is immutable: create another IPClaim"))]
    pub service_name: String,

    /// The addresses to reserve: at most one of each address family, all from one pool. Exactly one of
    /// addresses and pool must be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    #[x_kube(
        validation = ("self.all(a, isIP(a))", "each address must be an IP address"),
        validation = (
            "self.all(a, !isIP(a) || (!a.startsWith('0.') && (ip(a).isGlobalUnicast() || \
                ip(a).isLinkLocalUnicast())))",
            "each address must be one that a Service can use: not in 0.0.0.0/8, not loopback, multicast, \
                broadcast or unspecified"
        ),
        validation = (
            "size(self) < 2 || !self.all(a, isIP(a)) || ip(self[0]).family() != ip(self[1]).family()",
            "two addresses must be of different address families"
        ),
        merge_strategy = ListMerge::Atomic
    )]
    pub addresses: Vec<String>,

    /// The name of the IPAddressPool to reserve addresses from. The addresses are chosen once and do not
    /// change afterwards. Exactly one of addresses and pool must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: Option<String>,

    /// The address families to reserve from the pool: one address of each. Can be set only together with
    /// pool. If unset, defaults to IPv4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "families")]
    pub ip_families: Vec<String>,

    /// The load balancer class of the Service and of the IPAddressPool: the claim belongs to the instance of
    /// Fairlead that runs with this `--lb-class`. If unset, it belongs to the instance without a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
}

/// IPClaimStatus describes the reserved addresses and whether the Service holds them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPClaimStatus {
    /// The metadata.generation of the claim that the status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The reserved addresses. If the condition Reserved is false, the addresses that the claim had and will
    /// reserve again as soon as possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,
    /// The name of the IPAddressPool that contains the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The name of the Service. Set while the Service holds a reserved address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_service: Option<String>,
    /// Conditions of the claim. `Reserved`: the addresses are reserved for the Service; if not, the message
    /// explains why. `Bound`: the Service holds a reserved address. `Ready`: as `Reserved`, but false while
    /// the claim is being deleted. `Stalled`, present only while it is true: the addresses cannot be
    /// reserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,
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
