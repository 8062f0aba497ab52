//! The status of the `Speaker` object of this node.

use std::collections::BTreeMap;

use fairlead_crds::conditions::{NewCondition, RawCondition};
use fairlead_crds::names::{ELIGIBLE, reasons};
use fairlead_crds::text;
use fairlead_crds::v1beta1::{Announced, MAX_NOT_ANNOUNCED, NotAnnounced, Session, SpeakerStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{NotAnnouncedReason, Plan};

/// Maximum number of sessions in the status: the bound in the schema.
const MAX_SESSIONS: usize = 256;

/// Maximum length of an error text, in bytes. The text comes from a peer or from the kernel.
const MAX_ERROR_BYTES: usize = 256;

/// The part of the status that follows from the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// True once this speaker has seen the whole configuration and acts on it.
    pub ready: bool,
    /// Reason for which this node announces nothing at all; `None` if it is eligible.
    pub node: Option<NotAnnouncedReason>,
    /// Number of addresses announced by L2.
    pub l2: usize,
    /// Number of prefixes announced by BGP.
    pub bgp: usize,
    /// Addresses that this node should announce and does not, at most [`MAX_NOT_ANNOUNCED`].
    pub not_announced: Vec<NotAnnounced>,
    /// Number of such addresses, including those that are not listed.
    pub not_announced_count: usize,
}

impl Summary {
    /// Summarizes a plan.
    pub fn new(plan: &Plan, ready: bool) -> Self {
        let problems = plan.problems();
        let not_announced_count = problems.len();
        let not_announced = problems.take(MAX_NOT_ANNOUNCED).map(|problem| NotAnnounced {
            service: problem.service.to_string(),
            address: problem.address.to_string(),
            protocol: problem.protocol.map(|protocol| protocol.to_string()),
            reason: problem.reason.to_string(),
            message: problem.reason.message().to_owned(),
        });
        Self {
            ready,
            node: plan.node_reason(),
            l2: plan.l2_announced(),
            bgp: plan.bgp_announced(),
            not_announced: not_announced.collect(),
            not_announced_count,
        }
    }
}

/// A BGP session as the status shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// Address of the peer, or the interface it is on.
    pub address: String,
    /// State by its name in RFC 4271. A session that keeps trying to connect is always `Active`: otherwise,
    /// each attempt would cause writes of the object.
    pub state: &'static str,
    /// Time at which the session was established.
    pub since: Option<Timestamp>,
    /// Reason for which the session is not established.
    pub last_error: Option<String>,
    /// Number of prefixes announced to the peer.
    pub prefixes: usize,
    /// Problems of the session: at most one line for each feature and address family.
    pub messages: Vec<String>,
}

/// Sessions by name of the BGPPeer.
pub type Sessions = BTreeMap<String, SessionView>;

/// Builds the status. Conditions that are unchanged since the status `before` keep their transition time.
pub(crate) fn status(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> SpeakerStatus {
    let sessions = sessions.iter().take(MAX_SESSIONS).map(|(peer, view)| Session {
        peer: peer.clone(),
        address: view.address.clone(),
        state: view.state.to_owned(),
        uptime_since: view.since.map(Time),
        last_error: view.last_error.as_deref().map(bounded),
        messages: view.messages.iter().map(|message| bounded(message)).collect(),
        prefixes: count(view.prefixes),
    });
    SpeakerStatus {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ready: Some(summary.ready),
        sessions: sessions.collect(),
        l2: Some(Announced { announced: count(summary.l2) }),
        bgp: Some(Announced { announced: count(summary.bgp) }),
        not_announced: summary.not_announced.clone(),
        not_announced_count: Some(count(summary.not_announced_count)),
        conditions: vec![eligible(summary.node, before, now)],
    }
}

fn eligible(
    node: Option<NotAnnouncedReason>,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> RawCondition {
    let reason = node.map_or(reasons::ELIGIBLE.to_owned(), |reason| reason.to_string());
    let message = node.map_or("this node may announce addresses", NotAnnouncedReason::message);
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(ELIGIBLE, node.is_none(), reason, message).after(before, now)
}

/// Returns a text of a peer or of the kernel for the status.
fn bounded(text: &str) -> String {
    text::printable(text, MAX_ERROR_BYTES).into_owned()
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

    #[test]
    fn condition_keeps_transition_time_until_status_changes() {
        let eligible = Summary::default();
        let excluded = Summary { node: Some(NotAnnouncedReason::NodeExcluded), ..Summary::default() };
        let unavailable =
            Summary { node: Some(NotAnnouncedReason::NodeNetworkUnavailable), ..Summary::default() };
        let mut before = None;
        for (summary, now, expected, reason, since) in [
            (&eligible, 1, "True", "Eligible", 1),
            (&eligible, 2, "True", "Eligible", 1),
            (&excluded, 3, "False", "NodeExcluded", 3),
            (&unavailable, 4, "False", "NodeNetworkUnavailable", 3),
            (&eligible, 5, "True", "Eligible", 5),
        ] {
            let status = status(summary, &Sessions::new(), before.as_ref(), at(now));
            let condition = &status.conditions[0];
            assert_eq!((condition.status(), condition.reason()), (expected, reason));
            assert_eq!(condition.last_transition_time(), Some(at(since)));
            before = Some(status);
        }
    }

    #[test]
    fn sessions_and_error_texts_are_bounded() {
        let view = SessionView { last_error: Some("ü".repeat(1000)), ..SessionView::default() };
        let sessions: Sessions = (0..1000).map(|n| (format!("peer-{n}"), view.clone())).collect();
        let status = status(&Summary::default(), &sessions, None, at(1));
        assert_eq!(status.sessions.len(), MAX_SESSIONS);
        assert!(status.sessions[0].last_error.as_ref().unwrap().len() <= MAX_ERROR_BYTES);
    }
}
