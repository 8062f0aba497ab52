//! The announcement state of each address of each Service, and the problems to report.
//!
//! A problem is an address that this node should announce and does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use crate::change::AnnouncementState;
use crate::reason::{NotAnnouncedReason, Protocol};

/// An address that this node should announce and does not. Ordered by importance, the most important first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Problem {
    pub reason: NotAnnouncedReason,
    pub service: Arc<ObjectKey>,
    pub address: IpAddr,
    /// The protocol that the reason is about; `None` if it applies to both.
    pub protocol: Option<Protocol>,
}

/// The states of all addresses.
#[derive(Debug, Default)]
pub(crate) struct AnnouncementStates {
    by_service: BTreeMap<Arc<ObjectKey>, Box<[(IpAddr, AddressState)]>>,
    problems: BTreeSet<Problem>,
    /// Grows with each change of a state.
    version: u64,
}

/// The state of one address of a Service by each protocol. The default is no problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AddressState {
    l2: AnnouncementState,
    bgp: AnnouncementState,
}

impl AnnouncementStates {
    /// Replaces the addresses of a Service; nothing is reported about them until their states are set.
    pub(crate) fn reset_service(&mut self, key: &Arc<ObjectKey>, addresses: &[IpAddr]) {
        self.delete_service(key);
        if !addresses.is_empty() {
            let states = addresses.iter().map(|address| (*address, AddressState::default()));
            self.by_service.insert(key.clone(), states.collect());
        }
    }

    pub(crate) fn delete_service(&mut self, key: &ObjectKey) {
        let Some((key, states)) = self.by_service.remove_entry(key) else { return };
        self.version += 1;
        for (address, state) in states {
            replace_problems(&mut self.problems, &key, address, state, AddressState::default());
        }
    }

    /// Stores the state of an address of a Service. Does nothing if the Service does not hold the address.
    pub(crate) fn set(
        &mut self,
        key: &Arc<ObjectKey>,
        address: IpAddr,
        protocol: Protocol,
        state: AnnouncementState,
    ) {
        let states = self.by_service.get_mut(key).into_iter().flatten();
        for (_, known) in states.filter(|(held, _)| *held == address) {
            let before = *known;
            match protocol {
                Protocol::L2 => known.l2 = state,
                Protocol::Bgp => known.bgp = state,
            }
            self.version += u64::from(before != *known);
            replace_problems(&mut self.problems, key, address, before, *known);
        }
    }

    /// Returns a number that grows with each change of a state.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the addresses that are announced by a protocol, with their Services.
    pub(crate) fn announced(&self, protocol: Protocol) -> impl Iterator<Item = (&ObjectKey, IpAddr)> {
        self.by_service.iter().flat_map(move |(key, states)| {
            let announced = states.iter().filter(move |(_, state)| match protocol {
                Protocol::L2 => state.l2 == AnnouncementState::Announced,
                Protocol::Bgp => state.bgp == AnnouncementState::Announced,
            });
            announced.map(|(address, _)| (&**key, *address))
        })
    }

    /// Returns the problems, the most important first.
    pub(crate) fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Returns the state of an address; `None` if the Service does not hold it.
    pub(crate) fn get(
        &self,
        key: &ObjectKey,
        address: IpAddr,
        protocol: Protocol,
    ) -> Option<AnnouncementState> {
        let (_, state) = self.by_service.get(key)?.iter().find(|(held, _)| *held == address)?;
        Some(match protocol {
            Protocol::L2 => state.l2,
            Protocol::Bgp => state.bgp,
        })
    }
}

impl AddressState {
    /// Returns the reasons to report, each with the protocol that it is about.
    ///
    /// The lack of an advertisement for one protocol is no problem while the other one has an advertisement.
    fn reported(self) -> impl Iterator<Item = (Option<Protocol>, NotAnnouncedReason)> {
        let reason = |state| match state {
            AnnouncementState::Not(reason) if !NotAnnouncedReason::is_expected(reason) => Some(reason),
            _ => None,
        };
        let advertised = |reason: &NotAnnouncedReason| *reason != NotAnnouncedReason::NoMatchingAdvertisement;
        let reported = if self.l2 == self.bgp {
            [reason(self.l2).map(|r| (None, r)), None]
        } else {
            [
                reason(self.l2).filter(advertised).map(|r| (Some(Protocol::L2), r)),
                reason(self.bgp).filter(advertised).map(|r| (Some(Protocol::Bgp), r)),
            ]
        };
        reported.into_iter().flatten()
    }
}

/// Replaces the problems of one address of a Service.
fn replace_problems(
    problems: &mut BTreeSet<Problem>,
    service: &Arc<ObjectKey>,
    address: IpAddr,
    before: AddressState,
    after: AddressState,
) {
    if before == after {
        return;
    }
    let problem = |(protocol, reason)| Problem { reason, service: service.clone(), address, protocol };
    for old in before.reported().map(problem) {
        problems.remove(&old);
    }
    problems.extend(after.reported().map(problem));
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnnouncementState::{Announced, Not};

    #[test]
    fn states_report_unexpected_reasons_only() {
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
            let state = AddressState { l2, bgp };
            assert_eq!(state.reported().collect::<Vec<_>>(), expected, "L2 {l2}, BGP {bgp}");
        }
    }
}
