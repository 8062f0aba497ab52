//! Which verdicts an operator should hear of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::change::AnnouncementState;
use super::reason::{NotAnnouncedReason, Protocol};

/// An address that this node should announce, and does not. Ordered: what matters most comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Why not.
    pub reason: NotAnnouncedReason,
    /// The Service.
    pub service: Arc<ObjectKey>,
    /// The address.
    pub address: IpAddr,
    /// By which protocol; `None` means by neither, for the same reason.
    pub protocol: Option<Protocol>,
}

/// The reasons worth reporting of one address, with the protocol they are about.
///
/// A protocol that no advertisement asks for is in order as long as the other one is asked for.
pub(super) fn of(
    l2: AnnouncementState,
    bgp: AnnouncementState,
) -> impl Iterator<Item = (Option<Protocol>, NotAnnouncedReason)> {
    let reason = |verdict| match verdict {
        AnnouncementState::Not(reason) if !NotAnnouncedReason::is_expected(reason) => Some(reason),
        _ => None,
    };
    let asked = |reason: &NotAnnouncedReason| *reason != NotAnnouncedReason::NoMatchingAdvertisement;
    let found = if l2 == bgp {
        [reason(l2).map(|r| (None, r)), None]
    } else {
        [
            reason(l2).filter(asked).map(|r| (Some(Protocol::L2), r)),
            reason(bgp).filter(asked).map(|r| (Some(Protocol::Bgp), r)),
        ]
    };
    found.into_iter().flatten()
}

/// Replaces what is reported about one address of a Service.
pub(super) fn update(
    problems: &mut BTreeSet<Problem>,
    service: &Arc<ObjectKey>,
    address: IpAddr,
    before: (AnnouncementState, AnnouncementState),
    after: (AnnouncementState, AnnouncementState),
) {
    if before == after {
        return;
    }
    let problem = |(protocol, reason)| Problem { reason, service: service.clone(), address, protocol };
    for old in of(before.0, before.1).map(problem) {
        problems.remove(&old);
    }
    problems.extend(of(after.0, after.1).map(problem));
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnnouncementState::{Announced, Not};

    #[test]
    fn what_is_reported() {
        let table = [
            (Announced, Announced, vec![]),
            (Announced, Not(NotAnnouncedReason::NoMatchingAdvertisement), vec![]),
            (Not(NotAnnouncedReason::NotOwner), Not(NotAnnouncedReason::NoMatchingAdvertisement), vec![]),
            (
                Not(NotAnnouncedReason::NoMatchingAdvertisement),
                Not(NotAnnouncedReason::NoMatchingAdvertisement),
                vec![(None, NotAnnouncedReason::NoMatchingAdvertisement)],
            ),
            (
                Not(NotAnnouncedReason::NoMatchingAdvertisement),
                Not(NotAnnouncedReason::NoPeer),
                vec![(Some(Protocol::Bgp), NotAnnouncedReason::NoPeer)],
            ),
            (
                Not(NotAnnouncedReason::NoEndpoints),
                Not(NotAnnouncedReason::NoEndpoints),
                vec![(None, NotAnnouncedReason::NoEndpoints)],
            ),
            (
                Not(NotAnnouncedReason::NoEligibleNode),
                Not(NotAnnouncedReason::NodeNotSelected),
                vec![(Some(Protocol::L2), NotAnnouncedReason::NoEligibleNode)],
            ),
        ];
        for (l2, bgp, expected) in table {
            assert_eq!(of(l2, bgp).collect::<Vec<_>>(), expected, "L2 {l2}, BGP {bgp}");
        }
    }
}
