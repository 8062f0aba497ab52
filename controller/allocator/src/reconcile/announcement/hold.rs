//! When the condition `fairlead.dev/Advertised` is written.
//!
//! A condition that becomes true is written at once. Any other change must last for a while: speakers that
//! restart one after the other, or hand an address over, cause no writes. The time grows with each loss.
//! While speakers of an earlier version list no addresses, the condition stays as it is for longer.
//!
//! Only a change of the verdict is held back. If another program replaces the condition, it is written again
//! like the rest of the status.

use fairlead_crds::conditions::ConditionStatus;
use jiff::{SignedDuration, Timestamp};

use super::verdict::Verdict;
use crate::reconcile::condition_digest::ConditionDigest;
use crate::reconcile::outcome::AllocationReason;

/// Time for which a condition stays true although nobody announces the address, after the first loss.
const LOSS: SignedDuration = SignedDuration::from_secs(5);
/// Time for which a condition that is not true keeps its reason.
const REASON: SignedDuration = SignedDuration::from_secs(2);
/// Maximum number of times that a time doubles.
const MAX_DOUBLINGS: u8 = 6;
/// Time for which a condition is kept while a speaker has not published lists of addresses: longer than the
/// upgrade of the speakers usually takes.
const PUBLICATION: SignedDuration = SignedDuration::from_mins(10);
/// Time without a loss after which earlier ones no longer count.
const QUIET: SignedDuration = SignedDuration::from_secs(600);

/// Whether the condition in the status is kept although the verdict differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::reconcile) struct Hold {
    state: State,
    /// True if the status has contained the current verdict.
    was_shown: bool,
    losses: u8,
    /// Time of the last loss, in seconds since the epoch.
    last_loss: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The verdict is or may be written.
    #[default]
    None,
    /// The condition is kept until this time.
    Until(Timestamp),
    /// The condition is kept until all speakers have published their lists, or until this time.
    UntilPublished(Timestamp),
    /// The condition is kept until the verdict changes.
    Indefinite,
    /// The condition was kept long enough.
    Expired,
}

impl Hold {
    /// Updates the state for a verdict and the condition in the status. `is_same` is true if the verdict is
    /// that of the last update. Returns whether the state differs.
    pub(in crate::reconcile) fn update(
        &mut self,
        verdict: Option<&Verdict>,
        shown: Option<&ConditionDigest>,
        is_same: bool,
        now: Timestamp,
    ) -> bool {
        let before = self.state;
        // If it was shown and is not any more, another program replaced the condition.
        self.was_shown &= is_same;
        self.state = match (verdict, shown) {
            (Some(verdict), Some(shown)) if verdict.is_shown_by(shown) => {
                self.was_shown = true;
                State::None
            }
            (Some(verdict), Some(shown)) if !self.was_shown => self.next(verdict, shown, now),
            _ => State::None,
        };
        before != self.state
    }

    /// Returns whether the condition in the status is kept.
    pub(in crate::reconcile) fn keeps(&self) -> bool {
        matches!(self.state, State::Until(_) | State::UntilPublished(_) | State::Indefinite)
    }

    /// Returns when to call [`Hold::update`] again.
    pub(in crate::reconcile) fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::Until(until) | State::UntilPublished(until) => Some(until),
            State::None | State::Indefinite | State::Expired => None,
        }
    }

    fn next(&mut self, verdict: &Verdict, shown: &ConditionDigest, now: Timestamp) -> State {
        if verdict.reason == AllocationReason::SpeakersUnknown {
            return State::Indefinite;
        }
        let was_true = shown.status == ConditionStatus::True;
        if verdict.status == ConditionStatus::True && !was_true {
            return State::None;
        }
        let until = |wait| now.checked_add(wait).unwrap_or(Timestamp::MAX);
        if verdict.awaits_lists {
            return match self.state {
                State::UntilPublished(until) if now < until => self.state,
                State::UntilPublished(_) | State::Expired => State::Expired,
                State::None | State::Until(_) | State::Indefinite => {
                    State::UntilPublished(until(PUBLICATION))
                }
            };
        }
        match self.state {
            State::Until(until) if now < until => self.state,
            State::Until(_) => {
                if was_true {
                    self.losses = self.losses.saturating_add(1);
                    self.last_loss = now.as_second();
                }
                State::Expired
            }
            State::Expired => State::Expired,
            State::None | State::UntilPublished(_) | State::Indefinite => {
                if now.as_second().saturating_sub(self.last_loss) > QUIET.as_secs() {
                    self.losses = 0;
                }
                let first = if was_true { LOSS } else { REASON };
                let wait = first.saturating_mul(1 << self.losses.min(MAX_DOUBLINGS));
                State::Until(until(wait))
            }
        }
    }
}
