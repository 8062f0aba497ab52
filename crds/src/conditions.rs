//! Building and merging of status conditions.
//!
//! All conditions that Fairlead writes are built here, so that they follow the Kubernetes API conventions:
//! `lastTransitionTime` changes only when the status changes.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::text;

/// A condition that has no transition time yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewCondition {
    pub type_: &'static str,
    pub status: bool,
    pub reason: Cow<'static, str>,
    pub message: Cow<'static, str>,
    /// `metadata.generation` of the object that the condition is about; `None` if the condition does not
    /// depend on the spec of the object.
    pub observed_generation: Option<i64>,
}

impl NewCondition {
    /// Returns a condition without an observed generation. The message is made printable and cut to
    /// [`text::MAX_MESSAGE`].
    pub fn new(
        type_: &'static str,
        status: bool,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = text::message(message);
        Self { type_, status, reason: reason.into(), message, observed_generation: None }
    }

    /// Sets the observed generation.
    #[must_use]
    pub fn observed_generation(self, observed_generation: Option<i64>) -> Self {
        Self { observed_generation, ..self }
    }

    /// Returns the condition with the transition time of the existing condition of its type if that has the
    /// same status, else with `now`.
    pub fn after(self, existing: &[Condition], now: Timestamp) -> Condition {
        let same = find(existing, self.type_).filter(|condition| condition.status == status(self.status));
        match same.map(|condition| condition.last_transition_time.clone()) {
            Some(Time(since)) => self.since(since),
            None => self.since(whole_seconds(now)),
        }
    }

    /// Returns the condition with this transition time.
    pub fn since(self, since: Timestamp) -> Condition {
        Condition {
            type_: self.type_.to_owned(),
            status: status(self.status).to_owned(),
            reason: self.reason.into_owned(),
            message: self.message.into_owned(),
            last_transition_time: Time(since),
            observed_generation: self.observed_generation,
        }
    }
}

/// Returns the existing conditions whose types are not in `owned`, followed by the new ones. `owned` are all
/// types that the caller writes: a condition of such a type that is not in `new` is removed.
pub fn merge(
    existing: &[Condition],
    owned: &[&str],
    new: impl IntoIterator<Item = NewCondition>,
    now: Timestamp,
) -> Vec<Condition> {
    let others = existing.iter().filter(|condition| !owned.contains(&condition.type_.as_str())).cloned();
    others.chain(new.into_iter().map(|condition| condition.after(existing, now))).collect()
}

/// Returns the condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Returns true if there is a condition of this type with status `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == status(true))
}

/// Returns the text of a condition status.
pub fn status(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

/// Truncates a time to whole seconds, the resolution of times in the Kubernetes API.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn transition_time_changes_only_with_the_status() {
        let ready = |status, reason: &'static str| NewCondition::new("Ready", status, reason, "");
        let first = ready(true, "A").after(&[], at(1_700));
        assert_eq!(first.last_transition_time.0, at(1_000), "times have whole seconds");
        let reworded = ready(true, "B").after(std::slice::from_ref(&first), at(5_000));
        assert_eq!((&*reworded.reason, reworded.last_transition_time.0), ("B", at(1_000)));
        let flipped = ready(false, "B").after(&[reworded], at(5_000));
        assert_eq!((&*flipped.status, flipped.last_transition_time.0), ("False", at(5_000)));
    }

    #[test]
    fn merge_keeps_foreign_and_replaces_owned_conditions() {
        let existing = [("Foreign", 1_000), ("Ours", 2_000), ("Stale", 3_000)]
            .map(|(type_, time)| NewCondition::new(type_, true, "Old", "").since(at(time)));
        let new = NewCondition::new("Ours", true, "New", "").observed_generation(Some(7));
        let merged = merge(&existing, &["Ours", "Stale"], [new], at(9_000));
        let [foreign, ours] = merged.as_slice() else { panic!("{merged:?}") };
        assert_eq!(*foreign, existing[0]);
        assert_eq!((&*ours.reason, ours.last_transition_time.0), ("New", at(2_000)));
        assert_eq!(ours.observed_generation, Some(7));
        assert!(is_true(&merged, "Ours") && !is_true(&merged, "Stale"));
    }
}
