//! The number of writes in flight: as many as the API server processes concurrently, and a few more that
//! queue there.
//!
//! The window adjusts once per round: about as many responses as writes may be in flight, all to writes that
//! were sent with the same window size. While the latency stays near its minimum, the API server processes
//! everything that is in flight, and a larger window increases the throughput. Once latency grows with the
//! window, the additional writes only queue: minimum latency divided by current latency is the share of
//! writes that are being processed (as in TCP Vegas). The minimum is measured again from time to time with
//! fewer writes in flight, since the API server may become slower for other reasons.

mod ceiling;
#[cfg(test)]
mod tests;

use std::time::Instant;

use ceiling::Ceiling;

/// Bounds of the size while the API server responds.
const MIN_SIZE: f64 = 4.0;
const MAX_SIZE: f64 = 256.0;
/// Minimum number of responses in a round, so that one outlier does not decide.
const MIN_ROUND_RESPONSES: u32 = 16;
/// In slow start, the size doubles after each round whose latency is below this multiple of the minimum.
const SLOW_START_LATENCY: f64 = 1.25;
/// Rounds after which the minimum latency is measured again.
const ROUNDS_PER_MINIMUM: u32 = 50;
/// If halving the size reduces latency below this share, the latency was caused by queuing.
const QUEUING_LATENCY: f64 = 0.75;

/// The number of writes that may be in flight, adjusted to the capacity of the API server.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    size: f64,
    phase: Phase,
    /// Minimum latency of a round since it was last measured, in seconds.
    min_latency: Option<f64>,
    /// Largest size since then.
    largest: f64,
    /// Number of rounds since then.
    rounds: u32,
    round: Round,
    ceiling: Ceiling,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// After an outage: grows by one with each response, up to half the size before the outage.
    Recovery { up_to: f64 },
    /// Doubles until writes queue.
    SlowStart,
    /// Follows the latency.
    Steady,
    /// Halves the size while latency falls with it, then restores `restore`.
    MeasureMinimum { previous_latency: f64, restore: f64 },
}

/// The responses of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Only writes sent from then on count.
    began: Option<Instant>,
    /// Sum of the latencies, in seconds.
    latencies: f64,
    responses: u32,
    /// Responses that arrived while the window limited the number of writes in flight.
    limited: u32,
}

impl Window {
    /// Returns how many writes may be in flight.
    pub(crate) fn size(&self) -> usize {
        // Between 1 and MAX_SIZE, so the conversion is lossless up to the fraction.
        self.ceiling.bound(self.size as usize)
    }

    /// Returns whether a single write probes an API server that was unavailable.
    pub(crate) fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Recovery { .. }) && self.size < 2.0
    }

    /// Handles the response to a write. `limited` is true if the window was full or writes were waiting for
    /// it.
    pub(crate) fn handle_response(&mut self, sent: Instant, now: Instant, limited: bool) {
        self.ceiling.handle_response(limited);
        if let Phase::Recovery { up_to } = self.phase {
            self.size = (self.size + 1.0).min(MAX_SIZE);
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
        self.round.responses += 1;
        self.round.limited += u32::from(limited);
        if self.round.responses >= MIN_ROUND_RESPONSES.max(self.size as u32) {
            self.end_round(now);
        }
    }

    /// Handles an answer that contains no information about the capacity of the API server, except that it
    /// responds.
    pub(crate) fn handle_refusal(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Recovery { .. }) {
            self.handle_response(now, now, false);
        }
    }

    /// Handles that the API server rejected a write because of its load while `others` were in flight: limits
    /// the size to what it admitted. See [`Self::handle_unavailable`] for the rest.
    pub(crate) fn handle_overload(&mut self, others: usize) {
        self.ceiling.handle_rejection(others);
    }

    /// Reduces the size to one write, until the API server responds again.
    pub(crate) fn handle_unavailable(&mut self) {
        let before = match self.phase {
            Phase::Recovery { up_to } => up_to,
            Phase::MeasureMinimum { restore, .. } => restore / 2.0,
            Phase::SlowStart | Phase::Steady => self.size / 2.0,
        };
        self.phase = Phase::Recovery { up_to: before.max(MIN_SIZE) };
        self.size = 1.0;
        self.round = Round::default();
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round { began: Some(now), ..Round::default() });
        // The floor of 1 µs avoids division by zero.
        let latency = (round.latencies / f64::from(round.responses)).max(1e-6);
        let min_latency = self.min_latency.map_or(latency, |lowest| lowest.min(latency));
        self.min_latency = Some(min_latency);
        self.rounds += 1;
        // A round that the window did not limit contains no information about a larger one.
        let limited = round.limited * 2 >= round.responses;
        match self.phase {
            Phase::Recovery { .. } => {}
            Phase::MeasureMinimum { previous_latency, restore } => {
                self.measure_minimum(latency, previous_latency, restore);
            }
            _ if !limited => {}
            Phase::SlowStart if latency <= SLOW_START_LATENCY * min_latency => {
                self.size = (self.size * 2.0).min(MAX_SIZE);
            }
            Phase::SlowStart | Phase::Steady => {
                self.phase = Phase::Steady;
                let wanted = self.size * min_latency / latency + queue_target(self.size);
                self.size = f64::midpoint(self.size, wanted).clamp(MIN_SIZE, MAX_SIZE);
                self.largest = self.largest.max(self.size);
                if self.rounds >= ROUNDS_PER_MINIMUM || self.size < self.largest / 2.0 {
                    self.phase = Phase::MeasureMinimum { previous_latency: latency, restore: self.size };
                    self.size = (self.size / 2.0).max(MIN_SIZE);
                }
            }
        }
    }

    /// Ends a round with half the size of the round before.
    fn measure_minimum(&mut self, latency: f64, previous_latency: f64, restore: f64) {
        if latency < QUEUING_LATENCY * previous_latency && self.size > MIN_SIZE {
            self.phase = Phase::MeasureMinimum { previous_latency: latency, restore };
            self.size = (self.size / 2.0).max(MIN_SIZE);
            return;
        }
        self.min_latency = Some(latency.min(previous_latency));
        self.size = restore;
        self.largest = restore;
        self.rounds = 0;
        self.phase = Phase::Steady;
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.round = Round { began: Some(now), ..Round::default() };
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: MIN_SIZE,
            phase: Phase::SlowStart,
            min_latency: None,
            largest: MIN_SIZE,
            rounds: 0,
            round: Round::default(),
            ceiling: Ceiling::default(),
        }
    }
}

/// Returns how many writes may queue at the API server: enough that it is never idle, and that work it does
/// for many writes at once (a transaction of its store, a wake-up) is shared by many.
fn queue_target(size: f64) -> f64 {
    16.0 + size / 8.0
}
