//! The status of the `Speaker` object of this node.

mod conditions;
mod l2;
mod sessions;

use std::sync::Arc;

use fairlead_crds::model::address_list::AddressList;
use fairlead_crds::v1beta1::{
    Announced, L2Interface, MAX_CONFLICTS, MAX_NOT_ANNOUNCED, NotAnnounced, SpeakerStatus,
};
use jiff::Timestamp;

use self::conditions::conditions;
pub use self::l2::served_interfaces;
use self::sessions::{MAX_SESSIONS, carries, session};
pub use self::sessions::{Series, SessionPhase, SessionView, Sessions, rounded};
use crate::announced_lists::AnnouncedList;
use crate::conflicts::AddressConflict;
use crate::{DrainCause, DrainPhase, NotAnnouncedReason, Plan};

/// The part of the status that follows from the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// True once this speaker has seen the whole configuration and acts on it.
    pub ready: bool,
    /// Reason for which this node announces nothing at all; `None` if it is eligible.
    pub node: Option<NotAnnouncedReason>,
    /// Why this node is being drained, and how far that is; `None` if it is not.
    pub drain: Option<(DrainCause, DrainPhase)>,
    /// Number of addresses announced by L2.
    pub l2: usize,
    /// Number of prefixes announced by BGP.
    pub bgp: usize,
    /// The announced addresses.
    pub announced: Arc<AnnouncedList>,
    /// Addresses that this node should announce and does not, at most [`MAX_NOT_ANNOUNCED`].
    pub not_announced: Vec<NotAnnounced>,
    /// Number of such addresses, including those that are not listed.
    pub not_announced_count: usize,
    /// Conflicts about addresses of this node, at most [`MAX_CONFLICTS`].
    pub conflicts: Vec<AddressConflict>,
    /// Number of such conflicts, including those that are not listed.
    pub conflict_count: usize,
    /// How failures of other nodes are detected; `None` without L2.
    pub l2_detection: Option<&'static str>,
    /// The interfaces on which this node can announce by L2; `None` before they are known.
    pub l2_interfaces: Option<Vec<L2Interface>>,
}

impl Summary {
    /// Summarizes a plan, of which `announced` lists the announced addresses.
    pub fn new(plan: &Plan, announced: Arc<AnnouncedList>, ready: bool) -> Self {
        let problems = plan.problems();
        let not_announced_count = problems.len();
        let not_announced = problems.take(MAX_NOT_ANNOUNCED).map(|problem| NotAnnounced {
            service: problem.service.to_string(),
            address: problem.address.to_string(),
            protocol: problem.protocol.map(|protocol| protocol.to_string()),
            reason: problem.reason.to_string(),
            message: match plan.conflicts().get(problem.address) {
                Some(conflict) if problem.reason == NotAnnouncedReason::AddressInUse => {
                    format!("{}; it is {conflict}", problem.reason.message())
                }
                _ => problem.reason.message().to_owned(),
            },
        });
        Self {
            ready,
            node: plan.node_reason(),
            drain: plan.drain_cause().map(|cause| (cause, plan.drain_phase())),
            l2: announced.l2_count,
            bgp: announced.bgp_count,
            announced,
            not_announced: not_announced.collect(),
            not_announced_count,
            conflicts: plan.conflicts().iter().take(MAX_CONFLICTS).cloned().collect(),
            conflict_count: plan.conflicts().iter().len(),
            l2_detection: None,
            l2_interfaces: plan.own_interfaces().map(l2::interfaces),
        }
    }
}

/// Builds the status. Conditions that are unchanged since the status `before` keep their transition time.
pub(crate) fn status(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> SpeakerStatus {
    let by_bgp = summary.announced.by_bgp(|peer, is_ipv4| carries(sessions.get(peer), is_ipv4));
    let conditions = conditions(summary, sessions, before, now);
    let established = sessions.values().filter(|view| view.phase == SessionPhase::Established).count();
    let established = (!sessions.is_empty()).then(|| format!("{established}/{}", sessions.len()));
    let sessions = sessions.iter().take(MAX_SESSIONS).map(|(peer, view)| session(peer, view));
    SpeakerStatus {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ready: Some(summary.ready),
        sessions: sessions.collect(),
        established_sessions: established,
        l2: Some(l2::l2(summary)),
        l2_detection: summary.l2_detection.map(str::to_owned),
        bgp: Some(announced(summary.bgp, &by_bgp)),
        not_announced: summary.not_announced.clone(),
        not_announced_count: Some(count(summary.not_announced_count)),
        conditions,
    }
}

fn announced(number: usize, addresses: &AddressList) -> Announced {
    let (addresses, complete) = addresses.encode();
    Announced { announced: count(number), addresses, complete: Some(complete) }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn unchanged_summary_gives_equal_status_later() {
        let summary = Summary { ready: true, l2: 3, ..Summary::default() };
        let first = status(&summary, &Sessions::new(), None, at(1));
        assert_eq!(status(&summary, &Sessions::new(), Some(&first), at(99)), first);
    }
}
