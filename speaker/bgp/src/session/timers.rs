//! The session's timers (RFC 4271 §8 and §10) and the dice that spread them.

use std::time::{Duration, Instant};

/// A timer of the FSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// ConnectRetryTimer: the wait for the next attempt in Active, the patience with the attempt in Connect.
    ConnectRetry,
    /// IdleHoldTimer: the wait in Idle after an error.
    IdleHold,
    /// HoldTimer
    Hold,
    /// KeepaliveTimer
    Keepalive,
    /// SendHoldTimer (RFC 9687)
    SendHold,
    /// The time that the peer has to read the withdrawals of a session that is being stopped.
    Withdraw,
}

impl Timer {
    const ALL: [Self; 6] =
        [Self::ConnectRetry, Self::IdleHold, Self::Hold, Self::Keepalive, Self::SendHold, Self::Withdraw];
}

/// When each timer expires, if it runs.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    /// Starts or restarts a timer. A zero duration stops it: that is how BGP says "no such timer".
    pub(super) fn start(&mut self, timer: Timer, now: Instant, after: Duration) {
        self.0[timer as usize] = if after.is_zero() { None } else { now.checked_add(after) };
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes the timer that expired first.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let expired = |timer: &Timer| self.0[*timer as usize].filter(|at| *at <= now);
        let timer = Timer::ALL.into_iter().filter(|t| expired(t).is_some()).min_by_key(expired)?;
        self.stop(timer);
        Some(timer)
    }
}

/// A small generator of pseudo-random numbers (splitmix64): jitter must not repeat between sessions, no more.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A random share of a duration, 0.75 to 1.0 of it (RFC 4271 §10).
    pub(super) fn jitter(&mut self, duration: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let share = 768 + u32::try_from(z % 257).unwrap_or(0);
        duration / 1024 * share
    }
}
