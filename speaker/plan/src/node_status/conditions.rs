//! The conditions of this node. Unchanged ones keep the transition time that they have in the status before.

use fairlead_crds::conditions::{NewCondition, RawCondition};
use fairlead_crds::names::{ADDRESS_CONFLICT, DRAINED, ELIGIBLE, READY, reasons};
use fairlead_crds::v1beta1::SpeakerStatus;
use jiff::Timestamp;

use super::{Sessions, Summary};
use crate::{DrainPhase, NotAnnouncedReason};

/// Returns all conditions.
pub(super) fn conditions(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> Vec<RawCondition> {
    let mut conditions = vec![
        eligible(summary.node, before, now),
        drained(summary, sessions, before, now),
        ready(summary.ready, before, now),
    ];
    conditions.extend(address_conflict(summary, before, now));
    conditions
}

/// Returns the condition that is true once the node can be taken out of service: it announces nothing, and no
/// router has a route from it.
fn drained(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> RawCondition {
    let routes: i64 = sessions.values().flat_map(|view| &view.families).map(|family| family.sent).sum();
    let announces = summary.l2 > 0 || summary.bgp > 0 || routes > 0;
    let (status, reason, message) = match summary.drain {
        None => (false, reasons::NOT_DRAINING, "the node is not being drained".to_owned()),
        Some((cause, phase)) if phase < DrainPhase::Drained || announces => {
            (false, reasons::DRAINING, format!("{cause}: its addresses are moving to other nodes"))
        }
        Some((cause, _)) => (
            true,
            reasons::DRAINED,
            format!("{cause}: it announces no address, and can be taken out of service"),
        ),
    };
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(DRAINED, status, reason, message).after(before, now)
}

/// Returns the condition that another host uses an address of this node; `None` if none does.
fn address_conflict(
    summary: &Summary,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> Option<RawCondition> {
    let first = summary.conflicts.first()?;
    let does = if first.is_left { "does not announce it" } else { "announces it nevertheless" };
    let mut message = format!("{first} uses {}; this node {does}", first.address);
    if summary.conflict_count > 1 {
        message += &format!("; and {} other addresses", summary.conflict_count - 1);
    }
    let before = before.map_or(&[][..], |status| &status.conditions);
    let condition = NewCondition::new(ADDRESS_CONFLICT, true, reasons::USED_BY_ANOTHER_HOST, message);
    Some(condition.after(before, now))
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

fn ready(ready: bool, before: Option<&SpeakerStatus>, now: Timestamp) -> RawCondition {
    let (reason, message) = match ready {
        true => (reasons::RUNNING, "the speaker runs, and has received all objects that it depends on"),
        false => (reasons::PENDING, "the speaker waits for objects that it depends on"),
    };
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(READY, ready, reason, message).after(before, now)
}

#[cfg(test)]
mod tests {
    use fairlead_crds::v1beta1::SessionFamily;

    use super::super::{SessionView, status};
    use super::*;
    use crate::DrainCause;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
    fn node_is_drained_when_no_router_has_its_routes() {
        let drain = |phase| Summary { drain: Some((DrainCause::Label, phase)), ..Summary::default() };
        let session = |sent| SessionView {
            families: vec![SessionFamily { sent, ..SessionFamily::default() }],
            ..SessionView::default()
        };
        let (withdrawn, with_route) = (session(0), session(1));
        for (summary, session, expected, reason) in [
            (Summary::default(), &with_route, "False", "NotDraining"),
            (drain(DrainPhase::Deprioritized), &with_route, "False", "Draining"),
            (drain(DrainPhase::Withdrawn), &withdrawn, "False", "Draining"),
            (drain(DrainPhase::Drained), &with_route, "False", "Draining"),
            (Summary { l2: 1, ..drain(DrainPhase::Drained) }, &withdrawn, "False", "Draining"),
            (drain(DrainPhase::Drained), &withdrawn, "True", "Drained"),
        ] {
            let sessions = Sessions::from([("tor".to_owned(), session.clone())]);
            let status = status(&summary, &sessions, None, at(1));
            let condition = &status.conditions[1];
            assert_eq!(condition.type_(), "Drained");
            assert_eq!((condition.status(), condition.reason()), (expected, reason), "{summary:?}");
        }
    }
}
