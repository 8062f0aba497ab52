//! Refusals: why an object, or a part of it, is not in force.

use std::fmt;

/// The reason why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[allow(missing_docs)]
pub struct ObjectRefusal {
    pub reason: RefusalReason,
    /// The explanation for the user: what is wrong, and what to do.
    pub message: String,
}

/// The reasons of refusals and warnings, as condition reasons. They are part of the API: reasons are added,
/// but never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// Two objects of this kind have the same name. Possible only in files.
    DuplicateName,
    /// The spec has parts that do not have the type of the schema, so that it cannot be read.
    Unreadable,
    /// A list contains an entry twice.
    DuplicateEntry,
    /// A label selector is invalid.
    InvalidSelector,

    /// A pool has no addresses.
    NoAddresses,
    /// An entry of a pool is neither a CIDR nor a range.
    InvalidRange,
    /// The first address of a range is higher than the last.
    ReversedRange,
    /// The ends of a range are of different families.
    MixedFamilies,
    /// An entry of a pool is the whole address space, /0.
    WholeAddressSpace,
    /// An entry of a pool contains addresses that no Service can use, such as loopback or multicast
    /// addresses.
    UnusableAddress,
    /// A warning: an entry of a pool is a CIDR with host bits, and begins at a lower address than written.
    HostBitsSet,
    /// A warning: an entry of a pool contains link-local addresses.
    LinkLocalAddress,
    /// Two entries of a pool, or two pools, have addresses in common.
    Overlap,
    /// `serviceAllocation.priority` is out of range.
    InvalidPriority,
    /// `reclaim` has an unknown value.
    InvalidReclaim,
    /// `sharing` has an unknown value.
    InvalidSharing,
    /// `reuseAfter` is not a duration, or is out of range.
    InvalidReuseAfter,
    /// The spec of a claim is invalid.
    InvalidClaim,

    /// An advertisement names a pool that does not exist or is refused.
    PoolNotFound,
    /// An advertisement names a peer that does not exist or is refused.
    PeerNotFound,
    /// The weight of a preference is out of range.
    InvalidWeight,
    /// The name of an interface or VRF is invalid.
    InvalidInterface,
    /// An aggregation length is out of range.
    InvalidAggregationLength,
    /// An aggregate would contain addresses outside of the pool.
    AggregationTooShort,
    /// An advertisement combines `serviceSelectors` with aggregation. The aggregate would attract the traffic
    /// of other Services.
    AggregationWithServiceSelectors,
    /// An advertisement combines `serviceAttributes` with aggregation. The attributes would apply to the
    /// addresses of other Services too.
    AggregationWithServiceAttributes,
    /// `localPref` is out of range.
    InvalidLocalPref,
    /// `med` is out of range.
    InvalidMED,
    /// `asPathPrepend` is out of range.
    InvalidASPathPrepend,
    /// `announceWhen` has an unknown value.
    InvalidAnnounceWhen,
    /// `onConflict` has an unknown value.
    InvalidOnConflict,
    /// `reannounceAfter` is not a duration, or is out of range.
    InvalidReannounceAfter,
    /// Two advertisements set different LOCAL_PREF values for the same routes.
    LocalPrefConflict,
    /// A community is neither a valid value nor a valid name.
    InvalidCommunity,
    /// No Community object defines the alias.
    CommunityNotFound,
    /// An alias is defined twice.
    DuplicateCommunity,

    /// `myASN` is not set.
    MissingMyASN,
    /// Neither `peerASN` nor `dynamicASN` is set.
    MissingPeerASN,
    /// Both `peerASN` and `dynamicASN` are set.
    ConflictingPeerASN,
    /// An AS number is out of range, or `dynamicASN` has an unknown value.
    InvalidASN,
    /// Neither `peerAddress` nor `interface` is set.
    MissingPeerAddress,
    /// Both `peerAddress` and `interface` are set, and `peerAddress` is not a link-local address; or
    /// `peerAddress` is a gateway, and `vrf` is set.
    ConflictingPeerAddress,
    /// `peerAddress` is not the address of a host.
    InvalidPeerAddress,
    /// `peerAddress` is a link-local address, and `interface` is not set.
    MissingInterface,
    /// `sourceInterface` is set together with `sourceAddress` or `interface`.
    ConflictingSource,
    /// `sourceAddress` is not an address of the family of the peer, or is a link-local address and the peer
    /// has none.
    InvalidSourceAddress,
    /// `passive` is true together with `tcpAO` or another `peerPort` than 179.
    ConflictingPassive,
    /// `peerPort` is out of range.
    InvalidPort,
    /// `routerID` is not a BGP identifier.
    InvalidRouterID,
    /// `ebgpMultiHop` is set for an iBGP peer.
    MultiHopWithIBGP,
    /// `ttlSecurity` is out of range, or combined with `ebgpMultiHop`.
    InvalidTTLSecurity,
    /// `holdTime` is not a valid hold time.
    InvalidHoldTime,
    /// `keepaliveTime` is not a valid interval, or contradicts `holdTime`.
    InvalidKeepaliveTime,
    /// `connectTime` is not a valid interval.
    InvalidConnectTime,
    /// `gracefulRestartTime` is not a valid time.
    InvalidGracefulRestartTime,
    /// `passwordSecret` has no name.
    InvalidPasswordSecret,
    /// `tcpAO` is invalid, or `passwordSecret` is not set.
    InvalidTCPAO,
    /// The BFD profile does not exist or is refused.
    BFDProfileNotFound,
    /// A warning: a peer with a BFD profile is in a VRF, where BFD is not supported.
    BFDInVRF,
    /// `shutdownMessage` is too long.
    InvalidShutdownMessage,
    /// `description` is too long.
    InvalidDescription,
    /// `linkBandwidth` is out of range.
    InvalidLinkBandwidth,
    /// Another peer defines the same session on the same nodes.
    DuplicatePeer,

    /// A parameter of a BFD profile is out of range.
    InvalidBFDProfile,
    /// A warning: `echoMode` of a BFD profile has no effect.
    EchoModeNotSupported,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(super) fn refuse<T>(reason: RefusalReason, message: impl Into<String>) -> Result<T, ObjectRefusal> {
    Err(ObjectRefusal { reason, message: message.into() })
}
