//! The queue of status writes: many in flight, at most one per object, always the newest decision.
//!
//! A value without I/O. [`WriteQueue::replace`] sets the write of an object, [`WriteQueue::poll_transmit`]
//! returns the next write to send, and [`WriteQueue::handle_write_result`] takes its result. A failed write
//! is retried with back-off.
//!
//! # States of the write of one object
//!
//! ```text
//!              replace(write)         poll_transmit           Written, Gone
//!  (nothing) ----------------> Ready ---------------> InFlight ------------> (nothing)
//!      ^                       |   ^                  |     |
//!      |    replace(None)      |   | pause over       |     | Conflict, Refused, Denied, Failed, Unavailable
//!      +-----------------------+   |                  |     v
//!      |                           +--------------------- Delayed
//!      |    replace(None)                             |     |
//!      +----------------------------------------------------+
//!                                                     |
//!                    replace(write) while in flight   v
//!                                              AfterInFlight ---> Ready    the result allows it
//!                                                            ---> Delayed  the result was a failure
//!                                                            ---> (nothing) its version was just replaced
//! ```
//!
//! Background writes, which concern only what is announced, are sent when no other write is ready.
//!
//! All writes share a [`Window`], which bounds the number in flight, and one pause: after an outage nothing
//! is sent until it ends, then one write probes the API server. The writes that need a permission which the
//! controller lacks have a pause of their own, `Denials`.
//!
//! # Bounds
//!
//! The queue stores at most one pending write and one in flight for each object, so its size is bounded by
//! the number of objects in the cluster.

mod denials;
mod pending;
#[cfg(test)]
mod tests;
mod window;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;

use denials::Denials;
use pending::{Capacity, Pending, PendingWrites, Place};
pub(crate) use window::Window;
pub(crate) use write::{PatchBody, Write, WriteResult, WriteTarget};

/// First and longest pause of all writes during an outage, and after the API server asked for one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Failed writes to this many different objects, with no success in between, are an outage, even if the API
/// server responds: retrying all of them would load it. Fewer failures may each have their own cause, for
/// example an admission webhook that hangs, and delay only their own objects.
const OUTAGE_OBJECTS: usize = 16;
/// Longest back-off of a refused patch during the first [`REFUSED_SOON`]: a user may be correcting the
/// cause, for example an admission policy, and no watch reports that.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// Time since the first refusal after which a refused patch is retried only every [`REFUSED_LATER`].
const REFUSED_SOON: Duration = Duration::from_secs(5 * 60);
/// Back-off of a patch that has been refused for longer.
const REFUSED_LATER: Duration = Duration::from_secs(5 * 60);

/// Added to the time until which a write is held that was denied earlier: one that was not is the better
/// probe.
const AFTER_NEW: Duration = Duration::from_nanos(1);
/// Added to that time for the write that was denied last, so that the next probe is another one.
const AFTER_DENIED: Duration = Duration::from_nanos(2);

/// The queue of status writes.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    pending: PendingWrites,
    in_flight: BTreeMap<WriteTarget, InFlight>,
    window: Window,
    /// Objects whose writes failed since the last success; at most [`OUTAGE_OBJECTS`].
    failing: BTreeSet<WriteTarget>,
    denials: Denials,
    paused_until: Option<Instant>,
    pause: Backoff,
    retries: u64,
}

#[derive(Clone, Debug)]
struct InFlight {
    write: Pending,
    sent: Instant,
}

impl WriteQueue {
    /// Sets the write of an object to the newest decision: `write`, or nothing to write. An earlier write
    /// that was not sent yet is dropped.
    pub(crate) fn replace(&mut self, target: WriteTarget, write: Option<Write>) {
        let dropped = self.pending.remove(&target);
        if let Some(sent) = self.in_flight.get_mut(&target) {
            sent.write.superseded = true;
        }
        let Some(write) = write else {
            return self.denials.drop_unneeded(&target, self.pending.by_target(), &self.in_flight);
        };
        if self.in_flight.contains_key(&target) {
            self.pending.insert(target, Pending::new(write, Place::AfterInFlight));
            return;
        }
        let pending = match dropped {
            // It keeps its place and its back-off. But a new patch may be valid where the old one was
            // refused.
            Some(old)
                if old.place != Place::AfterInFlight
                    && (write.is_background() || !old.place.is_background())
                    && (old.refused_since.is_none() || old.write == write) =>
            {
                Pending { retry: old.retry && old.write == write, write, ..old }
            }
            _ => {
                let place = self.pending.next_place(write.is_background());
                Pending::new(write, place)
            }
        };
        self.pending.insert(target, pending);
    }

