//! Events about pools, other configuration objects and claims that a person must look at.
//!
//! An Event is due when a status write begins to show a problem. What the stored status shows already was
//! reported, also by an earlier leader, so that a failover repeats nothing.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::conditions::{self, RawCondition};
use fairlead_crds::kinds::Kind;
use fairlead_crds::names::{ACCEPTED, EXHAUSTED, RESERVED, STALLED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A problem of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    #[allow(missing_docs)]
    pub object: EventObject,
    /// The reason of the Event.
    pub reason: &'static str,
    /// The reason of the condition that shows the problem.
    pub cause: String,
    #[allow(missing_docs)]
    pub message: String,
    /// True if the stored status shows the problem.
    pub is_shown: bool,
}

/// The object of an Event.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct EventObject {
    pub kind: String,
    /// `None` for an object without a namespace.
    pub namespace: Option<String>,
    pub name: String,
    pub uid: Option<String>,
}

impl EventObject {
    /// Returns the object with this metadata.
    pub(super) fn new(kind: Kind, metadata: &ObjectMeta) -> Self {
        Self {
            kind: kind.to_string(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
        }
    }
}

/// Returns the problems that `new` conditions show, of which the stored status shows `shown`.
pub(super) fn problems(
    object: &EventObject,
    shown: &[RawCondition],
    new: &[RawCondition],
) -> Vec<ObjectEvent> {
    let is_stalled = conditions::is_true(new, STALLED);
    let problems = new.iter().filter_map(|condition| {
        let is_true = condition.status() == conditions::status(true);
        let reason = match condition.type_() {
            ACCEPTED if !is_true => "Refused",
            EXHAUSTED if is_true => "Exhausted",
            // A claim that waits is not refused.
            RESERVED if !is_true && is_stalled => "Refused",
            _ => return None,
        };
        let before = conditions::find(shown, condition.type_());
        let is_shown = before.is_some_and(|before| {
            before.status() == condition.status() && before.reason() == condition.reason()
        });
        Some(ObjectEvent {
            object: object.clone(),
            reason,
            cause: condition.reason().to_owned(),
            message: condition.message().to_owned(),
            is_shown,
        })
    });
    problems.collect()
}

/// The problems that were reported in this term and are not settled.
#[derive(Clone, Debug, Default)]
pub struct ReportedProblems {
    reported: BTreeMap<EventObject, BTreeSet<(&'static str, String)>>,
}

impl ReportedProblems {
    /// Returns those of the problems of an object that were not reported yet. `problems` are all that the
    /// next status shows.
    pub fn take_new(&mut self, object: &EventObject, problems: Vec<ObjectEvent>) -> Vec<ObjectEvent> {
        let before = self.reported.remove(object).unwrap_or_default();
        let key = |event: &ObjectEvent| (event.reason, event.cause.clone());
        let now: BTreeSet<_> = problems.iter().map(key).collect();
        let new =
            problems.into_iter().filter(|event| !event.is_shown && !before.contains(&key(event))).collect();
        if !now.is_empty() {
            self.reported.insert(object.clone(), now);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::conditions::NewCondition;
    use jiff::Timestamp;

    use super::*;

    fn condition(type_: &'static str, status: bool, reason: &'static str) -> RawCondition {
        NewCondition::new(type_, status, reason, "why").since(Timestamp::UNIX_EPOCH)
    }

    fn pool() -> EventObject {
        EventObject { kind: "IPAddressPool".to_owned(), name: "p".to_owned(), ..EventObject::default() }
    }

    #[test]
    fn conditions_that_need_a_person_are_problems() {
        let table = [
            (vec![condition(ACCEPTED, true, "Accepted")], vec![]),
            (vec![condition(ACCEPTED, false, "Overlap")], vec![("Refused", "Overlap")]),
            (vec![condition(EXHAUSTED, true, "NoFreeAddress")], vec![("Exhausted", "NoFreeAddress")]),
            (vec![condition(EXHAUSTED, false, "AddressesAvailable")], vec![]),
            (vec![condition(RESERVED, false, "Pending")], vec![]),
            (
                vec![condition(RESERVED, false, "InvalidClaim"), condition(STALLED, true, "InvalidClaim")],
                vec![("Refused", "InvalidClaim")],
            ),
        ];
        for (new, expected) in table {
            let problems = problems(&pool(), &[], &new);
            let seen: Vec<_> = problems.iter().map(|event| (event.reason, event.cause.as_str())).collect();
            assert_eq!(seen, expected, "{new:?}");
        }
    }

    #[test]
    fn problem_is_reported_once_until_it_is_settled() {
        let mut reported = ReportedProblems::default();
        let mut new = |shown: &[RawCondition], conditions: &[RawCondition]| {
            reported.take_new(&pool(), problems(&pool(), shown, conditions)).len()
        };
        let (good, bad) = ([condition(ACCEPTED, true, "Accepted")], [condition(ACCEPTED, false, "Overlap")]);
        assert_eq!(new(&good, &bad), 1);
        assert_eq!(new(&good, &bad), 0, "the write is repeated");
        assert_eq!(new(&bad, &[condition(ACCEPTED, false, "InvalidRange")]), 1, "another reason");
        assert_eq!(new(&bad, &good), 0);
        assert_eq!(new(&good, &bad), 1, "again");
    }

    #[test]
    fn problem_in_the_stored_status_was_reported_by_an_earlier_leader() {
        let mut reported = ReportedProblems::default();
        let bad = [condition(ACCEPTED, false, "Overlap"), condition(EXHAUSTED, true, "NoFreeAddress")];
        let all = problems(&pool(), &bad[..1], &bad);
        let new: Vec<_> = reported.take_new(&pool(), all).into_iter().map(|event| event.reason).collect();
        assert_eq!(new, ["Exhausted"]);
    }
}
