//! Names that are part of the API: annotations, labels, finalizers, objects, field managers, condition types
//! and reasons.

/// Annotation on a Service: allocate from this pool.
pub const ADDRESS_POOL: &str = "fairlead.dev/address-pool";
/// Annotation on a Service: allocate these addresses, comma-separated, at most one of each family.
pub const LOAD_BALANCER_IPS: &str = "fairlead.dev/load-balancer-ips";
/// Annotation on a Service: share addresses with Services that have the same value.
pub const ALLOW_SHARED_IP: &str = "fairlead.dev/allow-shared-ip";
/// Annotation on a Service: add these communities to its routes, comma-separated, if a BGPAdvertisement
/// permits them.
pub const BGP_COMMUNITIES: &str = "fairlead.dev/bgp-communities";
/// Annotation on a Service: prepend the AS number this many times on its routes, if a BGPAdvertisement
/// permits it.
pub const BGP_AS_PATH_PREPEND: &str = "fairlead.dev/bgp-as-path-prepend";
/// Annotation on a Service: MULTI_EXIT_DISC of its routes, if a BGPAdvertisement permits it.
pub const BGP_MED: &str = "fairlead.dev/bgp-med";
/// Annotation on a Service, written by the controller: the pool of its addresses. If two addresses are from
/// different pools, both names in the order of the addresses, separated by a comma.
pub const ALLOCATED_FROM_POOL: &str = "fairlead.dev/ip-allocated-from-pool";

