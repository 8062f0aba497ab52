//! One candidate: what it knows of the Lease, whether it leads, and what it asks of the API server next.
//!
//! A value without I/O. Who owns it calls [`Elector::poll`], sends at once what comes out, reports with
//! [`Elector::answer`] how it went, and polls again at [`Elector::poll_timeout`]. One request is on its way at a time.

use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;
use jiff::Timestamp;

use super::{Leadership, Timing};

/// The longest pause of one that does not lead, while the API server fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it. Empty: nobody, it may be taken at once.
    pub holder: String,
    /// How long its holder asks others to wait after a renewal; without it, they wait as long as they would ask for.
    pub duration: Option<Duration>,
    /// How often the holder changed.
    pub transitions: i32,
    /// When its holder says that it renewed. It is compared with what it was, never with a clock.
    pub renewed: Option<Timestamp>,
}

/// A Lease that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its resourceVersion.
    pub version: String,
    /// What it says.
    pub record: Record,
}

/// What to write into the Lease. Who sends it adds the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// `holderIdentity`; empty when the Lease is given up.
    pub holder: String,
    /// `leaseDurationSeconds`.
    pub duration_seconds: i32,
    /// `leaseTransitions`.
    pub transitions: i32,
    /// Whether the holder changes: then `acquireTime` is the present.
    pub changes_holder: bool,
}

/// What to ask of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the Lease.
    Get,
    /// Create it.
    Create(Spec),
    /// Replace it, if it still has this resourceVersion.
    Replace {
        /// The resourceVersion that was read.
        version: String,
        /// What it shall say.
        spec: Spec,
    },
}

/// A request, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What to send, now: leadership counts from here.
    pub request: Request,
    /// Without an answer by then, it has failed.
    pub deadline: Instant,
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The Lease was read.
    Read(Seen),
    /// The Lease was written; it is this now.
    Written(Seen),
    /// There is no such Lease.
    Absent,
    /// Not written: the Lease changed since it was read, or is there already.
    Conflict,
    /// An error, or no answer: a write may have been done, or may still be done.
    Failed,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    /// What the identities of all processes of this pod begin with.
    pod: Option<String>,
    timing: Timing,
    role: Role,
    /// How often leadership was gained.
    terms: u64,
    /// The record as last seen, and when it was first seen so.
    observed: Option<(Record, Instant)>,
    basis: Basis,
    /// Whether the Lease may name us: from when such a write is sent until an answer shows otherwise.
    may_hold: bool,
    in_flight: Option<InFlight>,
    /// When to send the next request.
    due: Instant,
    backoff: Backoff,
    /// Set when asked to release: when to give that up.
    releasing: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Following,
    Leading { until: Instant },
}

/// What the next write is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Basis {
    /// The Lease must be read first.
    Unknown,
    /// There is no Lease, and we may create it.
    Absent,
    /// The Lease has this resourceVersion, and we may write it.
    Version(String),
}

#[derive(Debug)]
struct InFlight {
    sent: Instant,
    creates: bool,
    /// Whether a leader sent it, to go on leading.
    renews: bool,
}

impl Elector {
    /// A candidate that knows nothing yet. No two may have the same `identity`, and none the empty one.
    pub fn new(identity: String, timing: Timing, now: Instant) -> Self {
        Self {
            identity,
            pod: None,
            timing,
            role: Role::Following,
            terms: 0,
            observed: None,
            basis: Basis::Unknown,
            may_hold: false,
            in_flight: None,
            due: now,
            backoff: Backoff::new(timing.retry_period() / 4, LONGEST_PAUSE.max(timing.retry_period())),
            releasing: None,
        }
    }

    /// The identities of all processes of this candidate's pod begin like this. There is one at a time: an earlier one that
    /// still has the Lease is gone, and only its last writes have to be waited for.
    #[must_use]
    pub fn in_pod(mut self, prefix: Option<String>) -> Self {
        self.pod = prefix;
        self
    }

