//! How many writes to have in flight: as many as the API server works on at once, and a few more that wait there.
//!
//! It looks at rounds: about as many answers as there may be in flight, to writes that were all sent under the same
//! size. While the latency of a round stays near the lowest, what is in flight is worked on, and more of it brings more
//! throughput. Once the latency grows with the size, the rest only waits: the share of the lowest latency in the present
//! one is the share of the writes that are worked on. The lowest latency is measured anew from time to time, with fewer
//! writes in flight: an API server may become slower by itself.

#[cfg(test)]
mod tests;

use std::time::Instant;

/// Bounds of the size while the API server answers.
const LEAST: f64 = 4.0;
const MOST: f64 = 256.0;
/// A round has at least this many answers: a single one says little.
const ANSWERS: u32 = 16;
/// At the start the size doubles with each round whose latency is below this multiple of the lowest.
const NEAR: f64 = 1.25;
/// Rounds after which the lowest latency is measured anew.
const ROUNDS: u32 = 50;
/// Latency that falls below this share as the size is halved was made by waiting.
const FALLS: f64 = 0.75;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Window {
    size: f64,
    phase: Phase,
    /// Seconds; the lowest of any round since it was last measured.
    lowest: Option<f64>,
    /// The largest size, and the rounds, since then.
    largest: f64,
    rounds: u32,
    round: Round,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The API server was away: one more with each answer, up to half of what it was before.
    Returning { up_to: f64 },
    /// Doubles until something waits.
    Starting,
    /// Follows the latency.
    Steady,
    /// Halves while the latency falls with it, then goes back.
    Measuring { before: f64, back_to: f64 },
}

/// The answers of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Only writes that were sent from then on count.
    began: Option<Instant>,
    latencies: f64,
    answers: u32,
    /// How many of them came while everything that is allowed was in flight.
    full: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: LEAST,
            phase: Phase::Starting,
            lowest: None,
            largest: LEAST,
            rounds: 0,
            round: Round::default(),
        }
    }
}

impl Window {
    /// How many may be in flight.
    pub fn size(&self) -> usize {
        // Between 1 and the bound above, so nothing is lost.
        self.size as usize
    }

    /// Whether one write at a time asks if the API server is back.
    pub fn is_asking(&self) -> bool {
        self.size() == 1
    }

    /// A write was answered. `full`: until then as many were in flight as may be.
    pub fn answered(&mut self, sent: Instant, now: Instant, full: bool) {
        if let Phase::Returning { up_to } = self.phase {
            self.size = (self.size + 1.0).min(MOST);
            if self.size >= up_to {
                self.enter(Phase::Steady, now);
            }
            return;
        }
        let began = *self.round.began.get_or_insert(sent);
        if sent < began {
            return;
        }
        self.round.latencies += now.saturating_duration_since(sent).as_secs_f64();
        self.round.answers += 1;
        self.round.full += u32::from(full);
        if self.round.answers >= ANSWERS.max(self.size as u32) {
            self.round_is_over(now);
        }
    }

    /// The API server did not answer, or has too much to do: one write at a time, until one is answered.
    pub fn unavailable(&mut self) {
        let before = match self.phase {
            Phase::Returning { up_to } => up_to,
            Phase::Measuring { back_to, .. } => back_to / 2.0,
            Phase::Starting | Phase::Steady => self.size / 2.0,
        };
        self.phase = Phase::Returning { up_to: before.max(LEAST) };
        self.size = 1.0;
        self.round = Round::default();
    }

    fn round_is_over(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round { began: Some(now), ..Round::default() });
        // Times of less than a microsecond do not happen; the floor keeps divisions sane.
        let latency = (round.latencies / f64::from(round.answers)).max(1e-6);
        let lowest = self.lowest.map_or(latency, |lowest| lowest.min(latency));
        self.lowest = Some(lowest);
        self.rounds += 1;
        // Without demand nothing is learned about more, and there is no need for it.
        let limited = round.full * 2 >= round.answers;
        match self.phase {
            Phase::Returning { .. } => {}
            Phase::Measuring { before, back_to } => self.measure(latency, before, back_to),
            _ if !limited => {}
            Phase::Starting if latency <= NEAR * lowest => self.size = (self.size * 2.0).min(MOST),
            Phase::Starting | Phase::Steady => {
                self.phase = Phase::Steady;
                let wanted = self.size * lowest / latency + spare(self.size);
                self.size = f64::midpoint(self.size, wanted).clamp(LEAST, MOST);
                self.largest = self.largest.max(self.size);
                if self.rounds >= ROUNDS || self.size < self.largest / 2.0 {
                    self.phase = Phase::Measuring { before: latency, back_to: self.size };
                    self.size = (self.size / 2.0).max(LEAST);
                }
            }
        }
    }

    /// A round with half as many in flight as the one before, whose latency was `before`.
    fn measure(&mut self, latency: f64, before: f64, back_to: f64) {
        if latency < FALLS * before && self.size > LEAST {
            self.phase = Phase::Measuring { before: latency, back_to };
            self.size = (self.size / 2.0).max(LEAST);
            return;
        }
        self.lowest = Some(latency.min(before));
        self.size = back_to;
        self.largest = back_to;
        self.rounds = 0;
        self.phase = Phase::Steady;
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.round = Round { began: Some(now), ..Round::default() };
    }
}

/// How many may wait at the API server, so that it never waits for us, and so that what it does for many at once (a
/// transaction of its store, a wake-up) is done for many.
fn spare(size: f64) -> f64 {
    16.0 + size / 8.0
}
