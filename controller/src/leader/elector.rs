//! The state of one candidate: the Lease as last observed, whether the candidate leads, and its next request.
//!
//! A value without I/O. The caller sends what [`Elector::poll_transmit`] returns at once, passes the result
//! to [`Elector::handle_response`], and calls [`Elector::poll_transmit`] again at [`Elector::poll_timeout`].
//! At most one request is in flight.

use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;

use super::{Leadership, Timing};

/// Longest back-off of a candidate that does not lead.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The state of one candidate.
#[derive(Debug)]
pub(crate) struct Elector {
    identity: String,
    /// Prefix of the identities of all processes of this pod.
    pod_prefix: Option<String>,
    timing: Timing,
    role: Role,
    /// Number of terms so far.
    terms: u64,
    /// The last record, and when it was first observed.
    observed: Option<(LeaseRecord, Instant)>,
    precondition: Precondition,
    /// True if the Lease may name this candidate: from when such a write is sent until a response shows
    /// otherwise.
    may_hold: bool,
    /// True if the last creation failed because the namespace of the Lease does not exist.
    no_namespace: bool,
    in_flight: Option<InFlight>,
    /// When to send the next request.
    due: Instant,
    backoff: Backoff,
    /// Set by [`Elector::release`]: when to stop trying.
    release_deadline: Option<Instant>,
}

/// The fields of a Lease that count for the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    /// `holderIdentity`. Empty if the Lease was released and may be acquired at once.
    pub holder: String,
    /// `leaseDurationSeconds`: how long others wait after a renewal. If unset, they wait for their own lease
    /// duration.
    pub duration: Option<Duration>,
    /// `leaseTransitions`.
    pub transitions: i32,
    /// `renewTime`. Only compared with its earlier value, never with a clock, so that each change of it is a
    /// renewal, whatever the clock of its writer shows.
    pub renewed: Option<String>,
}

/// A Lease as the API server returned it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) struct LeaseSnapshot {
    pub resource_version: String,
    pub record: LeaseRecord,
}

/// New values for the fields of the Lease. The sender adds `renewTime` and `acquireTime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseUpdate {
    /// `holderIdentity`; empty to release the Lease.
    pub holder: String,
    /// `leaseDurationSeconds`.
    pub duration_seconds: i32,
    /// `leaseTransitions`.
    pub transitions: i32,
    /// True if the holder changes; `acquireTime` then becomes the time of the write.
    pub changes_holder: bool,
}

/// A request for the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum LeaseRequest {
    Get,
    Create(LeaseUpdate),
    /// Replaces the Lease if it still has this resourceVersion.
    Replace {
        resource_version: String,
        update: LeaseUpdate,
    },
}

/// A request with its time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimedRequest {
    /// Must be sent at once: the term counts from the call that returned this value.
    pub request: LeaseRequest,
    /// The request counts as failed if there is no response by then.
    pub deadline: Instant,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseResponse {
    /// The Lease was read.
    Read(LeaseSnapshot),
    /// The Lease was written and has this state now.
    Written(LeaseSnapshot),
    /// The Lease does not exist. In response to a creation: its namespace does not exist.
    NotFound,
    /// Not written: the Lease changed after it was read, or already exists.
    Conflict,
    /// An error or no response. A write may have been applied, or may still be.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Following,
    Leading { until: Instant },
}

/// The state of the Lease that the next write requires.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Precondition {
    /// The Lease must be read first.
    Unknown,
    /// There is no Lease, and this candidate may create it.
    Absent,
    /// The Lease has this resourceVersion, and this candidate may write it.
    Version(String),
}

#[derive(Debug)]
struct InFlight {
    sent: Instant,
    creates: bool,
    /// True if the candidate led when it sent the request.
    renews: bool,
}

impl Elector {
    /// Returns a candidate that has not observed the Lease yet. `identity` must be unique and not empty.
    pub(crate) fn new(identity: String, timing: Timing, now: Instant) -> Self {
        Self {
            identity,
            pod_prefix: None,
            timing,
            role: Role::Following,
            terms: 0,
            observed: None,
            precondition: Precondition::Unknown,
            may_hold: false,
            no_namespace: false,
            in_flight: None,
            due: now,
            backoff: Backoff::new(timing.retry_period() / 4, MAX_BACKOFF.max(timing.retry_period())),
            release_deadline: None,
        }
    }

