//! The order of writes: many in flight, one at a time for each object, the newest word on each.
//!
//! A value without I/O: who owns it asks what to send next, sends it, and reports how it went. A write that may work
//! later is tried again, after a pause that grows; nothing here ever blocks a decision.

#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::resolve::ObjectRef;
use fairlead_crds::service::ObjectKey;
use fairlead_runtime::backoff::Backoff;
use serde_json::Value;

use crate::decide::objects::ObjectPatch;
use crate::decide::{ClaimPatch, StatusPatch};

pub use window::Window;

/// Pauses after an object's first failure, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// Pauses of all writes after the API server did not answer, or asked for patience, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after the API server refused what an object should say: what refuses it, an admission policy say, may change,
/// and nothing tells us.
const REFUSED: Duration = Duration::from_secs(5 * 60);

/// What is written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A Service's status.
    Service(ObjectKey),
    /// A claim's status.
    Claim(ObjectKey),
    /// A configuration object's status.
    Object(ObjectRef),
    /// A configuration object's finalizers.
    Finalizers(ObjectRef),
}

/// A merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The resourceVersion that was decided on; it is in the body too.
    pub version: String,
    /// The patch.
    pub patch: Arc<Body>,
}

/// What a patch says. It becomes text only when it is sent: thousands may wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The status of a Service.
    Status(Box<StatusPatch>),
    /// That of any other object.
    Object(Value),
}

impl Body {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        match self {
            Self::Status(patch) => patch.body().to_string().into_bytes(),
            Self::Object(value) => value.to_string().into_bytes(),
        }
    }
}

impl From<Box<StatusPatch>> for Write {
    fn from(patch: Box<StatusPatch>) -> Self {
        Self { version: patch.resource_version.clone(), patch: Arc::new(Body::Status(patch)) }
    }
}

impl From<Box<ClaimPatch>> for Write {
    fn from(patch: Box<ClaimPatch>) -> Self {
        Self { version: patch.resource_version.clone(), patch: Arc::new(Body::Object(patch.body())) }
    }
}

impl From<ObjectPatch> for Write {
    fn from(patch: ObjectPatch) -> Self {
        Self { version: patch.resource_version, patch: Arc::new(Body::Object(patch.body)) }
    }
}

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; the object has this resourceVersion now.
    Written(String),
    /// The object is newer than what was decided on. The watch brings it, and with it a new decision.
    Conflict,
    /// The object is gone.
    Gone,
    /// The API server refuses what the write says.
    Invalid,
    /// This write failed and may work later.
    Failed,
    /// The API server is away or overloaded; perhaps it said for how long.
    Unavailable(Option<Duration>),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Writer {
    /// The newest word on each object that is not sent yet.
    pending: BTreeMap<Target, Pending>,
    /// Those of `pending` that may be sent now, in the order in which they came.
    ready: BTreeMap<u64, Target>,
    /// Those of `pending` that wait after a failure.
    delayed: BTreeSet<(Instant, Target)>,
    in_flight: BTreeMap<Target, InFlight>,
    window: Window,
    paused_until: Option<Instant>,
    pause: Backoff,
    sequence: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    write: Write,
    backoff: Backoff,
    place: Place,
    /// While it was in flight, there was a newer word.
    superseded: bool,
    /// The API server refused it.
    refused: bool,
}

impl Pending {
    fn new(write: Write, place: Place) -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Self { write, backoff, place, superseded: false, refused: false }
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
            paused_until: None,
            pause: Backoff::new(PAUSE.0, PAUSE.1),
            sequence: 0,
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
                Pending { write, ..old }
            }
            _ => Pending::new(write, self.next_place()),
        };
        self.enqueue(target, pending);
    }

    /// What to send now, if anything. It is in flight until [`Writer::done`].
    pub fn poll(&mut self, now: Instant) -> Option<(Target, Write)> {
        if self.is_full() || self.paused_until.is_some_and(|until| now < until) {
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
        let (_, target) = self.ready.pop_first()?;
        let pending = self.pending.remove(&target)?;
        let write = pending.write.clone();
        self.in_flight.insert(target.clone(), InFlight { write: pending, sent: now });
        Some((target, write))
    }

    /// When to poll again, when there is nothing to send now and nothing comes back before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_full() {
            return None;
        }
        let next = match (self.ready.is_empty(), self.delayed.first()) {
            (true, None) => return None,
            (true, Some((at, _))) => Some(*at),
            (false, _) => None,
        };
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
            Answer::Unavailable(_) => self.window.unavailable(),
            _ => self.window.answered(sent, now, demand),
        }
        self.take_back(now, target, write, answer, random);
        now.saturating_duration_since(sent)
    }

    /// What follows from the answer for the object.
    fn take_back(&mut self, now: Instant, target: &Target, sent: Pending, answer: &Answer, random: f64) {
        let newer = self.withdraw(target);
        if !matches!(answer, Answer::Unavailable(_)) {
            self.pause.succeed();
        }
        if let Answer::Unavailable(wait) = answer {
            // Those that were in flight together fail together: one failure, one pause.
            let pausing = self.paused_until.filter(|until| now < *until);
            let pause = pausing.unwrap_or_else(|| now + self.pause.fail(random));
            self.paused_until = Some(pause.max(now + wait.unwrap_or_default()));
        }
        let on_same_version = newer.as_ref().is_some_and(|newer| newer.write.version == sent.write.version);
        let later = match answer {
            // What was decided on the version that was just replaced must fail. The watch brings the new version.
            Answer::Written(version) if on_same_version && *version != sent.write.version => return,
            Answer::Written(_) | Answer::Gone => false,
            Answer::Invalid => newer.is_none(),
            // The watch brings the newer object and with it a newer word. In case it does not, ask again later.
            Answer::Conflict => newer.is_none() || on_same_version,
            Answer::Failed => true,
            Answer::Unavailable(_) => false,
        };
        let repeats = !matches!(answer, Answer::Written(_) | Answer::Gone) && !sent.superseded;
        let backoff = sent.backoff.clone();
        let Some(mut again) = newer.or_else(|| repeats.then_some(sent)) else { return };
        if later {
            again.backoff = backoff;
            again.refused = *answer == Answer::Invalid;
            let at_least = if again.refused { REFUSED } else { Duration::ZERO };
            again.place = Place::Delayed(now + at_least + again.backoff.fail(random));
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

    /// Whether something could be sent now, were there not too much in flight already.
    pub fn is_behind(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many may be in flight.
    pub fn window(&self) -> usize {
        self.window.size()
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.window.size()
    }

    fn next_place(&mut self) -> Place {
        self.sequence += 1;
        Place::Ready(self.sequence)
    }

    fn enqueue(&mut self, target: Target, pending: Pending) {
        match pending.place {
            Place::Ready(place) => {
                self.ready.insert(place, target.clone());
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
                self.ready.remove(place);
            }
            Place::Delayed(at) => {
                self.delayed.remove(&(*at, target.clone()));
            }
            Place::Behind => {}
        }
        Some(pending)
    }
}