    /// What to send now, if anything.
    pub fn poll(&mut self, now: Instant) -> Option<Order> {
        self.lapse(now);
        if self.in_flight.is_some() || now < self.due || self.is_finished(now) {
            return None;
        }
        let request = match &self.basis {
            Basis::Unknown => Request::Get,
            Basis::Absent => Request::Create(self.claim(None)),
            Basis::Version(version) => {
                let record = self.observed.as_ref().map(|(record, _)| record);
                let spec = if self.releasing.is_some() { waiver(record) } else { self.claim(record) };
                Request::Replace { version: version.clone(), spec }
            }
        };
        self.may_hold |= request != Request::Get;
        let creates = matches!(request, Request::Create(_));
        self.in_flight = Some(InFlight { sent: now, creates, renews: self.leads(now) });
        let timeout = now + self.timing.request_timeout();
        let ends = [self.lapses_at(), self.releasing];
        let deadline = ends.into_iter().flatten().fold(timeout, Instant::min);
        Some(Order { request, deadline })
    }

    /// When to poll again, unless an answer comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.releasing.map_or(self.due, |give_up| give_up.min(self.due));
        let due = self.in_flight.is_none().then_some(due);
        [due, self.lapses_at()].into_iter().flatten().min()
    }

    /// How the request went that is on its way; `random` is between 0 and 1.
    pub fn answer(&mut self, now: Instant, answer: Answer, random: f64) {
        self.lapse(now);
        let Some(request) = self.in_flight.take() else { return };
        // Known again only by what follows.
        self.basis = Basis::Unknown;
        match answer {
            Answer::Read(seen) => {
                self.observe(seen.record, now);
                if !self.may_hold {
                    self.role = Role::Following;
                }
                if self.may_take(now) {
                    (self.basis, self.due) = (Basis::Version(seen.version), now);
                } else {
                    self.look_again(now, random);
                }
            }
            Answer::Written(seen) => {
                self.observe(seen.record, now);
                if self.may_hold {
                    self.written(&request, seen.version, now, random);
                } else {
                    // Given up.
                    self.role = Role::Following;
                    self.look_again(now, random);
                }
            }
            // Nor is there where to create it: the namespace is missing.
            Answer::Absent if request.creates => self.pause(now, random),
            Answer::Absent => {
                (self.role, self.may_hold) = (Role::Following, false);
                // Somebody deleted it, which its holder does not know yet.
                if self.may_take(now) {
                    (self.basis, self.due) = (Basis::Absent, now);
                } else {
                    self.look_again(now, random);
                }
            }
            // Somebody else wrote it, or an earlier renewal of ours arrived late. What is read next says which: until then a
            // leader leads, as after any renewal that failed.
            Answer::Conflict | Answer::Failed => self.pause(now, random),
        }
    }

    /// Whether this candidate leads at this instant.
    pub fn leads(&self, now: Instant) -> bool {
        self.lapses_at().is_some_and(|until| now < until)
    }

    /// What those who write may do.
    pub fn leadership(&self, now: Instant) -> Leadership {
        match self.role {
            Role::Leading { until } if now < until => Leadership::Leading { until, term: self.terms },
            _ => {
                let holder = self.observed.as_ref().map(|(record, _)| record.holder.clone());
                Leadership::Standby { holder: holder.filter(|holder| !holder.is_empty()) }
            }
        }
    }

    /// Ends leadership with this call, and then gives up the Lease, if we may hold it: poll until
    /// [`Elector::is_finished`].
    pub fn release(&mut self, now: Instant) {
        if self.releasing.is_none() {
            self.role = Role::Following;
            self.releasing = Some(now + self.timing.request_timeout());
            self.due = now;
        }
    }

    /// Whether a release is done, or given up because the API server does not answer in time.
    pub fn is_finished(&self, now: Instant) -> bool {
        let done = |give_up| !self.may_hold || now >= give_up;
        self.in_flight.is_none() && self.releasing.is_some_and(done)
    }

    /// A write of ours was done, and we are the holder.
    fn written(&mut self, request: &InFlight, version: String, now: Instant, random: f64) {
        self.backoff.succeed();
        let until = request.sent + self.timing.renew_deadline();
        let leads = self.leads(now);
        self.due = now;
        if self.releasing.is_some() {
            self.basis = Basis::Version(version);
        } else if now >= until || (request.renews && !leads) {
            // Too late: what it should have extended is over. It is read anew, and renewed anew.
        } else {
            self.terms += u64::from(!leads);
            self.role = Role::Leading { until };
            self.basis = Basis::Version(version);
            self.due = now.max(request.sent + jitter(self.timing.renew_interval(), random));
        }
    }

    /// Leadership that nothing extended is over. What is known of the Lease may be old then.
    fn lapse(&mut self, now: Instant) {
        if self.lapses_at().is_some_and(|until| now >= until) {
            self.role = Role::Following;
            self.basis = Basis::Unknown;
        }
    }

    fn lapses_at(&self) -> Option<Instant> {
        match self.role {
            Role::Leading { until } => Some(until),
            Role::Following => None,
        }
    }

    /// Notes what the Lease says. How long it has said so counts from when we first see it, which is after it was
    /// written: that errs on the side of waiting.
    fn observe(&mut self, record: Record, now: Instant) {
        self.may_hold = record.holder == self.identity;
        if self.observed.as_ref().is_none_or(|(known, _)| *known != record) {
            self.observed = Some((record, now));
        }
    }

    /// Whether the Lease, as last seen, is ours, free or expired.
    fn may_take(&self, now: Instant) -> bool {
        self.expires_at().is_none_or(|expires| now >= expires)
    }

    /// When the lease of another runs out for us; `None` if no other has it.
    fn expires_at(&self) -> Option<Instant> {
        let (record, since) = self.observed.as_ref()?;
        if record.holder.is_empty() || record.holder == self.identity {
            return None;
        }
        let predecessor = |prefix: &String| record.holder.starts_with(prefix);
        let wait = if self.pod.as_ref().is_some_and(predecessor) {
            self.timing.last_writes()
        } else {
            record.duration.unwrap_or(self.timing.lease_duration())
        };
        Some(*since + wait)
    }

    /// Another holds the Lease: to be looked at again in a while, or as soon as it may have run out.
    fn look_again(&mut self, now: Instant, random: f64) {
        self.backoff.succeed();
        let due = now + jitter(self.timing.retry_period(), random);
        self.due = self.expires_at().map_or(due, |expires| due.min(expires)).max(now);
    }

    /// Something went wrong: waits, the longer the oftener in a row, but a leader never longer than the retry period.
    fn pause(&mut self, now: Instant, random: f64) {
        let pause = self.backoff.fail(random);
        self.due = now + if self.leads(now) { pause.min(self.timing.retry_period()) } else { pause };
    }

    /// What makes us the holder, or keeps us so.
    fn claim(&self, record: Option<&Record>) -> Spec {
        let changes_holder = record.is_none_or(|record| record.holder != self.identity);
        // The first holder is no change.
        let transitions =
            record.map_or(0, |record| record.transitions.max(0).saturating_add(i32::from(changes_holder)));
        Spec {
            holder: self.identity.clone(),
            duration_seconds: self.timing.announced_seconds(),
            transitions,
            changes_holder,
        }
    }
}

/// What gives the Lease up, as client-go does it.
fn waiver(record: Option<&Record>) -> Spec {
    let transitions = record.map_or(0, |record| record.transitions.max(0));
    Spec { holder: String::new(), duration_seconds: 1, transitions, changes_holder: true }
}

/// Eight to ten tenths of `period`, so that candidates do not ask in step.
fn jitter(period: Duration, random: f64) -> Duration {
    period.mul_f64(0.8 + 0.2 * random.clamp(0.0, 1.0))
}
