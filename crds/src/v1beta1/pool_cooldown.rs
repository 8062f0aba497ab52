//! The `PoolCooldown` kind: the addresses of a pool in cool-down.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::MAX_RECENTLY_RELEASED;

/// PoolCooldownSpec contains the addresses of the pool in cool-down.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "fairlead.dev",
    version = "v1beta1",
    kind = "PoolCooldown",
    plural = "poolcooldowns",
    category = "fairlead",
    derive = "PartialEq",
    derive = "Default",
    doc = "PoolCooldown lists the addresses of one IPAddressPool that were released less than reuseAfter ago. \
        The controller writes the object, which has the name of the pool and is owned by the pool. It is an \
        object of its own because it may be large and change often, and only a controller that starts to \
        lead reads it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PoolCooldownSpec {
    /// The released addresses, the earliest release first, each as `ADDRESS NAMESPACE/SERVICE TIME`. Only
    /// the Service that released such an address can get it again. The list contains the 1024 latest
    /// releases; addresses that were released before those are free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_RECENTLY_RELEASED), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub released: Vec<String>,
}
