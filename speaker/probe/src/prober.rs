//! [`Prober`]: the requests to all peers of one node.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::Timing;
use crate::peer::{Peer, Silence};

/// Requests per second of one node at most; with more peers, the interval is longer.
const MAX_RATE: u32 = 200;

/// Number of ticks without any answer after which the counts begin at zero.
const ISOLATED_TICKS: u32 = 2;

/// A peer that is not there is asked in one of this many ticks: once a second with an interval of 50 ms.
const ABSENT_TICKS: u64 = 20;

/// An echo request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    #[allow(missing_docs)]
    pub to: IpAddr,
    /// Identifies the interval. The reply contains it.
    pub tick: u64,
}

/// Numbers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    #[allow(missing_docs)]
    pub sent: u64,
    /// Requests without an answer, of peers that had answered before.
    pub missed: u64,
    /// Intervals that counted against nobody, because this node looked for the replies too late.
    pub late: u64,
    /// Verdicts that a peer is silent, while others answered.
    pub verdicts: u64,
}

/// The requests to all peers of one node. One tick is one request to each of them.
#[derive(Clone, Debug)]
pub struct Prober {
    timing: Timing,
    peers: BTreeMap<String, Peer>,
    /// The number of the last tick; the first is 1.
    tick: u64,
    /// When the requests of the last tick left, until their replies were looked for.
    sent: Option<Instant>,
    next_tick: Option<Instant>,
    /// Number of ticks in a row that no known peer answered.
    unanswered: u32,
    transmits: VecDeque<EchoRequest>,
    counters: Counters,
}

impl Prober {
    #[allow(missing_docs)]
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            peers: BTreeMap::new(),
            tick: 0,
            sent: None,
            next_tick: None,
            unanswered: 0,
            transmits: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Replaces the peers: names and addresses. Peers with the same address keep their state.
    pub fn set_peers(&mut self, now: Instant, peers: &BTreeMap<String, IpAddr>) {
        self.peers.retain(|name, peer| peers.get(name) == Some(&peer.address));
        for (name, address) in peers {
            self.peers.entry(name.clone()).or_insert_with(|| Peer::new(*address));
        }
        self.transmits.retain(|request| self.peers.values().any(|peer| peer.address == request.to));
        self.next_tick = (!self.peers.is_empty()).then(|| self.next_tick.unwrap_or(now));
        if self.peers.is_empty() {
            self.sent = None;
        }
    }

    /// Notes that the process on this node has answered although its kernel does not answer: it drops echo
    /// requests. Until it answers one, its silence means nothing.
    pub fn refute(&mut self, name: &str) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.forget();
        }
    }

    /// Handles the reply to a request of `tick` that arrived at this time.
    pub fn handle_reply(&mut self, arrived: Instant, from: IpAddr, tick: u64) {
        if tick > self.tick {
            return;
        }
        let is_only = self.peers.len() == 1;
        let peers = self.peers.values_mut().filter(|peer| peer.address == from);
        peers.for_each(|peer| peer.handle_reply(arrived, tick, is_only));
    }

    /// Notes that the requests of [`Self::poll_transmit`] have left.
    pub fn handle_sent(&mut self, now: Instant) {
        self.sent = self.sent.map(|sent| sent.max(now));
    }

    /// Notes that a request could not be sent.
    pub fn handle_unsent(&mut self, request: EchoRequest) {
        let peers = self.peers.values_mut().filter(|peer| peer.address == request.to);
        peers.for_each(|peer| peer.unsent = Some(request.tick));
    }

    /// Looks for missing replies and begins the next tick, as they are due. Every reply that arrived before
    /// `now` must have been handled.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(sent) = self.sent
            && now >= sent + self.patience()
        {
            self.sent = None;
            // A reply that should have arrived while this node did not run may be lost for the same reason.
            if now > sent + self.patience() + self.tolerance() {
                self.counters.late += 1;
            } else {
                self.examine(now, sent);
            }
        }
        if self.sent.is_none() && self.next_tick.is_some_and(|due| due <= now) {
            self.tick += 1;
            self.sent = Some(now);
            let interval = self.interval();
            // Late ticks are not made up for.
            self.next_tick = self.next_tick.map(|due| (due + interval).max(now + self.patience()));
            for peer in self.peers.values_mut() {
                if peer.is_absent(now) && !self.tick.is_multiple_of(ABSENT_TICKS) {
                    peer.unsent = Some(self.tick);
                    continue;
                }
                self.transmits.push_back(EchoRequest { to: peer.address, tick: self.tick });
                self.counters.sent += 1;
            }
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; `None` without peers.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sent.map(|sent| sent + self.patience()).or(self.next_tick)
    }

    /// Returns the next request to send. Call until `None` after every [`Self::handle_timeout`].
    pub fn poll_transmit(&mut self) -> Option<EchoRequest> {
        self.transmits.pop_front()
    }

    /// Returns the peers that have answered before and do not answer now.
    pub fn silences(&self) -> impl Iterator<Item = (&str, Silence)> {
        self.peers.iter().filter_map(|(name, peer)| Some((name.as_str(), peer.silence()?)))
    }

    /// Returns the number of peers that have answered: only their silence can be detected.
    #[must_use]
    pub fn known(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_known).count()
    }

    #[allow(missing_docs)]
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Looks for the replies of the last tick, whose requests left at `sent`.
    fn examine(&mut self, now: Instant, sent: Instant) {
        let tick = self.tick;
        let answered = self.peers.values().any(|peer| peer.answered == tick);
        if answered && self.unanswered >= ISOLATED_TICKS {
            self.peers.values_mut().for_each(Peer::begin_anew);
        }
        let mut examined = false;
        for peer in self.peers.values_mut().filter(|peer| peer.is_known && peer.unsent != Some(tick)) {
            examined = true;
            if peer.answered < tick {
                peer.handle_miss(sent, answered);
                self.counters.missed += 1;
            }
        }
        match (answered, examined) {
            (true, _) => self.unanswered = 0,
            (false, true) => self.unanswered = self.unanswered.saturating_add(1),
            (false, false) => {}
        }
        for peer in self.peers.values_mut() {
            let witnessed = |peer: &Peer| peer.silence().is_some_and(|silence| silence.witnessed);
            let before = witnessed(peer);
            peer.decide(now, self.timing.misses, self.unanswered);
            self.counters.verdicts += u64::from(!before && witnessed(peer));
        }
    }

    fn interval(&self) -> Duration {
        let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        self.timing.interval.max(Duration::from_secs(1) * peers / MAX_RATE)
    }

    /// Time to wait for a reply. A kernel answers within a millisecond, also on a busy node.
    fn patience(&self) -> Duration {
        self.interval() * 3 / 5
    }

    /// Lateness that does not matter.
    fn tolerance(&self) -> Duration {
        self.interval() / 4
    }
}
