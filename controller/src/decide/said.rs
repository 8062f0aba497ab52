//! Our conditions on a Service, small: thousands of Services have them, and all that matters later is whether they are
//! still the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use fairlead_crds::keys;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// What our conditions say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Condition `fairlead.dev/Allocated`.
    pub allocated: Option<Line>,
    /// Condition `fairlead.dev/Advertised`.
    pub advertised: Option<Line>,
}

/// What one condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its status.
    pub status: bool,
    /// Its reason.
    pub reason: Reason,
    /// Stands for its message.
    message: u64,
    /// Its last transition, in seconds since the epoch.
    pub since: i64,
}

impl Said {
    /// What the conditions of a status say; `None` when one of ours is not as we write it.
    pub(super) fn by(conditions: &[Condition]) -> Option<Self> {
        let mut said = Self::default();
        for condition in conditions.iter().filter(|condition| is_ours(condition)) {
            *said.line_mut(&condition.type_) = Some(Line::of(condition)?);
        }
        Some(said)
    }

    /// What a condition of this type says.
    pub(super) fn line(&self, type_: &str) -> Option<&Line> {
        if type_ == keys::ALLOCATED { self.allocated.as_ref() } else { self.advertised.as_ref() }
    }

    fn line_mut(&mut self, type_: &str) -> &mut Option<Line> {
        if type_ == keys::ALLOCATED { &mut self.allocated } else { &mut self.advertised }
    }
}

impl Line {
    fn of(condition: &Condition) -> Option<Self> {
        let status = match condition.status.as_str() {
            "True" => true,
            "False" => false,
            _ => return None,
        };
        let reason = Reason::parse(&condition.reason)?;
        let mut hasher = DefaultHasher::new();
        condition.message.hash(&mut hasher);
        let since = condition.last_transition_time.0.as_second();
        Some(Self { status, reason, message: hasher.finish(), since })
    }

    /// Whether the reason or the message is another.
    pub(super) fn is_news_after(&self, told: Option<&Self>) -> bool {
        told.is_none_or(|told| told.reason != self.reason || told.message != self.message)
    }
}

/// A condition of ours that has yet to get its time.
pub(super) fn condition(type_: &str, status: bool, reason: Reason, message: String) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_string(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

pub(super) fn is_ours(condition: &Condition) -> bool {
    condition.type_ == keys::ALLOCATED || condition.type_ == keys::ADVERTISED
}
