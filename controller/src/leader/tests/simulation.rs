//! Several candidates and one Lease in simulated time: requests are delayed, lost or applied without a
//! response, processes are suspended and resumed, and clocks start at different times and run at different
//! rates.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Faults of the network and the API server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// Longest delay of a request, and of a response.
    pub(super) delay: Duration,
    /// Share of requests, and of responses, that are lost.
    pub(super) lost: f64,
    /// Share of requests that the server rejects without applying them.
    pub(super) refused: f64,
    /// Share of writes that get a spurious conflict.
    pub(super) conflicts: f64,
}

impl Network {
    pub(super) const GOOD: Self = Self { delay: ms(20), lost: 0.0, refused: 0.0, conflicts: 0.0 };
}

/// The clock of a process.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    /// Seconds that it counts in a million seconds.
    rate: u128,
}

impl Clock {
    fn read(&self, now: Duration) -> Instant {
        self.start + nanos(now.as_nanos() * self.rate / 1_000_000)
    }

    /// Returns the first simulated time at which the clock shows `instant`.
    fn when(&self, instant: Instant) -> Duration {
        nanos(((instant - self.start).as_nanos() * 1_000_000).div_ceil(self.rate))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap())
}

pub(super) struct Candidate {
    elector: Elector,
    clock: Clock,
    pub(super) started: Duration,
    pub(super) ended: Option<Duration>,
    paused_until: Duration,
    in_flight: Option<u64>,
    wake: u64,
    pub(super) requests: usize,
    term: Option<u64>,
}

#[derive(Clone, Debug)]
enum Event {
    Wake { wake: u64 },
    RequestArrives { id: u64, request: LeaseRequest },
    ResponseArrives { id: u64, response: LeaseResponse },
    TimedOut { id: u64 },
}

