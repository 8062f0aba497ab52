//! Why an object, or a part of it, is not in force.

use std::fmt;

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ObjectRefusal {
    /// In one word.
    pub reason: RefusalReason,
    /// In a sentence.
    pub message: String,
}

/// Reasons, in the CamelCase of conditions. They are part of the API: never renamed, only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// Two objects of this kind have one name; only possible in files.
    DuplicateName,
    /// A list has an entry twice.
    DuplicateEntry,
    /// A label selector is wrong.
    InvalidSelector,

    /// The pool has no addresses.
    NoAddresses,
    /// An entry is neither a CIDR nor a range.
    InvalidRange,
    /// The first address of a range is higher than the last.
    ReversedRange,
    /// The ends of a range are of different families.
    MixedFamilies,
    /// An entry is the whole address space, /0.
    WholeAddressSpace,
    /// Two entries of the pool, or two pools, have addresses in common.
    Overlap,
    /// `serviceAllocation.priority` is out of range.
    InvalidPriority,
    /// `reclaim` is none of its values.
    InvalidReclaim,
    /// `sharing` is none of its values.
    InvalidSharing,
    /// `reuseAfter` is no duration, or too long a one.
    InvalidReuseAfter,
    /// The spec of a claim cannot be understood.
    InvalidClaim,

    /// An advertisement names a pool that does not exist or is refused.
    PoolNotFound,
    /// An advertisement names a peer that does not exist or is refused.
    PeerNotFound,
    /// The weight of a preference is out of range.
    InvalidWeight,
    /// The name of an interface or VRF cannot be one.
    InvalidInterface,
    /// An aggregation length is out of range.
    InvalidAggregationLength,
    /// An aggregate would reach beyond the addresses of a pool.
    AggregationTooShort,
    /// Services are selected and their addresses aggregated: the aggregate would attract other Services' traffic.
    AggregationWithServiceSelectors,
    /// `localPref` is out of range.
    InvalidLocalPref,
    /// Two advertisements give the same routes different LOCAL_PREF.
    LocalPrefConflict,
    /// A community is neither a value nor a possible name.
    InvalidCommunity,
    /// There is no alias of this name.
    CommunityNotFound,
    /// An alias is defined twice.
    DuplicateCommunity,

    /// `myASN` is not set.
    MissingMyASN,
    /// Neither `peerASN` nor `dynamicASN` is set.
    MissingPeerASN,
    /// Both `peerASN` and `dynamicASN` are set.
    ConflictingPeerASN,
    /// An AS number is out of range, or `dynamicASN` is neither internal nor external.
    InvalidASN,
    /// Neither `peerAddress` nor `interface` is set.
    MissingPeerAddress,
    /// Both `peerAddress` and `interface` are set.
    ConflictingPeerAddress,
    /// `peerAddress` is not the address of a host.
    InvalidPeerAddress,
    /// `sourceAddress` is not an address of the peer's family.
    InvalidSourceAddress,
    /// `peerPort` is out of range.
    InvalidPort,
    /// `routerID` is not a BGP identifier.
    InvalidRouterID,
    /// `ebgpMultiHop` on an iBGP peer.
    MultiHopWithIBGP,
    /// `holdTime` is not a hold time.
    InvalidHoldTime,
    /// `keepaliveTime` is none, or does not go with the hold time.
    InvalidKeepaliveTime,
    /// `connectTime` is none.
    InvalidConnectTime,
    /// `passwordSecret` has no name.
    InvalidPasswordSecret,
    /// The BFD profile does not exist or is refused.
    BFDProfileNotFound,
    /// Another peer is the same session on the same nodes.
    DuplicatePeer,

    /// A number of a BFD profile is out of range.
    InvalidBFDProfile,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(super) fn refuse<T>(reason: RefusalReason, message: impl Into<String>) -> Result<T, ObjectRefusal> {
    Err(ObjectRefusal { reason, message: message.into() })
}
