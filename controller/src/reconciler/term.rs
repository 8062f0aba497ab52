//! The term of leadership in which this controller decides, and the relist that it requires.

use std::time::Instant;

use tokio::sync::watch;

use crate::leader::Leadership;

/// The current term and the current relist.
#[derive(Debug)]
pub(super) struct CurrentTerm {
    leadership: watch::Receiver<Leadership>,
    /// Number of the term, while this controller leads.
    term: Option<u64>,
    /// Number of the relist: one at the start and one at the start of each term.
    relist: u64,
}

/// A change of leadership. Both are true if a new term directly follows an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TermChange {
    /// The earlier term ended.
    pub(super) ended: bool,
    /// A new term began. All kinds must be listed again before it decides: the watches may lag behind the
    /// writes of an earlier term.
    pub(super) began: bool,
}

impl CurrentTerm {
    pub(super) fn new(leadership: watch::Receiver<Leadership>) -> Self {
        Self { leadership, term: None, relist: 0 }
    }

    /// Follows the published leadership. Returns the change since the last call, if any.
    pub(super) fn update(&mut self, now: Instant) -> Option<TermChange> {
        let term = self.leadership.borrow().term(now);
        if term == self.term {
            return None;
        }
        let change = TermChange { ended: self.term.is_some(), began: term.is_some() };
        self.term = term;
        self.relist += u64::from(change.began);
        Some(change)
    }

    /// Returns whether this controller led at the last [`CurrentTerm::update`].
    pub(super) fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// Returns true if no controller can lead, because the namespace of the Lease does not exist.
    pub(super) fn lacks_namespace(&self) -> bool {
        *self.leadership.borrow() == Leadership::NoNamespace
    }

    /// Returns the number of the relist. When it changes, all kinds must be listed again.
    pub(super) fn relist(&self) -> u64 {
        self.relist
    }

    /// Returns the end of the term if writes may be sent at `now`.
    pub(super) fn write_deadline(&self, now: Instant) -> Option<Instant> {
        self.published_end().filter(|until| now < *until && self.leads())
    }

    /// Returns when to call [`CurrentTerm::update`] although nothing is published.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.published_end()
    }

    fn published_end(&self) -> Option<Instant> {
        match *self.leadership.borrow() {
            Leadership::Leading { until, .. } => Some(until),
            Leadership::Standby { .. } | Leadership::NoNamespace => None,
        }
    }
}