    /// Returns the next write to send now, if any. It is in flight until [`WriteQueue::handle_write_result`].
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(WriteTarget, Write)> {
        let capacity = self.capacity();
        if capacity == Capacity::None || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        self.pending.make_due_ready(now);
        let (target, pending) = loop {
            let (target, mut pending) = self.pending.pop_ready(capacity, self.window.is_probing())?;
            match self.denials.hold(now, &target) {
                None => break (target, pending),
                Some(until) => {
                    let after = if pending.is_denied { AFTER_NEW } else { Duration::ZERO };
                    pending.place = self.pending.delayed_place(until + after);
                    self.pending.insert(target, pending);
                }
            }
        };
        let write = pending.write.clone();
        self.retries += u64::from(pending.retry);
        self.in_flight.insert(target.clone(), InFlight { write: pending, sent: now });
        Some((target, write))
    }

    /// Returns when to call [`WriteQueue::poll_transmit`] again after it returned nothing, unless a result
    /// arrives before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let capacity = self.capacity();
        if capacity == Capacity::None {
            return None;
        }
        let next = if self.pending.has_ready(capacity) { None } else { Some(self.pending.next_delayed()?) };
        match (self.paused_until, next) {
            (Some(pause), Some(next)) => Some(pause.max(next)),
            (pause, next) => pause.or(next),
        }
    }

    /// Handles the result of a write and returns how long it was in flight. `random` is between 0 and 1.
    pub(crate) fn handle_write_result(
        &mut self,
        now: Instant,
        target: &WriteTarget,
        result: &WriteResult,
        random: f64,
    ) -> Duration {
        let limited = self.is_full() || self.has_backlog();
        let Some(InFlight { write, sent }) = self.in_flight.remove(target) else { return Duration::ZERO };
        let denied_until = self.denials.handle_write_result(now, target, result, random);
        match result {
            WriteResult::Unavailable(wait) => self.handle_failure(now, target, *wait, random),
            // Such a response is fast and contains no information about the capacity of the API server.
            WriteResult::Failed => self.handle_failure(now, target, None, random),
            // The cause is this object or a policy for it. Neither is an outage, whatever the number of
            // objects, and neither is a sign that the API server can store others.
            WriteResult::Refused | WriteResult::Denied(_) => {
                self.failing.remove(target);
                self.pause.succeed();
                self.window.handle_refusal(now);
            }
            _ => {
                self.failing.clear();
                self.pause.succeed();
                self.window.handle_response(sent, now, limited);
            }
        }
        self.requeue(now, target, write, result, denied_until, random);
        self.denials.drop_unneeded(target, self.pending.by_target(), &self.in_flight);
        now.saturating_duration_since(sent)
    }

    /// Returns the writes in flight.
    pub(crate) fn into_in_flight(self) -> impl Iterator<Item = (WriteTarget, Write)> {
        self.in_flight.into_iter().map(|(target, sent)| (target, sent.write.write))
    }

    /// Returns whether the pending write of an object waits after a failure.
    pub(crate) fn is_backing_off(&self, target: &WriteTarget) -> bool {
        self.pending.get(target).is_some_and(|pending| matches!(pending.place, Place::Delayed(..)))
    }

    /// Returns whether the write in flight of an object was sent before.
    pub(crate) fn is_retry(&self, target: &WriteTarget) -> bool {
        self.in_flight.get(target).is_some_and(|sent| sent.write.retry)
    }

    /// Returns whether a write of an object is pending or in flight.
    pub(crate) fn contains(&self, target: &WriteTarget) -> bool {
        self.pending.contains(target) || self.in_flight.contains_key(target)
    }

    /// Returns the numbers of writes that are pending and in flight.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.pending.len(), self.in_flight.len())
    }

    /// Returns whether a write is ready but must wait for the window. Until the API server responds again
    /// after an outage, writes that failed do not count.
    pub(crate) fn has_backlog(&self) -> bool {
        self.pending.has_ready(self.backlog_capacity())
    }

    /// Returns whether such a write is ready that is no background write.
    pub(crate) fn has_foreground_backlog(&self) -> bool {
        self.pending.has_foreground(self.backlog_capacity())
    }

    fn backlog_capacity(&self) -> Capacity {
        if self.window.is_probing() { Capacity::Unsuspected } else { Capacity::Any }
    }

    /// Describes the permissions that the controller lacks; `None` if no write was denied.
    pub(crate) fn denials(&self) -> Option<String> {
        self.denials.describe()
    }

    /// Describes the missing permissions that were not returned before; `None` if there are none.
    pub(crate) fn take_new_denials(&mut self) -> Option<String> {
        self.denials.take_new()
    }

    /// Returns how many times a write was sent again.
    pub(crate) fn retries(&self) -> u64 {
        self.retries
    }

    /// Returns how many writes may be in flight.
    pub(crate) fn window_size(&self) -> usize {
        self.window.size()
    }

    /// Pauses all writes if the failure is part of an outage or the API server asked for a pause.
    fn handle_failure(&mut self, now: Instant, target: &WriteTarget, wait: Option<Duration>, random: f64) {
        if self.failing.len() < OUTAGE_OBJECTS {
            self.failing.insert(target.clone());
        }
        if wait.is_some() {
            self.window.handle_overload(self.in_flight.len());
        }
        if self.failing.len() < OUTAGE_OBJECTS && wait.is_none() {
            return;
        }
        self.window.handle_unavailable();
        // Writes that were in flight together fail together: they count as one failure and cause one pause.
        let pausing = self.paused_until.filter(|until| now < *until);
        let pause = pausing.unwrap_or_else(|| now + self.pause.fail(random));
        self.paused_until = Some(pause.max(now + wait.unwrap_or_default()));
    }

    /// Queues what is left to write to the object after the result for `sent`.
    fn requeue(
        &mut self,
        now: Instant,
        target: &WriteTarget,
        sent: Pending,
        result: &WriteResult,
        denied_until: Option<Instant>,
        random: f64,
    ) {
        let newer = self.pending.remove(target);
        let same_version =
            newer.as_ref().is_some_and(|newer| newer.write.resource_version == sent.write.resource_version);
        let delayed = match result {
            // A write decided on the version just replaced would conflict. The watch delivers the new
            // version.
            WriteResult::Written(version) if same_version && *version != sent.write.resource_version => {
                return;
            }
            WriteResult::Written(_) | WriteResult::Gone => false,
            WriteResult::Refused => newer.is_none(),
            // The watch delivers the newer object, which leads to a new decision. The retry is for the case
            // that it does not.
            WriteResult::Conflict => newer.is_none() || same_version,
            WriteResult::Denied(_) | WriteResult::Failed | WriteResult::Unavailable(_) => true,
        };
        let retries = !matches!(result, WriteResult::Written(_) | WriteResult::Gone) && !sent.superseded;
        let (backoff, refused_since) = (sent.backoff.clone(), sent.refused_since);
        let same = retries.then_some(Pending { retry: true, ..sent });
        let Some(mut next) = newer.or(same) else { return };
        next.is_denied = denied_until.is_some();
        if let Some(until) = denied_until {
            next.backoff = backoff;
            let pause = next.backoff.fail(random).min(PAUSE.1);
            next.place = self.pending.delayed_place((until + AFTER_DENIED).max(now + pause));
        } else if delayed {
            next.backoff = backoff;
            let is_refused = *result == WriteResult::Refused;
            next.refused_since = refused_since.or(Some(now)).filter(|_| is_refused);
            // A webhook that refuses may take its time.
            next.suspect = !matches!(result, WriteResult::Conflict);
            let refused_for = next.refused_since.map(|since| now.saturating_duration_since(since));
            let pause = match next.backoff.fail(random) {
                pause if refused_for.is_some_and(|time| time >= REFUSED_SOON) => REFUSED_LATER + pause,
                pause if is_refused => (2 * pause).min(REFUSED_RETRY),
                // After a long outage, no object waits longer than the pause of all writes.
                pause if matches!(result, WriteResult::Unavailable(_)) => pause.min(PAUSE.1),
                pause => pause,
            };
            next.place = self.pending.delayed_place(now + pause);
        } else {
            next.place = self.pending.next_place(next.write.is_background());
        }
        self.pending.insert(target.clone(), next);
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.window.size()
    }

    fn capacity(&self) -> Capacity {
        if !self.is_full() {
            Capacity::Any
        } else if self.in_flight.values().all(|sent| sent.write.suspect) {
            Capacity::Unsuspected
        } else {
            Capacity::None
        }
    }
}

impl Default for WriteQueue {
    fn default() -> Self {
        Self {
            pending: PendingWrites::default(),
            in_flight: BTreeMap::new(),
            window: Window::default(),
            failing: BTreeSet::new(),
            denials: Denials::default(),
            paused_until: None,
            pause: Backoff::new(PAUSE.0, PAUSE.1),
            retries: 0,
        }
    }
}