/// All spellings of [`ADDRESS_POOL`].
pub const ADDRESS_POOL_SPELLINGS: [&str; 3] =
    [ADDRESS_POOL, "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
/// All spellings of [`LOAD_BALANCER_IPS`].
pub const LOAD_BALANCER_IPS_SPELLINGS: [&str; 3] =
    [LOAD_BALANCER_IPS, "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
/// All spellings of [`ALLOW_SHARED_IP`]. The first one that is set takes precedence.
pub const ALLOW_SHARED_IP_SPELLINGS: [&str; 3] =
    [ALLOW_SHARED_IP, "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];
/// All spellings of [`ALLOCATED_FROM_POOL`]. The first one that is set takes precedence.
pub const ALLOCATED_FROM_POOL_SPELLINGS: [&str; 3] =
    [ALLOCATED_FROM_POOL, "metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"];

/// Label on a Node: the node announces nothing, whatever the value of the label.
pub const EXCLUDE_NODE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Label on a Node: its traffic moves to other nodes. The value `false` means the same as no label.
pub const DRAIN_NODE: &str = "fairlead.dev/drain";
/// Taint on a Node: the node is out of service.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Label on an EndpointSlice: the name of its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Finalizer on an IPAddressPool while Services or IPClaims have addresses of it: its deletion waits for
/// them.
pub const POOL_PROTECTION: &str = "fairlead.dev/pool-protection";

/// Finalizer on a BFDProfile while BGPPeers in force name it.
pub const BFD_PROFILE_PROTECTION: &str = "fairlead.dev/bfd-profile-protection";
/// Finalizer on a Community while BGPAdvertisements in force use its aliases.
pub const COMMUNITY_PROTECTION: &str = "fairlead.dev/community-protection";

/// Secret with the key of the speaker mesh, in the namespace of Fairlead.
pub const MESH_SECRET: &str = "fairlead-mesh";
/// Entry of [`MESH_SECRET`] that contains the key.
pub const MESH_SECRET_KEY: &str = "key";
/// Type of a Secret with the password of a BGP session.
pub const PASSWORD_SECRET_TYPE: &str = "kubernetes.io/basic-auth";
/// Entry of such a Secret that contains the password.
pub const PASSWORD_SECRET_KEY: &str = "password";

/// Lease that the leading controller holds, in the namespace of Fairlead.
pub const CONTROLLER_LEASE: &str = "fairlead-controller";
/// Field manager and event reporter of the controller.
pub const CONTROLLER: &str = "fairlead-controller";
/// Headless Service of the speakers, in the namespace of Fairlead. Its EndpointSlices show whose Pods are
/// ready.
pub const SPEAKER_SERVICE: &str = "fairlead-speaker";
/// Field manager of the speaker.
pub const SPEAKER: &str = "fairlead-speaker";

/// Condition of a Service: all its addresses are allocated.
pub const ALLOCATED: &str = "fairlead.dev/Allocated";
/// Condition of a Service, present only while it is true: another program replaces the status.
pub const STATUS_CONFLICT: &str = "fairlead.dev/StatusConflict";
/// Condition of a Service: an advertisement covers its addresses.
pub const COVERED: &str = "fairlead.dev/Covered";
/// Condition of a Service: at least one live speaker announces each of its addresses.
pub const ADVERTISED: &str = "fairlead.dev/Advertised";
/// Condition of a configuration object or IPClaim: the object is in force as it is. As tools that compute the
/// health of any object expect it (kstatus). Of a Speaker: the speaker runs and has received all objects that
/// it depends on.
pub const READY: &str = "Ready";
/// Condition of a configuration object or IPClaim, present only while it is true: the object is refused, and
/// a person must correct it or another object.
pub const STALLED: &str = "Stalled";
/// Condition of a BGPPeer: all sessions that speakers should have with the peer are established.
pub const SESSIONS_ESTABLISHED: &str = "SessionsEstablished";
/// Condition of a configuration object: the object is in force as it is.
pub const ACCEPTED: &str = "Accepted";
/// Condition of a configuration object except a pool, present only while it is true: the object is refused,
/// and its last accepted form is in force.
pub const IN_FORCE: &str = "InForce";
/// Condition of an IPAddressPool: no address of at least one of its address families is free.
pub const EXHAUSTED: &str = "Exhausted";
/// Condition of an IPAddressPool: deletion waits for the Services and IPClaims that have addresses of it. Of
/// a BFDProfile or Community: deletion waits for the objects that refer to it.
pub const IN_USE: &str = "InUse";
/// Condition of an IPClaim: its addresses are reserved.
pub const RESERVED: &str = "Reserved";
/// Condition of an IPClaim: its Service holds the reserved addresses.
pub const BOUND: &str = "Bound";
/// Condition of a Speaker: the node may announce addresses.
pub const ELIGIBLE: &str = "Eligible";
/// Condition of a Speaker: the node is being drained, and no traffic comes to it because of announcements.
pub const DRAINED: &str = "Drained";
/// Condition of a Speaker, present only while it is true: another host on the link uses an address that the
/// node announces or is to announce.
pub const ADDRESS_CONFLICT: &str = "AddressConflict";

/// Reasons of conditions that no enum defines.
#[allow(missing_docs)]
pub mod reasons {
    /// Of [`super::ACCEPTED`] without a warning.
    pub const ACCEPTED: &str = "Accepted";
    /// Of [`super::ACCEPTED`] with a warning: a pool contains addresses of Nodes, or overlaps the Pod range
    /// of a Node, or a range of cluster IPs.
    pub const NODE_ADDRESS: &str = "NodeAddress";
    pub const POD_RANGE: &str = "PodRange";
    pub const SERVICE_RANGE: &str = "ServiceRange";

    /// Of [`super::READY`] while the object is being deleted.
    pub const TERMINATING: &str = "Terminating";

    /// Of [`super::READY`] of a Speaker.
    pub const RUNNING: &str = "Running";
    pub const STOPPING: &str = "Stopping";
    pub const STOPPED: &str = "Stopped";
    pub const NOT_RESPONDING: &str = "NotResponding";

    /// Of [`super::SESSIONS_ESTABLISHED`].
    pub const ALL_ESTABLISHED: &str = "AllEstablished";
    pub const NOT_ESTABLISHED: &str = "NotEstablished";
    pub const NO_SPEAKER: &str = "NoSpeaker";

    /// Of [`super::IN_FORCE`].
    pub const LAST_ACCEPTED: &str = "LastAccepted";

    /// Of [`super::EXHAUSTED`].
    pub const ADDRESSES_AVAILABLE: &str = "AddressesAvailable";
    pub const NO_FREE_ADDRESS: &str = "NoFreeAddress";

    /// Of [`super::IN_USE`].
    pub const ADDRESSES_HELD: &str = "AddressesHeld";
    pub const REFERENCED: &str = "Referenced";

    /// Of [`super::RESERVED`].
    pub const RESERVED: &str = "Reserved";
    pub const PENDING: &str = "Pending";

    /// Of [`super::BOUND`].
    pub const BOUND: &str = "Bound";
    pub const NOT_RESERVED: &str = "NotReserved";
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    pub const SERVICE_HAS_NO_ADDRESS: &str = "ServiceHasNoAddress";
    pub const SERVICE_HOLDS_ANOTHER: &str = "ServiceHoldsAnother";

    /// Of [`super::ELIGIBLE`].
    pub const ELIGIBLE: &str = "Eligible";

    /// Of [`super::ADDRESS_CONFLICT`].
    pub const USED_BY_ANOTHER_HOST: &str = "UsedByAnotherHost";

    /// Of [`super::DRAINED`].
    pub const DRAINED: &str = "Drained";
    pub const DRAINING: &str = "Draining";
    pub const NOT_DRAINING: &str = "NotDraining";
}
