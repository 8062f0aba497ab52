//! The pace of events: how many are in flight, when to pause, and which failed events are retried. A value
//! without I/O.

use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::request::Failure;
use kube::Error;

/// Events in flight: far fewer than status writes, so that events do not slow them down.
const MAX_IN_FLIGHT: usize = 8;
/// First and longest pause after the API server did not accept an event.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// An event is dropped after this many errors, as in client-go (`maxTriesPerEvent`): the event itself may be
/// the cause, and others wait behind it.
const MAX_ERRORS: u32 = 12;

/// Paces events.
#[derive(Debug)]
pub(super) struct EventPacer {
    backoff: Backoff,
    failing: bool,
    paused_until: Option<Instant>,
}

/// The result of sending an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventResult {
    /// The API server stored the event.
    Sent,
    /// The API server rejected the event; a retry would not help.
    Rejected,
    /// The API server returned an error. Carries its `Retry-After`, if it sent one.
    Failed(Option<Duration>),
    /// There was no response, or the API server is overloaded. Carries its `Retry-After`, if it sent one.
    Unavailable(Option<Duration>),
}

impl EventPacer {
    /// Returns whether one more event may be sent while `in_flight` are in flight. After a failure one event
    /// probes.
    pub(super) fn may_send(&self, now: Instant, in_flight: usize) -> bool {
        self.poll_timeout(now).is_none() && in_flight < if self.failing { 1 } else { MAX_IN_FLIGHT }
    }

    /// Returns the end of the current pause, if there is one.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Handles the result of an event that had `errors` errors before, and counts one more. `random` is
    /// between 0 and 1. Returns whether to send the event again.
    pub(super) fn handle_result(
        &mut self,
        now: Instant,
        result: EventResult,
        errors: &mut u32,
        random: f64,
    ) -> bool {
        let wait = match result {
            EventResult::Sent | EventResult::Rejected => {
                self.backoff.succeed();
                self.failing = false;
                return false;
            }
            EventResult::Failed(wait) => {
                *errors += 1;
                wait
            }
            EventResult::Unavailable(wait) => wait,
        };
        self.failing = true;
        // Events that were in flight together fail together: they count as one failure and cause one pause.
        let pause = self.poll_timeout(now).unwrap_or_else(|| now + self.backoff.fail(random));
        self.paused_until = Some(pause.max(now + wait.unwrap_or_default()));
        *errors < MAX_ERRORS
    }
}

impl Default for EventPacer {
    fn default() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1), failing: false, paused_until: None }
    }
}

impl EventResult {
    pub(super) fn of(failure: &Failure) -> Self {
        let wait = failure.retry_after;
        match &failure.error {
            Error::Api(status) => match status.code {
                429 | 503 | 504 => Self::Unavailable(wait),
                500.. => Self::Failed(wait),
                // An earlier attempt succeeded, but its response was lost.
                409 => Self::Sent,
                _ => Self::Rejected,
            },
            // The response was a success that is no Event object.
            Error::SerdeError(_) => Self::Sent,
            _ => Self::Unavailable(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn result(code: u16) -> EventResult {
        EventResult::of(&Error::Api(Box::new(Status { code, ..Status::default() })).into())
    }

    #[test]
    fn status_codes_map_to_event_results() {
        for code in [400, 403, 404, 413, 422] {
            assert_eq!(result(code), EventResult::Rejected, "{code}");
        }
        for code in [429, 503, 504] {
            assert_eq!(result(code), EventResult::Unavailable(None), "{code}");
        }
        assert_eq!(result(500), EventResult::Failed(None));
        assert_eq!(result(409), EventResult::Sent);
        let unreachable = Error::Service("connection refused".into());
        assert_eq!(EventResult::of(&unreachable.into()), EventResult::Unavailable(None));
    }

    #[test]
    fn pauses_grow_once_per_batch_of_failures() {
        let (mut pacer, mut now, mut pauses) = (EventPacer::default(), Instant::now(), Vec::new());
        for _ in 0..9 {
            for _ in 0..MAX_IN_FLIGHT {
                assert!(pacer.handle_result(now, EventResult::Unavailable(None), &mut 0, 1.0));
            }
            let until = pacer.poll_timeout(now).unwrap();
            pauses.push((until - now).as_millis());
            assert!(!pacer.may_send(now, 0));
            now = until;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert!(pacer.may_send(now, 0) && !pacer.may_send(now, 1), "one event probes");
        assert!(!pacer.handle_result(now, EventResult::Sent, &mut 0, 1.0));
        assert!(pacer.may_send(now, MAX_IN_FLIGHT - 1) && !pacer.may_send(now, MAX_IN_FLIGHT));
    }

    #[test]
    fn longest_retry_after_determines_the_pause() {
        let (mut pacer, now) = (EventPacer::default(), Instant::now());
        pacer.handle_result(now, EventResult::Unavailable(Some(Duration::from_secs(8))), &mut 0, 0.0);
        pacer.handle_result(now, EventResult::Unavailable(Some(Duration::from_secs(2))), &mut 0, 0.0);
        assert_eq!(pacer.poll_timeout(now), Some(now + Duration::from_secs(8)));
    }

    #[test]
    fn event_survives_outages_but_not_twelve_errors() {
        let (mut pacer, now, mut errors) = (EventPacer::default(), Instant::now(), 0);
        for _ in 0..1000 {
            assert!(pacer.handle_result(now, EventResult::Unavailable(None), &mut errors, 1.0));
        }
        let tries = (0..1000)
            .take_while(|_| pacer.handle_result(now, EventResult::Failed(None), &mut errors, 1.0))
            .count();
        assert_eq!(tries, 11);
    }
}
