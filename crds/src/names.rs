//! Names of annotations, labels and condition types.

/// Annotation on a Service: allocate from this pool.
pub const ADDRESS_POOL: &str = "fairlead.dev/address-pool";
/// Annotation on a Service: allocate these addresses, comma-separated, at most one of each family.
pub const LOAD_BALANCER_IPS: &str = "fairlead.dev/load-balancer-ips";
/// Annotation on a Service: share addresses with Services that have the same value.
pub const ALLOW_SHARED_IP: &str = "fairlead.dev/allow-shared-ip";
/// Annotation that the controller writes on a Service: the pool its addresses are from; of two, in the order of the
/// addresses, where they are from different pools.
pub const ALLOCATED_FROM_POOL: &str = "fairlead.dev/ip-allocated-from-pool";

/// All spellings of [`ADDRESS_POOL`].
pub const ADDRESS_POOL_SPELLINGS: [&str; 3] =
    [ADDRESS_POOL, "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
/// All spellings of [`LOAD_BALANCER_IPS`].
pub const LOAD_BALANCER_IPS_SPELLINGS: [&str; 3] =
    [LOAD_BALANCER_IPS, "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
/// All spellings of [`ALLOW_SHARED_IP`].
pub const ALLOW_SHARED_IP_SPELLINGS: [&str; 3] =
    [ALLOW_SHARED_IP, "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];
/// All spellings of [`ALLOCATED_FROM_POOL`], the one that wins first.
pub const ALLOCATED_FROM_POOL_SPELLINGS: [&str; 3] =
    [ALLOCATED_FROM_POOL, "metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"];

/// Label on a Node: it announces nothing, whatever the value.
pub const EXCLUDE_NODE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Condition type on a Service: whether it has its addresses.
pub const ALLOCATED: &str = "fairlead.dev/Allocated";
/// Condition type on a Service: whether an advertisement covers its addresses.
pub const ADVERTISED: &str = "fairlead.dev/Advertised";

/// Finalizer on an IPAddressPool whose addresses are in use: its deletion waits.
pub const POOL_PROTECTION: &str = "fairlead.dev/pool-protection";
