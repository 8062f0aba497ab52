//! Several candidates and one Lease, in simulated time: with requests that are late, lost or done without an answer,
//! processes that stop and go on, and clocks that start anywhere and do not run equally fast.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// What happens to requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// The longest way there, and the longest way back.
    pub(super) delay: Duration,
    /// Share of requests, and of answers, that never arrive.
    pub(super) lost: f64,
    /// Share of requests that the server refuses at once.
    pub(super) refused: f64,
    /// Share of writes that get a conflict for no reason.
    pub(super) conflicts: f64,
}

impl Network {
    pub(super) const GOOD: Self = Self { delay: ms(20), lost: 0.0, refused: 0.0, conflicts: 0.0 };
}

/// The clock of a process.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    /// Its seconds in a million seconds.
    rate: u128,
}

impl Clock {
    fn read(&self, now: Duration) -> Instant {
        self.start + nanos(now.as_nanos() * self.rate / 1_000_000)
    }

    /// The first moment at which it shows `instant`.
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
    Arrives { id: u64, request: Request },
    Answered { id: u64, answer: Answer },
    TimedOut { id: u64 },
}

pub(super) struct World {
    base: Instant,
    pub(super) now: Duration,
    pub(super) timing: Timing,
    pub(super) network: Network,
    pub(super) lease: Option<Seen>,
    version: u64,
    pub(super) candidates: Vec<Candidate>,
    /// Clocks run up to this much slower or faster, in millionths.
    pub(super) drift: u128,
    events: BTreeMap<(Duration, u64), (usize, Event)>,
    sequence: u64,
    dice: StdRng,
    /// Every gain of leadership: when, and by whom.
    pub(super) gains: Vec<(Duration, usize)>,
}

