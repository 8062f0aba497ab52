//! The order of writes: many in flight, one at a time for each object, the newest word on each.
//!
//! A value without I/O: who owns it asks what to send next, sends it, and reports how it went. A write that may work
//! later is tried again, after a pause that grows; nothing here ever blocks a decision.

#[cfg(test)]
mod tests;
mod window;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;

pub use window::Window;
pub use write::{Answer, Body, Target, Write};

/// Pauses after an object's first failure, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// Pauses of all writes in an outage, and after the API server asked for patience, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Writes to so many different objects that failed, with none that worked between, are an outage: also where the API
/// server answers, for it would be asked without end. Fewer may each have a cause of its own, an admission webhook that
/// hangs say, and harm only themselves.
const OUTAGE: usize = 16;
/// Pause after the API server refused what an object should say: what refuses it, an admission policy say, may change,
/// and nothing tells us.
const REFUSED: Duration = Duration::from_secs(5 * 60);

/// What may be sent besides what is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Nothing,
    /// One that never failed: what hangs is not to hold it up.
    Unsuspected,
    Anything,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Writer {
    /// The newest word on each object that is not sent yet.
    pending: BTreeMap<Target, Pending>,
    /// Those of `pending` that may be sent now, in the order in which they came; first those that never failed.
    ready: BTreeMap<(bool, u64), Target>,
    /// Those of `pending` that wait after a failure.
    delayed: BTreeSet<(Instant, Target)>,
    in_flight: BTreeMap<Target, InFlight>,
    window: Window,
    /// Objects whose writes failed since one last did not; no more of them than make an outage.
    failing: BTreeSet<Target>,
    paused_until: Option<Instant>,
    pause: Backoff,
    sequence: u64,
    repeats: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    write: Write,
    backoff: Backoff,
    place: Place,
    /// It failed, and may do so again.
    suspect: bool,
    /// The same was sent before.
    repeat: bool,
    /// While it was in flight, there was a newer word.
    superseded: bool,
    /// The API server refused it.
    refused: bool,
}

impl Pending {
    fn new(write: Write, place: Place) -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Self { write, backoff, place, suspect: false, repeat: false, superseded: false, refused: false }
    }
}

#[derive(Clone, Debug)]
struct InFlight {
    write: Pending,
    sent: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Ready(u64),
    Delayed(Instant),
    /// Comes after the one in flight for the same object.
    Behind,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            ready: BTreeMap::new(),
            delayed: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            window: Window::default(),
            failing: BTreeSet::new(),
            paused_until: None,
            pause: Backoff::new(PAUSE.0, PAUSE.1),
            sequence: 0,
            repeats: 0,
        }
    }
}

impl Writer {
    /// The newest word on an object: this write, or none. An earlier one that was not sent is dropped.
    pub fn put(&mut self, target: Target, write: Option<Write>) {
        let dropped = self.withdraw(&target);
        if let Some(sent) = self.in_flight.get_mut(&target) {
            sent.write.superseded = true;
        }
        let Some(write) = write else { return };
        if self.in_flight.contains_key(&target) {
            self.pending.insert(target, Pending::new(write, Place::Behind));
            return;
        }
        let pending = match dropped {
            // It keeps its place in the queue, and its pause after a failure; but what was refused may be right now.
            Some(old) if old.place != Place::Behind && (!old.refused || old.write == write) => {
                Pending { repeat: old.repeat && old.write == write, write, ..old }
            }
            _ => Pending::new(write, self.next_place()),
        };
        self.enqueue(target, pending);
    }

    /// What to send now, if anything. It is in flight until [`Writer::done`].
    pub fn poll(&mut self, now: Instant) -> Option<(Target, Write)> {
        let room = self.room();
        if room == Room::Nothing || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        while let Some((at, _)) = self.delayed.first()
            && *at <= now
            && let Some((_, target)) = self.delayed.pop_first()
        {
            if let Some(mut pending) = self.pending.remove(&target) {
                pending.place = self.next_place();
                self.enqueue(target, pending);
            }
        }
        let target = self.ready.remove(&self.next(room)?)?;
        let pending = self.pending.remove(&target)?;
        let write = pending.write.clone();
        self.repeats += u64::from(pending.repeat);
        self.in_flight.insert(target.clone(), InFlight { write: pending, sent: now });
        Some((target, write))
    }