pub(super) struct Simulation {
    base: Instant,
    pub(super) now: Duration,
    pub(super) timing: Timing,
    pub(super) network: Network,
    pub(super) lease: Option<LeaseSnapshot>,
    version: u64,
    pub(super) candidates: Vec<Candidate>,
    /// Largest deviation of the rate of a clock, in parts per million.
    pub(super) drift: u128,
    events: BTreeMap<(Duration, u64), (usize, Event)>,
    sequence: u64,
    rng: StdRng,
    /// Every term: when it began, and the index of the leader.
    pub(super) gains: Vec<(Duration, usize)>,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            base: Instant::now(),
            now: s(0),
            timing: Timing::default(),
            network: Network::GOOD,
            lease: None,
            version: 0,
            candidates: Vec::new(),
            drift: 0,
            events: BTreeMap::new(),
            sequence: 0,
            rng: StdRng::seed_from_u64(seed),
            gains: Vec::new(),
        }
    }

    /// Starts a process and returns its index.
    pub(super) fn start(&mut self) -> usize {
        let start = self.base + ms(self.rng.random_range(0..1_000_000));
        let rate = self.rng.random_range(1_000_000 - self.drift..=1_000_000 + self.drift);
        let clock = Clock { start, rate };
        let index = self.candidates.len();
        let elector = Elector::new(format!("c{index}"), self.timing, clock.read(self.now));
        self.candidates.push(Candidate {
            elector,
            clock,
            started: self.now,
            ended: None,
            paused_until: s(0),
            in_flight: None,
            wake: 0,
            requests: 0,
            term: None,
        });
        self.turn(index);
        index
    }

    /// Ends a process. Its requests may still arrive.
    pub(super) fn crash(&mut self, index: usize) {
        self.candidates[index].ended.get_or_insert(self.now);
    }

    /// Suspends a process for `pause`.
    pub(super) fn pause(&mut self, index: usize, pause: Duration) {
        self.candidates[index].paused_until = self.now + pause;
    }

    pub(super) fn release(&mut self, index: usize) {
        if self.candidates[index].ended.is_none() {
            let now = self.candidates[index].clock.read(self.now);
            self.candidates[index].elector.release(now);
            self.turn(index);
        }
    }

    /// Edits a field of the Lease that the election does not use.
    pub(super) fn touch(&mut self) {
        self.version += 1;
        if let Some(lease) = &mut self.lease {
            lease.resource_version = self.version.to_string();
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|index| self.candidates[*index].ended.is_none()).collect()
    }

    /// Returns the index of the leader. Asserts that there is at most one.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |index: &usize| {
            let candidate = &self.candidates[*index];
            candidate.elector.leads(candidate.clock.read(self.now))
        };
        let leaders: Vec<usize> = self.alive().into_iter().filter(leads).collect();
        assert!(leaders.len() <= 1, "at {:?} {leaders:?} lead", self.now);
        leaders.first().copied()
    }

    /// Advances the time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(((at, _), (index, event))) =
            self.events.first_key_value().map(|(k, v)| (*k, v.clone()))
            && at <= end
        {
            self.events.pop_first();
            self.now = self.now.max(at);
            self.handle_event(index, event);
            self.leader();
        }
        self.now = end;
        self.leader();
    }

    /// Advances the time until `holds`, and returns how long it took. Panics after `limit`.
    pub(super) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.now - start < limit, "not within {limit:?}; the Lease: {:?}", self.lease);
            self.pass(ms(10));
        }
        self.now - start
    }

    fn handle_event(&mut self, index: usize, event: Event) {
        if let Event::RequestArrives { id, request } = event {
            let response = self.serve(&request);
            if !self.chance(self.network.lost) {
                let delay = self.delay();
                self.schedule(self.now + delay, index, Event::ResponseArrives { id, response });
            }
            return;
        }
        let random = self.rng.random();
        let candidate = &mut self.candidates[index];
        if candidate.ended.is_some() {
            return;
        }
        if candidate.paused_until > self.now {
            let resumes = candidate.paused_until;
            return self.schedule(resumes, index, event);
        }
        let now = candidate.clock.read(self.now);
        match event {
            Event::Wake { wake } if wake != candidate.wake => return,
            Event::Wake { .. } | Event::RequestArrives { .. } => {}
            Event::ResponseArrives { id, .. } | Event::TimedOut { id } if candidate.in_flight != Some(id) => {
                return;
            }
            Event::ResponseArrives { response, .. } => {
                candidate.in_flight = None;
                candidate.elector.handle_response(now, response, random);
            }
            Event::TimedOut { .. } => {
                candidate.in_flight = None;
                candidate.elector.handle_response(now, LeaseResponse::Failed, random);
            }
        }
        self.turn(index);
    }

    /// Runs one iteration of the loop in `run_election`.
    fn turn(&mut self, index: usize) {
        let candidate = &mut self.candidates[index];
        let now = candidate.clock.read(self.now);
        let request = candidate.elector.poll_transmit(now);
        let term = candidate.elector.leadership(now).term(now);
        if term.is_some() && term != candidate.term {
            self.gains.push((self.now, index));
        }
        candidate.term = term;
        if candidate.elector.is_finished(now) {
            candidate.ended = Some(self.now);
            return;
        }
        candidate.wake += 1;
        let wake = Event::Wake { wake: candidate.wake };
        let at = candidate.elector.poll_timeout().map(|at| candidate.clock.when(at));
        let deadline = request.as_ref().map(|request| candidate.clock.when(request.deadline));
        if let Some(at) = at {
            self.schedule(at.max(self.now), index, wake);
        }
        if let (Some(request), Some(deadline)) = (request, deadline) {
            self.send(index, request.request, deadline);
        }
    }

    fn send(&mut self, index: usize, request: LeaseRequest, deadline: Duration) {
        let id = self.sequence;
        let candidate = &mut self.candidates[index];
        candidate.requests += 1;
        candidate.in_flight = Some(id);
        let delay = self.delay();
        if self.chance(self.network.refused) {
            self.schedule(
                self.now + delay,
                index,
                Event::ResponseArrives { id, response: LeaseResponse::Failed },
            );
        } else if request != LeaseRequest::Get && self.chance(self.network.conflicts) {
            self.schedule(
                self.now + delay,
                index,
                Event::ResponseArrives { id, response: LeaseResponse::Conflict },
            );
        } else if !self.chance(self.network.lost) {
            self.schedule(self.now + delay, index, Event::RequestArrives { id, request });
        }
        self.schedule(deadline, index, Event::TimedOut { id });
    }

    /// Handles a request as the API server does.
    fn serve(&mut self, request: &LeaseRequest) -> LeaseResponse {
        let update = match (request, &self.lease) {
            (LeaseRequest::Get, Some(lease)) => return LeaseResponse::Read(lease.clone()),
            (LeaseRequest::Get | LeaseRequest::Replace { .. }, None) => return LeaseResponse::NotFound,
            (LeaseRequest::Create(_), Some(_)) => return LeaseResponse::Conflict,
            (LeaseRequest::Replace { resource_version, .. }, Some(lease))
                if *resource_version != lease.resource_version =>
            {
                return LeaseResponse::Conflict;
            }
            (LeaseRequest::Create(update) | LeaseRequest::Replace { update, .. }, _) => update,
        };
        let before = self.lease.as_ref().map(|lease| lease.record.transitions).unwrap_or_default();
        assert!(
            (before..=before + 1).contains(&update.transitions),
            "leaseTransitions counts changes of holder"
        );
        self.version += 1;
        let lease = LeaseSnapshot {
            resource_version: self.version.to_string(),
            record: LeaseRecord {
                holder: update.holder.clone(),
                duration: Some(s(u64::try_from(update.duration_seconds).unwrap())),
                transitions: update.transitions,
                renewed: Some(self.version.to_string()),
            },
        };
        self.lease = Some(lease.clone());
        LeaseResponse::Written(lease)
    }

    fn schedule(&mut self, at: Duration, index: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), (index, event));
    }

    fn delay(&mut self) -> Duration {
        self.network.delay.mul_f64(self.rng.random())
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }
}

/// Failing cases are printed, not stored in files.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
