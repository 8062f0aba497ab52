//! The result of a reconciliation, and the reasons that conditions and events carry.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Closed;

use crate::ipam::{AllocationRefusal, Holding};

/// The result of reconciling a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllocationOutcome {
    /// The Service was not reconciled yet.
    #[default]
    Undecided,
    /// The Service holds addresses.
    Allocated {
        /// The addresses.
        holding: Holding,
        /// A pool of the addresses that no advertisement covers for this Service.
        uncovered: Option<Arc<str>>,
        /// The part of the requested path attributes that no advertisement permits.
        unpermitted: Option<String>,
        /// The error in the Service's request, because of which it keeps the addresses it holds.
        invalid_request: Option<String>,
    },
    /// The Service holds no address.
    #[allow(missing_docs)]
    Refused { reason: AllocationReason, message: String },
}

impl AllocationOutcome {
    /// Returns true if the Service holds addresses, and other ones in `next`. A Service that was not
    /// reconciled yet holds those that its status displays.
    pub(super) fn moves_to(&self, next: &Self, displayed: &[IpAddr]) -> bool {
        let Self::Allocated { holding: next, .. } = next else { return false };
        match self {
            Self::Undecided => !displayed.is_empty() && !next.ips().eq(displayed.iter().copied()),
            Self::Allocated { holding, .. } => !holding.ips().eq(next.ips()),
            Self::Refused { .. } => false,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Reasons in conditions and events. They are part of the API: a reason is never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AllocationReason {
            $($(#[$doc])* $name,)*
        }

        impl AllocationReason {
            const ALL: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

reasons! {
    /// The Service has its addresses.
    Allocated,
    /// The request of the Service is malformed or contradicts itself.
    InvalidRequest,
    /// Every pool that the Service may use is full.
    PoolExhausted,
    /// No pool admits the Service.
    NoPoolMatches,
    /// The requested pool does not exist.
    PoolNotFound,
    /// The requested pool is refused, or the pool of the addresses that the Service retains.
    PoolRefused,
    /// The requested pool is disabled: it allocates no more addresses.
    PoolDisabled,
    /// The requested pool is being deleted.
    PoolDeleting,
    /// The Service retains addresses that their pool no longer offers.
    Retained,
    /// All pools disappeared at once, and the Service retains the addresses of one of them.
    PoolGone,
    /// Another Service holds the requested address.
    AddressInUse,
    /// The address is that of a Node: no Service gets it, and one that has it keeps it.
    NodeAddress,
    /// The requested address is reserved for another Service, by an IPClaim or during its cool-down.
    AddressReserved,
    /// An IPClaim for the Service has not reserved its addresses yet.
    ClaimPending,
    /// The IPClaim is malformed.
    InvalidClaim,
    /// Other Services share the requested address, but cannot share it with this Service.
    SharingConflict,
    /// The requested address is in no pool, or not in the requested pool.
    AddressNotInPool,
    /// The Service needs or requests an address family that is not available.
    FamilyMismatch,
    /// The Service has no cluster IP.
    NoClusterIP,
    /// The Service is being deleted and holds no address.
    ServiceDeleting,
    /// An advertisement covers the addresses.
    Covered,
    /// No advertisement covers the addresses, so clients outside the cluster cannot reach them.
    NoAdvertisement,
    /// At least one live speaker announces each of the addresses.
    Announced,
    /// No speaker is ready.
    NoSpeaker,
    /// No BGP session can carry an address.
    NoSession,
    /// The Service has no endpoint that is ready to serve.
    NoEndpoints,
    /// No BGP session carries the address family of an address.
    FamilyNotCarried,
    /// The nodes with a speaker must not announce addresses.
    NodesExcluded,
    /// No speaker announces an address, for another reason or not yet.
    NotAnnounced,
    /// No speaker lists an address, and the list of a speaker is incomplete.
    ListIncomplete,
    /// The controller has not listed the speakers.
    SpeakersUnknown,
    /// Another program replaces the status that this controller writes.
    StatusConflict,
}

impl AllocationReason {
    /// Returns the reason for a refusal by the allocator.
    pub fn of(refusal: &AllocationRefusal) -> Self {
        match refusal {
            AllocationRefusal::NoPool
            | AllocationRefusal::NoPoolMatches(_)
            | AllocationRefusal::NotAdmitted(..) => Self::NoPoolMatches,
            AllocationRefusal::NoSuchPool(_) => Self::PoolNotFound,
            AllocationRefusal::PoolRefused(_) => Self::PoolRefused,
            AllocationRefusal::PoolClosed(_, Closed::Disabled) => Self::PoolDisabled,
            AllocationRefusal::PoolClosed(_, Closed::Deleting) => Self::PoolDeleting,
            AllocationRefusal::FamilyMismatch(..) => Self::FamilyMismatch,
            AllocationRefusal::Exhausted { .. } => Self::PoolExhausted,
            AllocationRefusal::NotInPool(_) | AllocationRefusal::SeveralPools(_) => Self::AddressNotInPool,
            AllocationRefusal::InUse { conflict, .. } if conflict.is_between_sharers() => {
                Self::SharingConflict
            }
            AllocationRefusal::InUse { .. } => Self::AddressInUse,
            AllocationRefusal::NodeAddress { .. } => Self::NodeAddress,
            AllocationRefusal::Reserved { .. } => Self::AddressReserved,
        }
    }

    /// Returns true for the reasons of a Service that retains addresses.
    pub(super) fn is_retention(self) -> bool {
        matches!(self, Self::Retained | Self::PoolRefused | Self::PoolGone | Self::NodeAddress)
    }

    /// Returns the reason of this name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(reason, _)| *reason)
    }
}

impl fmt::Display for AllocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
