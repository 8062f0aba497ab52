//! The largest number of writes in flight that the API server has admitted.
//!
//! Priority and fairness may admit fewer requests at a time than latency suggests, one in the extreme, and
//! reject the others with status 429. The number of writes that were in flight besides a rejected one is what
//! was admitted. More are tried after a number of responses that doubles each time they are rejected, because
//! each rejection pauses all writes.

/// Number of responses after which more writes are tried: at first, and at most.
const PATIENCE: (u32, u32) = (64, 4096);

/// A bound of the size of the window.
#[derive(Clone, Debug)]
pub(super) struct Ceiling {
    /// `None` before the first rejection.
    limit: Option<usize>,
    /// Responses since the limit was set or raised.
    responses: u32,
    /// Responses after which the limit is raised.
    patience: u32,
    /// The limit was raised since the last rejection.
    is_raised: bool,
}

impl Ceiling {
    /// Returns the size within the bound.
    pub(super) fn bound(&self, size: usize) -> usize {
        self.limit.map_or(size, |limit| size.min(limit))
    }

    /// Handles the response to a write that the API server admitted. `limited` is true if the window was
    /// full.
    pub(super) fn handle_response(&mut self, limited: bool) {
        let Some(limit) = self.limit.filter(|_| limited) else { return };
        self.responses += 1;
        if self.responses >= self.patience {
            self.responses = 0;
            self.limit = Some(limit + (limit / 4).max(1));
            if self.is_raised {
                // The API server admits more than before.
                self.patience = PATIENCE.0;
            }
            self.is_raised = true;
        }
    }

    /// Handles the rejection of a write while `others` were in flight.
    pub(super) fn handle_rejection(&mut self, others: usize) {
        if std::mem::take(&mut self.is_raised) {
            self.patience = (self.patience * 2).min(PATIENCE.1);
        }
        self.responses = 0;
        self.limit = Some(self.bound(others).max(1));
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        Self { limit: None, responses: 0, patience: PATIENCE.0, is_raised: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_what_was_admitted() {
        let mut ceiling = Ceiling::default();
        assert_eq!(ceiling.bound(256), 256);
        // 10 of 40 writes are admitted; the others are rejected one after the other.
        (10..40).rev().for_each(|others| ceiling.handle_rejection(others));
        assert_eq!((ceiling.bound(256), ceiling.bound(3)), (10, 3));
        ceiling.handle_rejection(0);
        assert_eq!(ceiling.bound(256), 1, "one write is always allowed");
    }

    #[test]
    fn limit_is_raised_less_often_after_each_rejection() {
        let mut ceiling = Ceiling::default();
        ceiling.handle_rejection(1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let mut responses = 0;
            while ceiling.bound(256) == 1 {
                ceiling.handle_response(true);
                responses += 1;
            }
            waits.push(responses);
            ceiling.handle_rejection(1);
        }
        assert_eq!(waits, [64, 128, 256, 512, 1024, 2048, 4096, 4096]);
        for _ in 0..20_000 {
            ceiling.handle_response(true);
        }
        assert!(ceiling.bound(256) > 100, "{ceiling:?}: it is raised while nothing is rejected");
    }
}
