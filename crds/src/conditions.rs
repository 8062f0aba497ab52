//! Building and merging of status conditions.
//!
//! All conditions that Fairlead writes are built here, so that they follow the Kubernetes API conventions:
//! `lastTransitionTime` changes only when the status changes.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::read::timestamp;

/// A condition as the API server stores it.
///
/// Other controllers write conditions too. Some leave out required fields, or write times that no Rust type
/// can represent. Any JSON value can be read as a `RawCondition` and is written back unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawCondition(Value);

impl RawCondition {
    /// Returns `type`; empty if it is not set.
    pub fn type_(&self) -> &str {
        self.text("type")
    }

    /// Returns `status`; empty if it is not set.
    pub fn status(&self) -> &str {
        self.text("status")
    }

    /// Returns `reason`; empty if it is not set.
    pub fn reason(&self) -> &str {
        self.text("reason")
    }

    /// Returns `message`; empty if it is not set.
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// Returns `lastTransitionTime`; `None` if it is not a time.
    pub fn last_transition_time(&self) -> Option<Timestamp> {
        timestamp(self.text("lastTransitionTime"))
    }

    /// Returns `observedGeneration`; `None` if it is not set.
    pub fn observed_generation(&self) -> Option<i64> {
        self.0.get("observedGeneration")?.as_i64()
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl From<Condition> for RawCondition {
    fn from(condition: Condition) -> Self {
        Self(serde_json::to_value(condition).unwrap_or_default())
    }
}

use crate::text;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    /// Returns the status with this text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::True, Self::False, Self::Unknown].into_iter().find(|status| status.text() == text)
    }

    /// Returns the text of the API.
    pub fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(status: bool) -> Self {
        if status { Self::True } else { Self::False }
    }
}

/// A condition that has no transition time yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewCondition {
    pub type_: &'static str,
    pub status: ConditionStatus,
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
        status: impl Into<ConditionStatus>,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = text::message(message);
        Self { type_, status: status.into(), reason: reason.into(), message, observed_generation: None }
    }

    /// Sets the observed generation.
    #[must_use]
    pub fn observed_generation(self, observed_generation: Option<i64>) -> Self {
        Self { observed_generation, ..self }
    }

    /// Returns the condition with the transition time of the existing condition of its type if that has the
    /// same status, else with `now`.
    pub fn after(self, existing: &[RawCondition], now: Timestamp) -> RawCondition {
        let same = find(existing, self.type_).filter(|condition| condition.status() == self.status.text());
        let since = same.and_then(RawCondition::last_transition_time);
        self.since(whole_seconds(since.unwrap_or(now)))
    }

    /// Returns the condition with this transition time.
    pub fn since(self, since: Timestamp) -> RawCondition {
        let condition = Condition {
            type_: self.type_.to_owned(),
            status: self.status.text().to_owned(),
            reason: self.reason.into_owned(),
            message: self.message.into_owned(),
            last_transition_time: Time(since),
            observed_generation: self.observed_generation,
        };
        condition.into()
    }
}

/// Returns the existing conditions whose types are not in `owned`, followed by the new ones. `owned` are all
/// types that the caller writes: a condition of such a type that is not in `new` is removed.
pub fn merge(
    existing: &[RawCondition],
    owned: &[&str],
    new: impl IntoIterator<Item = NewCondition>,
    now: Timestamp,
) -> Vec<RawCondition> {
    let others = existing.iter().filter(|condition| !owned.contains(&condition.type_())).cloned();
    others.chain(new.into_iter().map(|condition| condition.after(existing, now))).collect()
}

/// Returns the condition of this type.
pub fn find<'a>(conditions: &'a [RawCondition], type_: &str) -> Option<&'a RawCondition> {
    conditions.iter().find(|condition| condition.type_() == type_)
}

/// Returns true if there is a condition of this type with status `True`.
pub fn is_true(conditions: &[RawCondition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status() == status(true))
}

/// Returns the text of a condition status.
pub fn status(status: bool) -> &'static str {
    ConditionStatus::from(status).text()
}

/// Truncates a time to whole seconds, the resolution of times in the Kubernetes API.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn transition_time_changes_only_with_the_status() {
        let ready = |status, reason: &'static str| NewCondition::new("Ready", status, reason, "");
        let first = ready(true, "A").after(&[], at(1_700));
        assert_eq!(first.last_transition_time(), Some(at(1_000)), "times have whole seconds");
        let reworded = ready(true, "B").after(std::slice::from_ref(&first), at(5_000));
        assert_eq!((reworded.reason(), reworded.last_transition_time()), ("B", Some(at(1_000))));
        let flipped = ready(false, "B").after(&[reworded], at(5_000));
        assert_eq!((flipped.status(), flipped.last_transition_time()), ("False", Some(at(5_000))));
    }

    #[test]
    fn merge_keeps_foreign_and_replaces_owned_conditions() {
        let existing = [("Foreign", 1_000), ("Ours", 2_000), ("Stale", 3_000)]
            .map(|(type_, time)| NewCondition::new(type_, true, "Old", "").since(at(time)));
        let new = NewCondition::new("Ours", true, "New", "").observed_generation(Some(7));
        let merged = merge(&existing, &["Ours", "Stale"], [new], at(9_000));
        let [foreign, ours] = merged.as_slice() else { panic!("{merged:?}") };
        assert_eq!(*foreign, existing[0]);
        assert_eq!((ours.reason(), ours.last_transition_time()), ("New", Some(at(2_000))));
        assert_eq!(ours.0["observedGeneration"], 7);
        assert!(is_true(&merged, "Ours") && !is_true(&merged, "Stale"));
    }

    #[test]
    fn unusual_foreign_conditions_are_written_back_unchanged() {
        let foreign = json!([
            { "type": "a", "status": "True" },
            { "type": "b", "status": "True", "lastTransitionTime": null },
            { "type": "c", "status": 7, "lastTransitionTime": "9999-12-31T23:59:59-12:00", "more": [1] },
            {}, null, "text",
        ]);
        let existing: Vec<RawCondition> = serde_json::from_value(foreign.clone()).unwrap();
        let merged = merge(&existing, &["Ours"], [NewCondition::new("Ours", true, "New", "")], at(9_000));
        let merged = serde_json::to_value(merged).unwrap();
        assert_eq!(merged.as_array().unwrap()[..6], foreign.as_array().unwrap()[..]);
        assert_eq!(merged[6]["lastTransitionTime"], "1970-01-01T00:00:09Z");
    }

    #[test]
    fn own_condition_without_time_gets_one() {
        for time in [Value::Null, json!(""), json!("soon"), json!(7)] {
            let existing = json!([{ "type": "Ours", "status": "True", "lastTransitionTime": time }]);
            let existing: Vec<RawCondition> = serde_json::from_value(existing).unwrap();
            let ours = NewCondition::new("Ours", true, "New", "").after(&existing, at(9_000));
            assert_eq!(ours.last_transition_time(), Some(at(9_000)), "{time}");
        }
    }
}
