//! The pending writes, and the order in which they are sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;

use super::write::{Write, WriteTarget};

/// First and longest back-off of the write of one object.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Added to the numbers of background writes.
const BACKGROUND: u64 = 1 << 63;

/// The pending writes, at most one for each object.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// The newest decision on each object that is not sent yet.
    by_target: BTreeMap<WriteTarget, Pending>,
    /// The writes that may be sent now. Those that never failed come first, each group in the order of
    /// [`Place::Ready`].
    ready: BTreeMap<(bool, u64), WriteTarget>,
    /// The writes that wait after a failure, by the time at which they may be sent, then in order of arrival.
    delayed: BTreeMap<(Instant, u64), WriteTarget>,
    sequence: u64,
}

/// A pending write.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) backoff: Backoff,
    pub(super) place: Place,
    /// The last attempt failed, so the next may fail or hang too.
    pub(super) suspect: bool,
    /// The same write was sent before.
    pub(super) retry: bool,
    /// A newer decision was made while this write was in flight.
    pub(super) superseded: bool,
    /// The time of the first refusal of the patch, if the last answer was a refusal.
    pub(super) refused_since: Option<Instant>,
    /// The last answer was a denial.
    pub(super) is_denied: bool,
}

/// The place of a pending write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The order of arrival. The numbers of background writes follow those of all others.
    Ready(u64),
    Delayed(Instant, u64),
    /// Waits for the write in flight to the same object.
    AfterInFlight,
}

/// Which writes may be sent in addition to those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capacity {
    None,
    /// One write that never failed: all writes in flight are suspect, and must not delay it if they hang.
    Unsuspected,
    Any,
}

impl PendingWrites {
    pub(super) fn get(&self, target: &WriteTarget) -> Option<&Pending> {
        self.by_target.get(target)
    }

    pub(super) fn contains(&self, target: &WriteTarget) -> bool {
        self.by_target.contains_key(target)
    }

    pub(super) fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Returns the writes by object.
    pub(super) fn by_target(&self) -> &BTreeMap<WriteTarget, Pending> {
        &self.by_target
    }

    /// Adds a write at its place. There must be no other one of the same object.
    pub(super) fn insert(&mut self, target: WriteTarget, pending: Pending) {
        match pending.place {
            Place::Ready(place) => {
                self.ready.insert((pending.suspect, place), target.clone());
            }
            Place::Delayed(at, place) => {
                self.delayed.insert((at, place), target.clone());
            }
            Place::AfterInFlight => {}
        }
        self.by_target.insert(target, pending);
    }

    /// Removes the write of an object.
    pub(super) fn remove(&mut self, target: &WriteTarget) -> Option<Pending> {
        let pending = self.by_target.remove(target)?;
        match &pending.place {
            Place::Ready(place) => {
                self.ready.remove(&(pending.suspect, *place));
            }
            Place::Delayed(at, place) => {
                self.delayed.remove(&(*at, *place));
            }
            Place::AfterInFlight => {}
        }
        Some(pending)
    }

    /// Returns the place of a write that may be sent now, after the others. Background writes come after
    /// all others.
    pub(super) fn next_place(&mut self, is_background: bool) -> Place {
        self.sequence += 1;
        Place::Ready(if is_background { BACKGROUND + self.sequence } else { self.sequence })
    }

    /// Returns the place of a write that may be sent at this time.
    pub(super) fn delayed_place(&mut self, at: Instant) -> Place {
        self.sequence += 1;
        Place::Delayed(at, self.sequence)
    }

    /// Returns when the next delayed write may be sent.
    pub(super) fn next_delayed(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    /// Makes the delayed writes ready that may be sent now.
    pub(super) fn make_due_ready(&mut self, now: Instant) {
        while let Some(((at, _), _)) = self.delayed.first_key_value()
            && *at <= now
            && let Some((_, target)) = self.delayed.pop_first()
        {
            if let Some(mut pending) = self.by_target.remove(&target) {
                pending.place = self.next_place(pending.write.is_background());
                self.insert(target, pending);
            }
        }
    }

    /// Returns whether a write is ready that the capacity permits.
    pub(super) fn has_ready(&self, capacity: Capacity) -> bool {
        let first = self.ready.first_key_value().map(|(place, _)| *place);
        match capacity {
            Capacity::None => false,
            Capacity::Unsuspected => first.is_some_and(|(suspect, _)| !suspect),
            Capacity::Any => first.is_some(),
        }
    }

    /// Returns whether a write is ready that the capacity permits and that is no background write.
    pub(super) fn has_foreground(&self, capacity: Capacity) -> bool {
        let has = |suspect| self.ready.range((suspect, 0)..(suspect, BACKGROUND)).next().is_some();
        match capacity {
            Capacity::None => false,
            Capacity::Unsuspected => has(false),
            Capacity::Any => has(false) || has(true),
        }
    }

    /// Removes and returns the write to send next. `probing` is true until the API server responds again
    /// after an outage.
    pub(super) fn pop_ready(&mut self, capacity: Capacity, probing: bool) -> Option<(WriteTarget, Pending)> {
        let place = self.next_ready(capacity, probing)?;
        let target = self.ready.remove(&place)?;
        let pending = self.by_target.remove(&target)?;
        Some((target, pending))
    }

    /// Returns the place of the write to send next.
    fn next_ready(&self, capacity: Capacity, probing: bool) -> Option<(bool, u64)> {
        let first = self.ready.first_key_value().map(|(place, _)| *place)?;
        let (suspect, _) = first;
        match capacity {
            Capacity::None => None,
            Capacity::Unsuspected => (!suspect).then_some(first),
            // After an outage, a write that has not failed is the best probe.
            Capacity::Any if suspect || probing => Some(first),
            Capacity::Any => {
                let suspect = self.ready.range((true, 0)..).next().map(|(place, _)| *place);
                suspect.filter(|suspect| suspect.1 < first.1).or(Some(first))
            }
        }
    }
}

impl Place {
    /// Returns true if this is the place of a background write that may be sent now.
    pub(super) fn is_background(&self) -> bool {
        matches!(self, Self::Ready(place) if *place >= BACKGROUND)
    }
}

impl Pending {
    pub(super) fn new(write: Write, place: Place) -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Self {
            write,
            backoff,
            place,
            suspect: false,
            retry: false,
            superseded: false,
            refused_since: None,
            is_denied: false,
        }
    }
}
