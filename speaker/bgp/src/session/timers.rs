//! Timers of a session (RFC 4271 §8.1.3 and §10) and their jitter.

use std::time::{Duration, Instant};

/// A timer of the FSM; its expiry is an event of RFC 4271 §8.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// ConnectRetryTimer (event 9). In Active it delays the next connection attempt; in Connect it limits the
    /// duration of the attempt.
    ConnectRetry,
    /// IdleHoldTimer (event 13): the back-off in Idle after an error.
    IdleHold,
    /// HoldTimer (event 10).
    Hold,
    /// KeepaliveTimer (event 11).
    Keepalive,
    /// SendHoldTimer (event 29, RFC 9687).
    SendHold,
    /// Limits the time that the peer has to read the withdrawals of a session that is being stopped.
    Withdraw,
    /// Delays the withdrawal of the routes of a session that is being stopped, so that the peer can prefer
    /// other paths first (RFC 8326).
    Drain,
    /// Limits how often the routes are sent again because the peer requests it.
    Refresh,
    /// Delays the report that the peer sends no OPEN.
    OpenOverdue,
    /// Delays the report that the peer of a passive session does not connect.
    Unconnected,
    /// Limits the wait for the OPEN of the peer on the second connection.
    SecondOpen,
    /// Delays the next second connection.
    NextSecond,
}

impl Timer {
    const ALL: [Self; 12] = [
        Self::ConnectRetry,
        Self::IdleHold,
        Self::Hold,
        Self::Keepalive,
        Self::SendHold,
        Self::Withdraw,
        Self::Drain,
        Self::Refresh,
        Self::OpenOverdue,
        Self::Unconnected,
        Self::SecondOpen,
        Self::NextSecond,
    ];
}

/// For each timer the time when it expires; `None` if it is stopped.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    /// Starts or restarts a timer. A zero duration stops it: a hold time of zero disables the timers that
    /// depend on it (RFC 4271 §4.4).
    pub(super) fn start(&mut self, timer: Timer, now: Instant, after: Duration) {
        self.0[timer as usize] = if after.is_zero() { None } else { now.checked_add(after) };
    }

    /// Lets a running timer expire no later than after this duration.
    pub(super) fn shorten(&mut self, timer: Timer, now: Instant, after: Duration) {
        if let (Some(at), Some(latest)) = (&mut self.0[timer as usize], now.checked_add(after)) {
            *at = latest.min(*at);
        }
    }

    pub(super) fn is_running(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
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

    /// Stops and returns the timer that expired first.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let expired = |timer: &Timer| self.0[*timer as usize].filter(|at| *at <= now);
        let timer = Timer::ALL.into_iter().filter(|t| expired(t).is_some()).min_by_key(expired)?;
        self.stop(timer);
        Some(timer)
    }
}

/// Pseudo-random numbers for jitter (splitmix64). Sessions with different seeds spread their timers
/// differently; no stronger property is needed.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns 0.75 to 1.0 times the duration, at random (RFC 4271 §10).
    pub(super) fn apply(&mut self, duration: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let share = 768 + u32::try_from(z % 257).unwrap_or(0);
        duration / 1024 * share
    }
}