    /// When to poll again, when there is nothing to send now and nothing comes back before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let room = self.room();
        if room == Room::Nothing {
            return None;
        }
        let next = if self.next(room).is_some() { None } else { Some(self.delayed.first()?.0) };
        match (self.paused_until, next) {
            (Some(pause), Some(next)) => Some(pause.max(next)),
            (pause, next) => pause.or(next),
        }
    }

    /// How a write went, `now`; `random` is between 0 and 1. Returns how long it was on the way.
    pub fn done(&mut self, now: Instant, target: &Target, answer: &Answer, random: f64) -> Duration {
        let demand = self.is_full() || self.is_behind();
        let Some(InFlight { write, sent }) = self.in_flight.remove(target) else { return Duration::ZERO };
        match answer {
            Answer::Unavailable(wait) => self.failed(now, target, *wait, random),
            // One such answer comes fast and says nothing about what the API server bears.
            Answer::Failed => self.failed(now, target, None, random),
            _ => {
                self.failing.clear();
                self.pause.succeed();
                self.window.answered(sent, now, demand);
            }
        }
        self.take_back(now, target, write, answer, random);
        now.saturating_duration_since(sent)
    }

    /// What follows from a failure for all writes.
    fn failed(&mut self, now: Instant, target: &Target, wait: Option<Duration>, random: f64) {
        if self.failing.len() < OUTAGE {
            self.failing.insert(target.clone());
        }
        if self.failing.len() < OUTAGE && wait.is_none() {
            return;
        }
        self.window.unavailable();
        // Those that were in flight together fail together: one failure, one pause.
        let pausing = self.paused_until.filter(|until| now < *until);
        let pause = pausing.unwrap_or_else(|| now + self.pause.fail(random));
        self.paused_until = Some(pause.max(now + wait.unwrap_or_default()));
    }

    /// What follows from the answer for the object.
    fn take_back(&mut self, now: Instant, target: &Target, sent: Pending, answer: &Answer, random: f64) {
        let newer = self.withdraw(target);
        let on_same_version = newer.as_ref().is_some_and(|newer| newer.write.version == sent.write.version);
        let later = match answer {
            // What was decided on the version that was just replaced must fail. The watch brings the new version.
            Answer::Written(version) if on_same_version && *version != sent.write.version => return,
            Answer::Written(_) | Answer::Gone => false,
            Answer::Invalid => newer.is_none(),
            // The watch brings the newer object and with it a newer word. In case it does not, ask again later.
            Answer::Conflict => newer.is_none() || on_same_version,
            Answer::Failed | Answer::Unavailable(_) => true,
        };
        let repeats = !matches!(answer, Answer::Written(_) | Answer::Gone) && !sent.superseded;
        let backoff = sent.backoff.clone();
        let same = repeats.then_some(Pending { repeat: true, ..sent });
        let Some(mut again) = newer.or(same) else { return };
        if later {
            again.backoff = backoff;
            again.refused = *answer == Answer::Invalid;
            again.suspect = matches!(answer, Answer::Failed | Answer::Unavailable(_));
            let pause = match again.backoff.fail(random) {
                pause if again.refused => REFUSED + pause,
                // After a long outage, nothing waits longer than all do.
                pause if matches!(answer, Answer::Unavailable(_)) => pause.min(PAUSE.1),
                pause => pause,
            };
            again.place = Place::Delayed(now + pause);
        } else {
            again.place = self.next_place();
        }
        self.enqueue(target.clone(), again);
    }

    /// What is on the way.
    pub fn into_in_flight(self) -> impl Iterator<Item = (Target, Write)> {
        self.in_flight.into_iter().map(|(target, sent)| (target, sent.write.write))
    }

    /// Whether what is to be sent to an object waits after a failure.
    pub fn has_failed(&self, target: &Target) -> bool {
        self.pending.get(target).is_some_and(|pending| matches!(pending.place, Place::Delayed(_)))
    }

    /// Whether something is still to be sent to an object, or on the way.
    pub fn is_busy(&self, target: &Target) -> bool {
        self.pending.contains_key(target) || self.in_flight.contains_key(target)
    }

    /// How many wait to be sent, and how many are in flight.
    pub fn depth(&self) -> (usize, usize) {
        (self.pending.len(), self.in_flight.len())
    }

    /// Whether something could be sent now, were there not too much in flight already. What failed does not count
    /// before the API server answers again.
    pub fn is_behind(&self) -> bool {
        self.next(if self.window.is_asking() { Room::Unsuspected } else { Room::Anything }).is_some()
    }

    /// How often a write was sent that had been sent before.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// How many may be in flight.
    pub fn window(&self) -> usize {
        self.window.size()
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.window.size()
    }

    fn room(&self) -> Room {
        if !self.is_full() {
            Room::Anything
        } else if self.in_flight.values().all(|sent| sent.write.suspect) {
            Room::Unsuspected
        } else {
            Room::Nothing
        }
    }

    /// The place of what is to be sent next.
    fn next(&self, room: Room) -> Option<(bool, u64)> {
        let first = self.ready.first_key_value().map(|(place, _)| *place)?;
        let (suspect, _) = first;
        match room {
            Room::Nothing => None,
            Room::Unsuspected => (!suspect).then_some(first),
            // Whether the API server is back is best asked by what it has not failed on yet.
            Room::Anything if suspect || self.window.is_asking() => Some(first),
            Room::Anything => {
                let suspect = self.ready.range((true, 0)..).next().map(|(place, _)| *place);
                suspect.filter(|suspect| suspect.1 < first.1).or(Some(first))
            }
        }
    }

    fn next_place(&mut self) -> Place {
        self.sequence += 1;
        Place::Ready(self.sequence)
    }

    fn enqueue(&mut self, target: Target, pending: Pending) {
        match pending.place {
            Place::Ready(place) => {
                self.ready.insert((pending.suspect, place), target.clone());
            }
            Place::Delayed(at) => {
                self.delayed.insert((at, target.clone()));
            }
            Place::Behind => {}
        }
        self.pending.insert(target, pending);
    }

    fn withdraw(&mut self, target: &Target) -> Option<Pending> {
        let pending = self.pending.remove(target)?;
        match &pending.place {
            Place::Ready(place) => {
                self.ready.remove(&(pending.suspect, *place));
            }
            Place::Delayed(at) => {
                self.delayed.remove(&(*at, target.clone()));
            }
            Place::Behind => {}
        }
        Some(pending)
    }
}
