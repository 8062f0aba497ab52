//! The reasons that speakers give for addresses that they should announce and do not.

use std::net::IpAddr;

use fairlead_crds::text;
use fairlead_crds::v1beta1::NotAnnounced;

use crate::reconcile::outcome::AllocationReason;

/// An entry of `notAnnounced` of a `Speaker`. Ordered by the precedence of the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Obstacle {
    precedence: u8,
    /// The Service, as `namespace/name`.
    pub(super) service: Box<str>,
    /// The reason in plain text.
    pub(super) message: Box<str>,
    reason: Box<str>,
}

/// The reasons of a speaker that have a reason of their own in the condition, the first in precedence first.
const REASONS: [(&str, AllocationReason); 6] = [
    ("NoEndpoints", AllocationReason::NoEndpoints),
    ("NoEndpointsOfFamily", AllocationReason::NoEndpoints),
    ("FamilyNotCarried", AllocationReason::FamilyNotCarried),
    ("NoPeer", AllocationReason::NoSession),
    ("PeerNotSelected", AllocationReason::NoSession),
    ("NodeExcluded", AllocationReason::NodesExcluded),
];

impl Obstacle {
    /// Reads an entry. Returns `None` if it contains no address.
    pub(super) fn read(entry: &NotAnnounced) -> Option<(IpAddr, Self)> {
        let address = entry.address.parse().ok()?;
        // What concerns the configuration of the address comes before what concerns one node.
        let known = REASONS.iter().position(|(name, _)| *name == entry.reason);
        let precedence = match known {
            Some(at) if at < 3 => at,
            Some(at) => at + 1,
            None => 3,
        };
        let bounded = |text: &str| text::printable(text, text::MAX_MESSAGE).into_owned().into_boxed_str();
        let obstacle = Self {
            precedence: u8::try_from(precedence).unwrap_or(u8::MAX),
            service: bounded(&entry.service),
            message: bounded(&entry.message),
            reason: bounded(&entry.reason),
        };
        Some((address, obstacle))
    }

    /// Returns the reason of the condition.
    pub(super) fn reason(&self) -> AllocationReason {
        let known = REASONS.iter().find(|(name, _)| *name == &*self.reason);
        known.map_or(AllocationReason::NotAnnounced, |(_, reason)| *reason)
    }
}
