//! [`Peer`]: the requests to one node and its answers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A verdict is wrong if the peer answers within this time.
const FALSE_VERDICT: Duration = Duration::from_secs(2);
/// Time for which a wrong verdict makes the next one slower.
const LENIENCE: Duration = Duration::from_secs(600);
/// Highest multiplier of the missed requests.
const MAX_FACTOR: u32 = 4;
/// Time without an answer after which a peer is asked less often.
const ABSENCE: Duration = Duration::from_secs(10);

/// A peer whose kernel has answered before and does not answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When the first request without an answer was sent.
    pub since: Instant,
    /// Number of requests without an answer, until the verdict.
    pub missed: u32,
    /// Enough requests were missed to take the node for dead.
    pub verdict: bool,
    /// While this peer did not answer, others did: this node is not cut off.
    pub witnessed: bool,
}

/// One peer, and its answers.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// It has answered since it was added or cleared, so that its silence has a meaning.
    pub(crate) is_known: bool,
    /// The last tick that it answered.
    pub(crate) answered: u64,
    /// The tick whose request could not be sent.
    pub(crate) unsent: Option<u64>,
    /// Missed requests.
    missed: u32,
    /// Missed requests of ticks that another peer answered.
    witnessed: u32,
    since: Option<Instant>,
    verdict: Option<(Instant, bool)>,
    /// Multiplier of the missed requests, and until when it applies.
    lenience: Option<(u32, Instant)>,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self {
            address,
            is_known: false,
            answered: 0,
            unsent: None,
            missed: 0,
            witnessed: 0,
            since: None,
            verdict: None,
            lenience: None,
        }
    }

    /// Handles a reply. `is_only` is true if no other peer can witness.
    pub(crate) fn handle_reply(&mut self, arrived: Instant, tick: u64, is_only: bool) {
        if tick <= self.answered {
            return;
        }
        self.answered = tick;
        self.is_known = true;
        if let Some((verdict, witnessed)) = self.verdict
            && (witnessed || is_only)
            && arrived.saturating_duration_since(verdict) < FALSE_VERDICT
        {
            let factor = (self.factor(arrived) * 2).min(MAX_FACTOR);
            self.lenience = Some((factor, arrived + LENIENCE));
        }
        self.clear();
    }

    /// Handles the absence of a reply to a request that was sent at `sent`. `witnessed` is true if another
    /// peer answered a request of the same tick.
    pub(crate) fn handle_miss(&mut self, sent: Instant, witnessed: bool) {
        self.since.get_or_insert(sent);
        self.missed = self.missed.saturating_add(u32::from(self.verdict.is_none()));
        self.witnessed = self.witnessed.saturating_add(u32::from(witnessed));
    }

    /// Decides whether the peer is silent. `unanswered` is the number of ticks that nobody has answered.
    pub(crate) fn decide(&mut self, now: Instant, misses: u32, unanswered: u32) {
        let required = misses.saturating_mul(self.factor(now));
        let witnessed = self.witnessed >= required;
        let silent = witnessed || (unanswered >= required && self.missed >= required);
        if silent && self.verdict.is_none_or(|(_, before)| witnessed && !before) {
            self.verdict = Some((now, witnessed));
        }
    }

    /// Begins to count at zero, unless the verdict was witnessed.
    pub(crate) fn begin_anew(&mut self) {
        if self.verdict.is_none_or(|(_, witnessed)| !witnessed) {
            self.clear();
        }
    }

    /// Requires an answer before the next verdict.
    pub(crate) fn forget(&mut self) {
        self.is_known = false;
        self.clear();
    }

    /// Returns true if the peer is probably not there, or answers no requests.
    pub(crate) fn is_absent(&self, now: Instant) -> bool {
        !self.is_known || self.since.is_some_and(|since| now >= since + ABSENCE)
    }

    pub(crate) fn silence(&self) -> Option<Silence> {
        Some(Silence {
            since: self.since?,
            missed: self.missed,
            verdict: self.verdict.is_some(),
            witnessed: self.verdict.is_some_and(|(_, witnessed)| witnessed),
        })
    }

    fn clear(&mut self) {
        (self.missed, self.witnessed, self.since, self.verdict) = (0, 0, None, None);
    }

    fn factor(&self, now: Instant) -> u32 {
        self.lenience.filter(|(_, until)| now < *until).map_or(1, |(factor, _)| factor)
    }
}
