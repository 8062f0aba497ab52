//! Our conditions on a Service, small: thousands of Services have them, and all that matters later is whether they are
//! still the same.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use fairlead_crds::names;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::AllocationReason;

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
    pub reason: AllocationReason,
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

    /// What these statements say.
    pub(super) fn of(statements: &[Statement]) -> Self {
        let mut said = Self::default();
        for statement in statements {
            *said.line_mut(statement.type_) = Some(statement.line());
        }
        said
    }

    /// What a condition of this type says.
    pub(super) fn line(&self, type_: &str) -> Option<&Line> {
        if type_ == names::ALLOCATED { self.allocated.as_ref() } else { self.advertised.as_ref() }
    }

    fn line_mut(&mut self, type_: &str) -> &mut Option<Line> {
        if type_ == names::ALLOCATED { &mut self.allocated } else { &mut self.advertised }
    }
}

impl Line {
    fn of(condition: &Condition) -> Option<Self> {
        let status = match condition.status.as_str() {
            "True" => true,
            "False" => false,
            _ => return None,
        };
        let reason = AllocationReason::parse(&condition.reason)?;
        let since = condition.last_transition_time.0.as_second();
        Some(Self { status, reason, message: digest(&condition.message), since })
    }

    /// Whether the reason or the message is another.
    pub(super) fn is_news_after(&self, told: Option<&Self>) -> bool {
        told.is_none_or(|told| told.reason != self.reason || told.message != self.message)
    }
}

/// A condition of ours that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its type.
    pub type_: &'static str,
    /// Its status.
    pub status: bool,
    /// Its reason.
    pub reason: AllocationReason,
    /// Its message.
    pub message: Cow<'static, str>,
    /// Its last transition, in seconds since the epoch.
    pub since: i64,
}

impl Statement {
    /// One that has yet to get its time.
    pub(super) fn new(
        type_: &'static str,
        status: bool,
        reason: AllocationReason,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { type_, status, reason, message: message.into(), since: 0 }
    }

    /// The condition.
    pub fn condition(&self) -> Condition {
        Condition {
            type_: self.type_.to_owned(),
            status: if self.status { "True" } else { "False" }.to_owned(),
            reason: self.reason.to_string(),
            message: self.message.to_string(),
            last_transition_time: Time(Timestamp::from_second(self.since).unwrap_or_default()),
            observed_generation: None,
        }
    }

    fn line(&self) -> Line {
        let Self { status, reason, ref message, since, .. } = *self;
        Line { status, reason, message: digest(message), since }
    }
}

fn digest(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn is_ours(condition: &Condition) -> bool {
    condition.type_ == names::ALLOCATED || condition.type_ == names::ADVERTISED
}
