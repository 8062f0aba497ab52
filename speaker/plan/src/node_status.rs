//! What the `Speaker` object says of this node: built from plain values, and paced.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_crds::v1beta1::{Announced, MAX_NOT_ANNOUNCED, NotAnnounced, Session, SpeakerStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{NotAnnouncedReason, Plan};

/// Most sessions that are listed: the bound in the schema.
const MAX_SESSIONS: usize = 256;

/// Longest text of an error, in bytes: it comes from a peer or the kernel.
const MAX_ERROR: usize = 256;

/// Type of the condition that says whether this node may announce at all.
pub const ELIGIBLE: &str = "Eligible";

/// What the plan has to report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The first decisions were made.
    pub ready: bool,
    /// Why this node may announce nothing at all, if so.
    pub node: Option<NotAnnouncedReason>,
    /// Addresses announced by L2.
    pub l2: usize,
    /// Prefixes announced by BGP.
    pub bgp: usize,
    /// What should be announced and is not; bounded.
    pub not_announced: Vec<NotAnnounced>,
    /// How many there are in all.
    pub not_announced_count: usize,
}

impl Summary {
    /// What `plan` has to report.
    pub fn of(plan: &Plan, ready: bool) -> Self {
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

/// A BGP session, as far as it is reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// Address of the peer, or the interface it is on.
    pub address: String,
    /// State, in the words of RFC 4271. Those of a session that keeps trying are all `Active`: an object that
    /// changed with every attempt would never be at rest.
    pub state: &'static str,
    /// Since when it is established.
    pub since: Option<Timestamp>,
    /// Why it is not.
    pub last_error: Option<String>,
    /// Prefixes that the peer was told.
    pub prefixes: usize,
    /// What does not work on it: one line for BFD and one for each address family at most.
    pub messages: Vec<String>,
}

/// Sessions by name of the BGPPeer.
pub type Sessions = BTreeMap<String, SessionView>;

/// The status; `before` is the one in force, from which unchanged conditions keep their time.
pub fn status(
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
        last_error: view.last_error.as_deref().map(shortened),
        messages: view.messages.clone(),
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

fn eligible(node: Option<NotAnnouncedReason>, before: Option<&SpeakerStatus>, now: Timestamp) -> Condition {
    let new = Condition {
        type_: ELIGIBLE.to_owned(),
        status: if node.is_none() { "True" } else { "False" }.to_owned(),
        reason: node.map_or("Eligible".to_owned(), |reason| reason.to_string()),
        message: node.map_or("this node may announce", NotAnnouncedReason::message).to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    };
    let known = before.into_iter().flat_map(|s| &s.conditions).find(|c| c.type_ == ELIGIBLE);
    match known {
        Some(known) if known.status == new.status => {
            Condition { last_transition_time: known.last_transition_time.clone(), ..new }
        }
        _ => new,
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_ERROR {
        return text.to_owned();
    }
    let end = (0..=MAX_ERROR - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", &text[..end])
}

/// When to write: when there is something new, at most once in [`Pace::APART`], and later after failures.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    not_before: Option<Instant>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing is to be written.
    Never,
    /// Something is, then.
    At(Instant),
    /// Something is, now.
    Now,
}

impl Pace {
    /// Least time between two writes.
    pub const APART: Duration = Duration::from_secs(1);

    /// When to write, given whether there is something `new`.
    pub fn due(&self, new: bool, now: Instant) -> Due {
        match self.not_before {
            _ if !new => Due::Never,
            Some(then) if now < then => Due::At(then),
            _ => Due::Now,
        }
    }

    /// Something was written or tried; after a failure, `wait` before the next attempt.
    pub fn tried(&mut self, now: Instant, wait: Option<Duration>) {
        self.not_before = Some(now + wait.unwrap_or(Self::APART).max(Self::APART));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_state_gives_the_same_status_whenever_it_is_asked() {
        let summary = Summary { ready: true, l2: 3, ..Summary::default() };
        let first = status(&summary, &Sessions::new(), None, at(1));
        assert_eq!(status(&summary, &Sessions::new(), Some(&first), at(99)), first);
    }

    #[test]
    fn the_condition_keeps_its_time_until_it_turns() {
        let well = Summary::default();
        let excluded = Summary { node: Some(NotAnnouncedReason::NodeExcluded), ..Summary::default() };
        let unavailable =
            Summary { node: Some(NotAnnouncedReason::NodeNetworkUnavailable), ..Summary::default() };
        let mut before = None;
        for (summary, now, status_is, reason, since) in [
            (&well, 1, "True", "Eligible", 1),
            (&well, 2, "True", "Eligible", 1),
            (&excluded, 3, "False", "NodeExcluded", 3),
            (&unavailable, 4, "False", "NodeNetworkUnavailable", 3),
            (&well, 5, "True", "Eligible", 5),
        ] {
            let status = status(summary, &Sessions::new(), before.as_ref(), at(now));
            let condition = &status.conditions[0];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), (status_is, reason));
            assert_eq!(condition.last_transition_time, Time(at(since)));
            before = Some(status);
        }
    }

    #[test]
    fn lists_are_bounded() {
        let view = SessionView { last_error: Some("ü".repeat(1000)), ..SessionView::default() };
        let sessions: Sessions = (0..1000).map(|n| (format!("peer-{n}"), view.clone())).collect();
        let status = status(&Summary::default(), &sessions, None, at(1));
        assert_eq!(status.sessions.len(), MAX_SESSIONS);
        assert!(status.sessions[0].last_error.as_ref().unwrap().len() <= MAX_ERROR);
    }

    #[test]
    fn writes_are_a_second_apart_and_none_happen_at_rest() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.due(false, start), Due::Never);
        assert_eq!(pace.due(true, start), Due::Now);
        pace.tried(start, None);
        assert_eq!(pace.due(true, after(10)), Due::At(after(1000)));
        assert_eq!(pace.due(false, after(2000)), Due::Never);
        assert_eq!(pace.due(true, after(1000)), Due::Now);
        pace.tried(after(1000), Some(Duration::from_secs(8)));
        assert_eq!(pace.due(true, after(2000)), Due::At(after(9000)));
    }
}
