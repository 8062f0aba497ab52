//! When events are sent, and what becomes of one that was not taken. A value: the caller sends and waits.

use std::time::{Duration, Instant};

use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::request::Failure;
use kube::Error;

/// Events on the way at a time: far fewer than writes, so that they never take what writes need.
const MAX_IN_FLIGHT: usize = 8;
/// Pauses after the API server took no event, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// An event that got so many errors of the API server is dropped, as client-go does (`maxTriesPerEvent`): it may be
/// about this one, and others wait behind it.
const MAX_REFUSALS: u32 = 12;

/// How sending an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The API server has it.
    Sent,
    /// The API server does not want it, and never will.
    Refused,
    /// The API server made an error.
    Failed(Option<Duration>),
    /// No answer, or the API server is overloaded; perhaps it said for how long.
    Unavailable(Option<Duration>),
}

impl Outcome {
    pub(super) fn of(failure: &Failure) -> Self {
        let wait = failure.retry_after;
        match &failure.error {
            Error::Api(status) => match status.code {
                429 | 503 | 504 => Self::Unavailable(wait),
                500.. => Self::Failed(wait),
                // It arrived before, and only the answer was lost.
                409 => Self::Sent,
                _ => Self::Refused,
            },
            // An answer that is no Event means that there is one.
            Error::SerdeError(_) => Self::Sent,
            _ => Self::Unavailable(None),
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    failing: bool,
    paused_until: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1), failing: false, paused_until: None }
    }
}

impl Pace {
    /// Whether one more may be sent, `now`, while so many are on the way. After a failure one goes first.
    pub(super) fn may_send(&self, now: Instant, in_flight: usize) -> bool {
        self.paused_until(now).is_none() && in_flight < if self.failing { 1 } else { MAX_IN_FLIGHT }
    }

    /// Until when nothing is sent.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }

    /// How one went, `now`, that was refused so often before; `random` is between 0 and 1. Returns whether it is to be
    /// sent again.
    pub(super) fn done(&mut self, now: Instant, outcome: Outcome, refusals: &mut u32, random: f64) -> bool {
        let wait = match outcome {
            Outcome::Sent | Outcome::Refused => {
                self.backoff.succeed();
                self.failing = false;
                return false;
            }
            Outcome::Failed(wait) => {
                *refusals += 1;
                wait
            }
            Outcome::Unavailable(wait) => wait,
        };
        self.failing = true;
        // Those that were on the way together fail together: one failure, one pause.
        let pause = self.paused_until(now).unwrap_or_else(|| now + self.backoff.fail(random));
        self.paused_until = Some(pause.max(now + wait.unwrap_or_default()));
        *refusals < MAX_REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn outcome(code: u16) -> Outcome {
        Outcome::of(&Error::Api(Box::new(Status { code, ..Status::default() })).into())
    }

    #[test]
    fn what_the_api_server_does_not_want_is_dropped_and_what_it_cannot_take_now_waits() {
        for code in [400, 403, 404, 413, 422] {
            assert_eq!(outcome(code), Outcome::Refused, "{code}");
        }
        for code in [429, 503, 504] {
            assert_eq!(outcome(code), Outcome::Unavailable(None), "{code}");
        }
        assert_eq!(outcome(500), Outcome::Failed(None));
        assert_eq!(outcome(409), Outcome::Sent);
        let away = Error::Service("connection refused".into());
        assert_eq!(Outcome::of(&away.into()), Outcome::Unavailable(None));
    }

    #[test]
    fn pauses_grow_and_those_that_fail_together_are_one_failure() {
        let (mut pace, mut now, mut pauses) = (Pace::default(), Instant::now(), Vec::new());
        for _ in 0..9 {
            for _ in 0..MAX_IN_FLIGHT {
                assert!(pace.done(now, Outcome::Unavailable(None), &mut 0, 1.0));
            }
            let until = pace.paused_until(now).unwrap();
            pauses.push((until - now).as_millis());
            assert!(!pace.may_send(now, 0));
            now = until;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert!(pace.may_send(now, 0) && !pace.may_send(now, 1), "one goes first");
        assert!(!pace.done(now, Outcome::Sent, &mut 0, 1.0));
        assert!(pace.may_send(now, MAX_IN_FLIGHT - 1) && !pace.may_send(now, MAX_IN_FLIGHT));
    }

    #[test]
    fn the_api_server_is_waited_for_as_long_as_it_asks() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.done(now, Outcome::Unavailable(Some(Duration::from_secs(8))), &mut 0, 0.0);
        pace.done(now, Outcome::Unavailable(Some(Duration::from_secs(2))), &mut 0, 0.0);
        assert_eq!(pace.paused_until(now), Some(now + Duration::from_secs(8)));
    }

    #[test]
    fn an_event_waits_through_any_outage_but_not_through_error_after_error() {
        let (mut pace, now, mut refusals) = (Pace::default(), Instant::now(), 0);
        for _ in 0..1000 {
            assert!(pace.done(now, Outcome::Unavailable(None), &mut refusals, 1.0));
        }
        let tries =
            (0..1000).take_while(|_| pace.done(now, Outcome::Failed(None), &mut refusals, 1.0)).count();
        assert_eq!(tries, 11);
    }
}