    /// Sets the prefix of the identities of all processes of this pod. A pod runs one process at a time, so
    /// an earlier holder with this prefix has exited: the candidate waits only for its last writes to arrive.
    #[must_use]
    pub(crate) fn in_pod(mut self, prefix: Option<String>) -> Self {
        self.pod_prefix = prefix;
        self
    }

    /// Returns the request to send now, if any.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<TimedRequest> {
        self.end_expired_term(now);
        if self.in_flight.is_some() || now < self.due || self.is_finished(now) {
            return None;
        }
        let request = match &self.precondition {
            Precondition::Unknown => LeaseRequest::Get,
            Precondition::Absent => LeaseRequest::Create(self.acquisition(None)),
            Precondition::Version(version) => {
                let record = self.observed.as_ref().map(|(record, _)| record);
                let update =
                    if self.release_deadline.is_some() { release(record) } else { self.acquisition(record) };
                LeaseRequest::Replace { resource_version: version.clone(), update }
            }
        };
        self.may_hold |= request != LeaseRequest::Get;
        let creates = matches!(request, LeaseRequest::Create(_));
        self.in_flight = Some(InFlight { sent: now, creates, renews: self.leads(now) });
        let timeout = now + self.timing.request_timeout();
        let ends = [self.term_end(), self.release_deadline];
        let deadline = ends.into_iter().flatten().fold(timeout, Instant::min);
        Some(TimedRequest { request, deadline })
    }

    /// Returns when to call [`Elector::poll_transmit`] again if no response arrives before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.release_deadline.map_or(self.due, |deadline| deadline.min(self.due));
        let due = self.in_flight.is_none().then_some(due);
        [due, self.term_end()].into_iter().flatten().min()
    }

    /// Handles the response to the request in flight. `random` is between 0 and 1.
    pub(crate) fn handle_response(&mut self, now: Instant, response: LeaseResponse, random: f64) {
        self.end_expired_term(now);
        let Some(request) = self.in_flight.take() else { return };
        // Only the response can establish it again.
        self.precondition = Precondition::Unknown;
        if matches!(response, LeaseResponse::Read(_) | LeaseResponse::Written(_) | LeaseResponse::Conflict) {
            self.no_namespace = false;
        }
        match response {
            LeaseResponse::Read(snapshot) => {
                self.observe(snapshot.record, now);
                if !self.may_hold {
                    self.role = Role::Following;
                }
                if self.may_acquire(now) {
                    let version = snapshot.resource_version;
                    (self.precondition, self.due) = (Precondition::Version(version), now);
                } else {
                    self.schedule_read(now, random);
                }
            }
            LeaseResponse::Written(snapshot) => {
                self.observe(snapshot.record, now);
                if self.may_hold {
                    self.handle_own_write(&request, snapshot.resource_version, now, random);
                } else {
                    // The write released the Lease.
                    self.role = Role::Following;
                    self.schedule_read(now, random);
                }
            }
            LeaseResponse::NotFound if request.creates => {
                self.no_namespace = true;
                self.back_off(now, random);
            }
            LeaseResponse::NotFound => {
                (self.role, self.may_hold) = (Role::Following, false);
                // If the Lease was deleted, its holder may not have noticed yet.
                if self.may_acquire(now) {
                    (self.precondition, self.due) = (Precondition::Absent, now);
                } else {
                    self.schedule_read(now, random);
                }
            }
            // Either another client wrote the Lease, or an earlier renewal of this candidate was applied
            // late. The next read tells them apart; until then a leader keeps leading, as after any failed
            // renewal.
            LeaseResponse::Conflict | LeaseResponse::Failed => self.back_off(now, random),
        }
    }

    /// Returns whether this candidate leads at `now`.
    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.term_end().is_some_and(|until| now < until)
    }

    /// Returns the leadership to publish.
    pub(crate) fn leadership(&self, now: Instant) -> Leadership {
        match self.role {
            Role::Leading { until } if now < until => Leadership::Leading { until, term: self.terms },
            _ if self.no_namespace => Leadership::NoNamespace,
            _ => {
                let holder = self.observed.as_ref().map(|(record, _)| record.holder.clone());
                Leadership::Standby { holder: holder.filter(|holder| !holder.is_empty()) }
            }
        }
    }

    /// Ends the term immediately, then releases the Lease if it may name this candidate. The caller polls
    /// until [`Elector::is_finished`].
    pub(crate) fn release(&mut self, now: Instant) {
        if self.release_deadline.is_none() {
            self.role = Role::Following;
            self.release_deadline = Some(now + self.timing.request_timeout());
            self.due = now;
        }
    }

    /// Returns whether the release is complete, or abandoned because its deadline has passed.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        let ended = |deadline| !self.may_hold || now >= deadline;
        self.in_flight.is_none() && self.release_deadline.is_some_and(ended)
    }

    /// Handles a successful write that names this candidate as holder.
    fn handle_own_write(&mut self, request: &InFlight, version: String, now: Instant, random: f64) {
        self.backoff.succeed();
        let until = request.sent + self.timing.renew_deadline();
        let leads = self.leads(now);
        self.due = now;
        if self.release_deadline.is_some() {
            self.precondition = Precondition::Version(version);
        } else if now >= until || (request.renews && !leads) {
            // Too late: the term that it would have extended is over. The Lease is read and written again.
        } else {
            self.terms += u64::from(!leads);
            self.role = Role::Leading { until };
            self.precondition = Precondition::Version(version);
            self.due = now.max(request.sent + jitter(self.timing.renew_interval(), random));
        }
    }

    /// Ends a term that was not extended in time. The last observed Lease may be outdated by then.
    fn end_expired_term(&mut self, now: Instant) {
        if self.term_end().is_some_and(|until| now >= until) {
            self.role = Role::Following;
            self.precondition = Precondition::Unknown;
        }
    }

    fn term_end(&self) -> Option<Instant> {
        match self.role {
            Role::Leading { until } => Some(until),
            Role::Following => None,
        }
    }

    /// Stores an observed record. Its age counts from the first observation, which is after the write: that
    /// errs on the side of waiting.
    fn observe(&mut self, record: LeaseRecord, now: Instant) {
        self.may_hold = record.holder == self.identity;
        if self.observed.as_ref().is_none_or(|(last, _)| *last != record) {
            self.observed = Some((record, now));
        }
    }

    /// Returns whether the observed Lease is held by this candidate, free or expired.
    fn may_acquire(&self, now: Instant) -> bool {
        self.expires_at().is_none_or(|expires| now >= expires)
    }

    /// Returns when the lease of another holder expires for this candidate; `None` if there is no other
    /// holder.
    fn expires_at(&self) -> Option<Instant> {
        let (record, since) = self.observed.as_ref()?;
        if record.holder.is_empty() || record.holder == self.identity {
            return None;
        }
        let is_predecessor = |prefix: &String| record.holder.starts_with(prefix);
        let wait = if self.pod_prefix.as_ref().is_some_and(is_predecessor) {
            self.timing.last_write_grace()
        } else {
            record.duration.unwrap_or(self.timing.lease_duration())
        };
        Some(*since + wait)
    }

    /// Schedules a read of a Lease that another process holds: after the retry period, or as soon as it may
    /// expire.
    fn schedule_read(&mut self, now: Instant, random: f64) {
        self.backoff.succeed();
        let due = now + jitter(self.timing.retry_period(), random);
        self.due = self.expires_at().map_or(due, |expires| due.min(expires)).max(now);
    }

    /// Schedules the next request after a failure. A leader never waits longer than the retry period.
    fn back_off(&mut self, now: Instant, random: f64) {
        let pause = self.backoff.fail(random);
        self.due = now + if self.leads(now) { pause.min(self.timing.retry_period()) } else { pause };
    }

    /// Returns the update that acquires or renews the Lease.
    fn acquisition(&self, record: Option<&LeaseRecord>) -> LeaseUpdate {
        let changes_holder = record.is_none_or(|record| record.holder != self.identity);
        // The first holder does not count as a transition.
        let transitions =
            record.map_or(0, |record| record.transitions.max(0).saturating_add(i32::from(changes_holder)));
        LeaseUpdate {
            holder: self.identity.clone(),
            duration_seconds: self.timing.announced_seconds(),
            transitions,
            changes_holder,
        }
    }
}

/// Returns the update that releases the Lease, the same as client-go's `release`.
fn release(record: Option<&LeaseRecord>) -> LeaseUpdate {
    let transitions = record.map_or(0, |record| record.transitions.max(0));
    LeaseUpdate { holder: String::new(), duration_seconds: 1, transitions, changes_holder: true }
}

/// Returns 80 % to 100 % of `period`, so that candidates do not send in step.
fn jitter(period: Duration, random: f64) -> Duration {
    period.mul_f64(0.8 + 0.2 * random.clamp(0.0, 1.0))
}
