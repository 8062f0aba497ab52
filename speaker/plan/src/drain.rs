//! The drain of this node: its traffic moves to other nodes before it is taken out of service.
//!
//! L2 addresses move at once, because a drained node is no candidate in elections, and their handover is
//! planned. Routes move in phases:
//!
//! ```text
//!                cause                 wait over                SETTLE over
//!   Serving ────────────▶ Deprioritized ─────────▶ Withdrawn ──────────────▶ Drained
//!      ▲                        │                      │                        │
//!      └────────────────────────┴──────────────────────┴────────────────────────┘
//!                                     no cause
//! ```
//!
//! In Deprioritized, the routes ask the peers to prefer other paths (RFC 8326). A node that is drained when
//! its speaker starts has announced nothing: it begins in Withdrawn.

use std::time::{Duration, Instant};

/// Time from the withdrawal of the routes until the node counts as drained. Meanwhile the routers apply the
/// withdrawals, and packets in flight arrive.
const SETTLE: Duration = Duration::from_secs(1);

/// The phase of the drain of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// The node is not being drained.
    #[default]
    Serving,
    /// The routes ask the peers to prefer other paths.
    Deprioritized,
    /// The routes are withdrawn.
    Withdrawn,
    /// No traffic comes to the node because of its announcements.
    Drained,
}

/// The drain of this node.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Duration of Deprioritized.
    wait: Duration,
    phase: DrainPhase,
    /// When the next phase begins.
    next_at: Option<Instant>,
    /// True once the node has been seen without a cause: it may have announced something.
    has_served: bool,
}

impl Drain {
    pub(crate) fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    pub(crate) const fn phase(&self) -> DrainPhase {
        self.phase
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Handles whether the node is being drained, and the time. Returns true if the phase changed. Without a
    /// time, no phase lasts.
    pub(crate) fn update(&mut self, now: Option<Instant>, is_draining: bool) -> bool {
        let before = self.phase;
        match (is_draining, self.phase) {
            (false, _) => {
                self.has_served = true;
                self.phase = DrainPhase::Serving;
                self.next_at = None;
            }
            (true, DrainPhase::Serving) if self.has_served => {
                self.enter(DrainPhase::Deprioritized, now, self.wait);
            }
            (true, DrainPhase::Serving) => self.enter(DrainPhase::Withdrawn, now, SETTLE),
            (true, _) => {}
        }
        while self.phase != DrainPhase::Serving
            && self.next_at.is_none_or(|at| now.is_none_or(|now| at <= now))
        {
            match self.phase {
                DrainPhase::Deprioritized => self.enter(DrainPhase::Withdrawn, now, SETTLE),
                DrainPhase::Withdrawn => self.enter(DrainPhase::Drained, None, Duration::ZERO),
                DrainPhase::Serving | DrainPhase::Drained => break,
            }
        }
        self.phase != before
    }

    fn enter(&mut self, phase: DrainPhase, now: Option<Instant>, lasts: Duration) {
        self.phase = phase;
        self.next_at = now.map(|now| now + lasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phases of a drain with a wait of 2 s: at each time in milliseconds, whether there is a cause, and
    /// the phase after it.
    fn check(steps: &[(u64, bool, DrainPhase)]) {
        let start = Instant::now();
        let mut drain = Drain::default();
        drain.set_wait(Duration::from_secs(2));
        for (at, is_draining, expected) in steps {
            let before = drain.phase();
            let changed = drain.update(Some(start + Duration::from_millis(*at)), *is_draining);
            assert_eq!((drain.phase(), changed), (*expected, before != *expected), "at {at} ms");
        }
    }

    #[test]
    fn routes_are_deprioritized_then_withdrawn_then_settled() {
        use DrainPhase::{Deprioritized, Drained, Serving, Withdrawn};
        check(&[
            (0, false, Serving),
            (100, true, Deprioritized),
            (2_099, true, Deprioritized),
            (2_100, true, Withdrawn),
            (3_099, true, Withdrawn),
            (3_100, true, Drained),
            (90_000, true, Drained),
            (90_001, false, Serving),
            (90_002, true, Deprioritized),
            (90_003, false, Serving),
            (90_004, true, Deprioritized),
            (92_003, true, Deprioritized),
            (92_004, true, Withdrawn),
        ]);
    }

    #[test]
    fn drained_node_that_starts_announces_nothing() {
        use DrainPhase::{Drained, Serving, Withdrawn};
        check(&[(0, true, Withdrawn), (1_000, true, Drained), (1_001, false, Serving)]);
    }

    #[test]
    fn timeout_is_that_of_the_phase() {
        let start = Instant::now();
        let mut drain = Drain::default();
        drain.set_wait(Duration::from_secs(2));
        drain.update(Some(start), false);
        assert_eq!(drain.poll_timeout(), None);
        drain.update(Some(start), true);
        assert_eq!(drain.poll_timeout(), Some(start + Duration::from_secs(2)));
        drain.update(Some(start + Duration::from_secs(2)), true);
        assert_eq!(drain.poll_timeout(), Some(start + Duration::from_secs(3)));
        drain.update(Some(start + Duration::from_secs(3)), true);
        assert_eq!((drain.phase(), drain.poll_timeout()), (DrainPhase::Drained, None));
    }
}
