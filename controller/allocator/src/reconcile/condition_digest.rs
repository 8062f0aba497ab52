//! The conditions of a Service in compact form.
//!
//! The controller stores the conditions of thousands of Services, only to detect changes. A digest replaces
//! the message.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use fairlead_crds::conditions::{ConditionStatus, NewCondition, RawCondition};
use fairlead_crds::{names, text};
use jiff::Timestamp;
use serde_json::Value;

use super::outcome::AllocationReason;

/// The types of the conditions of a Service that this controller writes.
pub(super) const OWNED_CONDITIONS: [&str; 4] =
    [names::ALLOCATED, names::COVERED, names::ADVERTISED, names::STATUS_CONFLICT];

/// The conditions of a Service that this controller writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConditionDigests {
    /// Condition `fairlead.dev/Allocated`.
    pub allocated: Option<ConditionDigest>,
    /// Condition `fairlead.dev/Covered`.
    pub covered: Option<ConditionDigest>,
    /// Condition `fairlead.dev/Advertised`.
    pub advertised: Option<ConditionDigest>,
    /// Condition `fairlead.dev/StatusConflict`.
    pub status_conflict: Option<ConditionDigest>,
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConditionDigest {
    pub status: ConditionStatus,
    pub reason: AllocationReason,
    /// Hash of the message.
    message: u64,
    /// `lastTransitionTime`, in seconds since the epoch.
    pub since: i64,
}

/// A condition of a Service that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ServiceCondition {
    pub type_: &'static str,
    pub status: ConditionStatus,
    pub reason: AllocationReason,
    pub message: Cow<'static, str>,
    /// `lastTransitionTime`, in seconds since the epoch.
    pub since: i64,
}

impl ConditionDigests {
    /// Returns the digests of the conditions in a status; `None` if this controller cannot have written one
    /// of them.
    pub(super) fn parse(conditions: &[RawCondition]) -> Option<Self> {
        let mut digests = Self::default();
        for condition in conditions.iter().filter(|condition| is_ours(condition)) {
            *digests.slot(condition.type_())? = Some(ConditionDigest::parse(condition)?);
        }
        Some(digests)
    }

    /// Returns the digests of conditions that are to be written.
    pub(super) fn of(conditions: &[ServiceCondition]) -> Self {
        let mut digests = Self::default();
        for condition in conditions {
            if let Some(slot) = digests.slot(condition.type_) {
                *slot = Some(condition.digest());
            }
        }
        digests
    }

    /// Returns the digest of the condition of this type.
    pub(super) fn get(&self, type_: &str) -> Option<&ConditionDigest> {
        match type_ {
            names::ALLOCATED => self.allocated.as_ref(),
            names::COVERED => self.covered.as_ref(),
            names::ADVERTISED => self.advertised.as_ref(),
            names::STATUS_CONFLICT => self.status_conflict.as_ref(),
            _ => None,
        }
    }

    /// Returns whether a condition of the API is one of these, apart from its transition time.
    pub(super) fn contain(&self, condition: &Value) -> bool {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let digest = self.get(text("type"));
        digest.is_some_and(|digest| {
            text("status") == digest.status.text()
                && text("reason") == digest.reason.to_string()
                && hash(text("message")) == digest.message
        })
    }

    fn slot(&mut self, type_: &str) -> Option<&mut Option<ConditionDigest>> {
        match type_ {
            names::ALLOCATED => Some(&mut self.allocated),
            names::COVERED => Some(&mut self.covered),
            names::ADVERTISED => Some(&mut self.advertised),
            names::STATUS_CONFLICT => Some(&mut self.status_conflict),
            _ => None,
        }
    }
}

impl ConditionDigest {
    fn parse(condition: &RawCondition) -> Option<Self> {
        let status = ConditionStatus::parse(condition.status())?;
        let reason = AllocationReason::parse(condition.reason())?;
        let since = condition.last_transition_time()?.as_second();
        Some(Self { status, reason, message: hash(condition.message()), since })
    }

    /// Returns whether this is the digest of a condition, apart from its transition time.
    pub(super) fn is_of(&self, condition: &ServiceCondition) -> bool {
        self.status == condition.status
            && self.reason == condition.reason
            && self.message == hash(&condition.message)
    }

    /// Returns true if the status or the reason differs from `previous`.
    pub(super) fn differs_in_reason_from(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| previous.status != self.status || previous.reason != self.reason)
    }

    /// Returns true if the reason or the message differs from `previous`.
    pub(super) fn differs_from(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| previous.reason != self.reason || previous.message != self.message)
    }
}

impl ServiceCondition {
    /// Returns a condition whose transition time is not set yet.
    pub(super) fn new(
        type_: &'static str,
        status: impl Into<ConditionStatus>,
        reason: AllocationReason,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { type_, status: status.into(), reason, message: text::message(message), since: 0 }
    }

    /// Returns the condition in the form of the API.
    pub fn to_condition(&self) -> RawCondition {
        let since = Timestamp::from_second(self.since).unwrap_or_default();
        NewCondition::new(self.type_, self.status, self.reason.to_string(), self.message.clone()).since(since)
    }

    fn digest(&self) -> ConditionDigest {
        let Self { status, reason, ref message, since, .. } = *self;
        ConditionDigest { status, reason, message: hash(message), since }
    }
}

/// Returns true for the conditions of a Service that this controller writes.
pub(super) fn is_ours(condition: &RawCondition) -> bool {
    OWNED_CONDITIONS.contains(&condition.type_())
}

fn hash(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}
