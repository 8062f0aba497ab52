//! Which verdicts an operator should hear of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::output::Verdict;
use super::reason::{Protocol, Reason};

/// An address that this node should announce, and does not. Ordered: what matters most comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// Why not.
    pub reason: Reason,
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
pub(super) fn of(l2: Verdict, bgp: Verdict) -> impl Iterator<Item = (Option<Protocol>, Reason)> {
    let reason = |verdict| match verdict {
        Verdict::Not(reason) if !Reason::is_expected(reason) => Some(reason),
        _ => None,
    };
    let asked = |reason: &Reason| *reason != Reason::NoMatchingAdvertisement;
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
    troubles: &mut BTreeSet<Trouble>,
    service: &Arc<ObjectKey>,
    address: IpAddr,
    before: (Verdict, Verdict),
    after: (Verdict, Verdict),
) {
    if before == after {
        return;
    }
    let trouble = |(protocol, reason)| Trouble { reason, service: service.clone(), address, protocol };
    for old in of(before.0, before.1).map(trouble) {
        troubles.remove(&old);
    }
    troubles.extend(of(after.0, after.1).map(trouble));
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Announced, Not};

    #[test]
    fn what_is_reported() {
        let table = [
            (Announced, Announced, vec![]),
            (Announced, Not(Reason::NoMatchingAdvertisement), vec![]),
            (Not(Reason::NotOwner), Not(Reason::NoMatchingAdvertisement), vec![]),
            (
                Not(Reason::NoMatchingAdvertisement),
                Not(Reason::NoMatchingAdvertisement),
                vec![(None, Reason::NoMatchingAdvertisement)],
            ),
            (
                Not(Reason::NoMatchingAdvertisement),
                Not(Reason::NoPeer),
                vec![(Some(Protocol::Bgp), Reason::NoPeer)],
            ),
            (Not(Reason::NoEndpoints), Not(Reason::NoEndpoints), vec![(None, Reason::NoEndpoints)]),
            (
                Not(Reason::NoEligibleNode),
                Not(Reason::NodeNotSelected),
                vec![(Some(Protocol::L2), Reason::NoEligibleNode)],
            ),
        ];
        for (l2, bgp, expected) in table {
            assert_eq!(of(l2, bgp).collect::<Vec<_>>(), expected, "L2 {l2}, BGP {bgp}");
        }
    }
}
