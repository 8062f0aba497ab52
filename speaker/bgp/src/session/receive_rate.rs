//! The rate at which a peer sends, and the pause in reading that limits it.

use std::time::{Duration, Instant};

/// Messages per second that the session reads from a peer, averaged over `WINDOW`. The full table of the
/// Internet, which has no use here, is read within a minute.
pub const MAX_MESSAGES_PER_SECOND: u32 = 10_000;
/// Octets per second that the session reads from a peer, averaged over `WINDOW`.
pub const MAX_OCTETS_PER_SECOND: u32 = 1024 * 1024;
/// Time over which the rates are averaged: a peer may send this much at once.
const WINDOW: Duration = Duration::from_secs(4);

/// Measures what a peer sends, as a leaky bucket: each input fills it by the time for which a peer at the
/// maximum rate would have sent it, and time drains it.
#[derive(Debug, Default)]
pub(super) struct ReceiveRate {
    /// When the bucket is empty.
    empty_at: Option<Instant>,
    /// True from the moment the bucket is full until it is empty.
    exceeded: bool,
}

impl ReceiveRate {
    /// Counts an input that was read.
    pub(super) fn handle_received(&mut self, now: Instant, octets: usize, messages: u64) {
        let share = |amount: u64, per_second: u32| {
            Duration::from_nanos(amount.saturating_mul(1_000_000_000) / u64::from(per_second))
        };
        let octets = share(octets as u64, MAX_OCTETS_PER_SECOND);
        let fill = octets.max(share(messages, MAX_MESSAGES_PER_SECOND));
        let empty_at = self.empty_at.map_or(now, |at| at.max(now)) + fill;
        self.empty_at = Some(empty_at);
        self.exceeded |= empty_at.saturating_duration_since(now) > WINDOW;
    }

    /// Returns when the session may read again; `None` if it may read at any time. The pause is shorter than
    /// the time for which the last input filled the bucket.
    pub(super) fn read_after(&self) -> Option<Instant> {
        self.empty_at.filter(|_| self.exceeded).and_then(|at| at.checked_sub(WINDOW))
    }

    /// Returns whether the peer exceeded the rate, and has not stayed below it for about [`WINDOW`] since.
    pub(super) const fn exceeded(&self) -> bool {
        self.exceeded
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.empty_at.filter(|_| self.exceeded)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.empty_at.is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of a KEEPALIVE.
    const KEEPALIVE: usize = 19;
    /// Most octets that a shell reads at once.
    const TURN: usize = 64 * 1024;

    /// Sends `messages` messages of `octets` octets every `interval` for a minute of simulated time, and
    /// reads as soon as that is permitted. Returns what was read per second after the first window, and the
    /// longest pause.
    fn read_in_a_minute(octets: usize, messages: u32, interval: Duration) -> (f64, f64, Duration) {
        let start = Instant::now();
        let end = start + Duration::from_secs(60);
        let (mut rate, mut now) = (ReceiveRate::default(), start);
        let (mut read_messages, mut read_octets, mut longest) = (0.0, 0.0, Duration::ZERO);
        while now < end {
            rate.handle_received(now, octets * messages as usize, messages.into());
            if now >= start + 2 * WINDOW {
                read_messages += f64::from(messages);
                read_octets += (octets * messages as usize) as f64;
            }
            let next = (now + interval).max(rate.read_after().unwrap_or(now));
            longest = longest.max(next - now);
            now = next;
        }
        let seconds = (end - start - 2 * WINDOW).as_secs_f64();
        (read_messages / seconds, read_octets / seconds, longest)
    }

    #[test]
    fn flood_is_read_at_maximum_rate() {
        let instant = Duration::from_nanos(1);
        let turn = u32::try_from(TURN / KEEPALIVE).unwrap();
        let (messages, _, longest) = read_in_a_minute(KEEPALIVE, turn, instant);
        assert!((9_000.0..11_000.0).contains(&messages), "{messages} KEEPALIVEs per second");
        // Shorter than any hold time: a KEEPALIVE behind the flood is read in time.
        assert!(longest < Duration::from_millis(400), "{longest:?}");
        let (_, octets, longest) = read_in_a_minute(4096, 16, instant);
        assert!((1.0e6..1.1e6).contains(&octets), "{octets} octets of UPDATEs per second");
        assert!(longest < Duration::from_millis(100), "{longest:?}");
    }

    #[test]
    fn peer_below_the_rate_is_never_paused() {
        for (octets, messages, interval) in [(19, 1, 1_000), (4096, 250, 1_000), (60, 9_900, 1_000)] {
            let interval = Duration::from_millis(interval);
            assert_eq!(read_in_a_minute(octets, messages, interval).2, interval, "{messages} of {octets}");
        }
    }

    #[test]
    fn burst_of_a_window_is_read_at_once() {
        let (mut rate, now) = (ReceiveRate::default(), Instant::now());
        rate.handle_received(now, KEEPALIVE * 40_000, 40_000);
        assert_eq!((rate.read_after(), rate.exceeded(), rate.poll_timeout()), (None, false, None));
        rate.handle_received(now, KEEPALIVE * 1_000, 1_000);
        assert_eq!(rate.read_after(), Some(now + Duration::from_millis(100)));
        assert!(rate.exceeded());
    }

    #[test]
    fn peer_is_named_until_the_bucket_is_empty() {
        let (mut rate, start) = (ReceiveRate::default(), Instant::now());
        rate.handle_received(start, 0, 50_000);
        let empty = rate.poll_timeout().unwrap();
        assert_eq!(empty, start + Duration::from_secs(5));
        rate.handle_timeout(empty - Duration::from_millis(1));
        assert!(rate.exceeded());
        rate.handle_timeout(empty);
        assert_eq!((rate.exceeded(), rate.read_after(), rate.poll_timeout()), (false, None, None));
    }
}