impl World {
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
            dice: StdRng::seed_from_u64(seed),
            gains: Vec::new(),
        }
    }

    /// A new process.
    pub(super) fn start(&mut self) -> usize {
        let start = self.base + ms(self.dice.random_range(0..1_000_000));
        let rate = self.dice.random_range(1_000_000 - self.drift..=1_000_000 + self.drift);
        let clock = Clock { start, rate };
        let who = self.candidates.len();
        let elector = Elector::new(format!("c{who}"), self.timing, clock.read(self.now));
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
        self.turn(who);
        who
    }

    /// It is gone; what it sent may still arrive.
    pub(super) fn crash(&mut self, who: usize) {
        self.candidates[who].ended.get_or_insert(self.now);
    }

    /// It does nothing for a while and does not know it.
    pub(super) fn pause(&mut self, who: usize, pause: Duration) {
        self.candidates[who].paused_until = self.now + pause;
    }

    pub(super) fn release(&mut self, who: usize) {
        if self.candidates[who].ended.is_none() {
            let now = self.candidates[who].clock.read(self.now);
            self.candidates[who].elector.release(now);
            self.turn(who);
        }
    }

    /// Somebody edits something else in the Lease.
    pub(super) fn touch(&mut self) {
        self.version += 1;
        if let Some(lease) = &mut self.lease {
            lease.version = self.version.to_string();
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|who| self.candidates[*who].ended.is_none()).collect()
    }

    /// Who leads. At no instant there are two.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |who: &usize| {
            let candidate = &self.candidates[*who];
            candidate.elector.leads(candidate.clock.read(self.now))
        };
        let leaders: Vec<usize> = self.alive().into_iter().filter(leads).collect();
        assert!(leaders.len() <= 1, "at {:?} {leaders:?} lead", self.now);
        leaders.first().copied()
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(((at, _), (who, event))) = self.events.first_key_value().map(|(k, v)| (*k, v.clone()))
            && at <= end
        {
            self.events.pop_first();
            self.now = self.now.max(at);
            self.happens(who, event);
            self.leader();
        }
        self.now = end;
        self.leader();
    }

    /// Lets time pass until `holds`, but not longer than `limit`; returns how long it took.
    pub(super) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.now - start < limit, "not within {limit:?}; the Lease: {:?}", self.lease);
            self.pass(ms(10));
        }
        self.now - start
    }

    fn happens(&mut self, who: usize, event: Event) {
        if let Event::Arrives { id, request } = event {
            let answer = self.serve(&request);
            if !self.chance(self.network.lost) {
                let delay = self.delay();
                self.schedule(self.now + delay, who, Event::Answered { id, answer });
            }
            return;
        }
        let random = self.dice.random();
        let candidate = &mut self.candidates[who];
        if candidate.ended.is_some() {
            return;
        }
        if candidate.paused_until > self.now {
            let resumes = candidate.paused_until;
            return self.schedule(resumes, who, event);
        }
        let now = candidate.clock.read(self.now);
        match event {
            Event::Wake { wake } if wake != candidate.wake => return,
            Event::Wake { .. } | Event::Arrives { .. } => {}
            Event::Answered { id, .. } | Event::TimedOut { id } if candidate.in_flight != Some(id) => return,
            Event::Answered { answer, .. } => {
                candidate.in_flight = None;
                candidate.elector.answer(now, answer, random);
            }
            Event::TimedOut { .. } => {
                candidate.in_flight = None;
                candidate.elector.answer(now, Answer::Failed, random);
            }
        }
        self.turn(who);
    }

    /// What the shell does after everything that happens.
    fn turn(&mut self, who: usize) {
        let candidate = &mut self.candidates[who];
        let now = candidate.clock.read(self.now);
        let order = candidate.elector.poll(now);
        let term = candidate.elector.leadership(now).term(now);
        if term.is_some() && term != candidate.term {
            self.gains.push((self.now, who));
        }
        candidate.term = term;
        if candidate.elector.is_finished(now) {
            candidate.ended = Some(self.now);
            return;
        }
        candidate.wake += 1;
        let wake = Event::Wake { wake: candidate.wake };
        let at = candidate.elector.poll_timeout().map(|at| candidate.clock.when(at));
        let deadline = order.as_ref().map(|order| candidate.clock.when(order.deadline));
        if let Some(at) = at {
            self.schedule(at.max(self.now), who, wake);
        }
        if let (Some(order), Some(deadline)) = (order, deadline) {
            self.send(who, order.request, deadline);
        }
    }

    fn send(&mut self, who: usize, request: Request, deadline: Duration) {
        let id = self.sequence;
        let candidate = &mut self.candidates[who];
        candidate.requests += 1;
        candidate.in_flight = Some(id);
        let delay = self.delay();
        if self.chance(self.network.refused) {
            self.schedule(self.now + delay, who, Event::Answered { id, answer: Answer::Failed });
        } else if request != Request::Get && self.chance(self.network.conflicts) {
            self.schedule(self.now + delay, who, Event::Answered { id, answer: Answer::Conflict });
        } else if !self.chance(self.network.lost) {
            self.schedule(self.now + delay, who, Event::Arrives { id, request });
        }
        self.schedule(deadline, who, Event::TimedOut { id });
    }

    /// The API server.
    fn serve(&mut self, request: &Request) -> Answer {
        let spec = match (request, &self.lease) {
            (Request::Get, Some(lease)) => return Answer::Read(lease.clone()),
            (Request::Get | Request::Replace { .. }, None) => return Answer::Absent,
            (Request::Create(_), Some(_)) => return Answer::Conflict,
            (Request::Replace { version, .. }, Some(lease)) if *version != lease.version => {
                return Answer::Conflict;
            }
            (Request::Create(spec) | Request::Replace { spec, .. }, _) => spec,
        };
        let taken = self.lease.as_ref().map(|lease| lease.record.transitions).unwrap_or_default();
        assert!((taken..=taken + 1).contains(&spec.transitions), "counts what changes");
        self.version += 1;
        let lease = Seen {
            version: self.version.to_string(),
            record: Record {
                holder: spec.holder.clone(),
                duration: Some(s(u64::try_from(spec.duration_seconds).unwrap())),
                transitions: spec.transitions,
                renewed: Some(Timestamp::from_second(i64::try_from(self.version).unwrap()).unwrap()),
            },
        };
        self.lease = Some(lease.clone());
        Answer::Written(lease)
    }

    fn schedule(&mut self, at: Duration, who: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), (who, event));
    }

    fn delay(&mut self) -> Duration {
        self.network.delay.mul_f64(self.dice.random())
    }

    fn chance(&mut self, share: f64) -> bool {
        self.dice.random_bool(share)
    }
}

/// What failed is printed, not kept in files.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
