//! The arrival time of a datagram on the monotonic clock.
//!
//! The kernel stamps datagrams with the wall clock only. Their age is the difference to the wall clock when
//! they are read, which is wrong if the wall clock was set in between. So the result is limited to the time
//! in which the datagram can have arrived: after the queue of the socket was last seen empty.

use std::time::{Duration, Instant, SystemTime};

/// Both clocks at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub monotonic: Instant,
    /// Since the epoch.
    pub wall: Duration,
}

impl Clocks {
    pub(super) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Instant::now(), wall }
    }
}

/// Returns the arrival time of a datagram that the kernel stamped with `stamp` by the wall clock, and that
/// was read at `now`. `empty` is a time at which the datagram had not arrived.
pub(super) fn arrival(stamp: Option<Duration>, now: Clocks, empty: Instant) -> Instant {
    // A stamp in the future: the wall clock was set back.
    let age = stamp.and_then(|stamp| now.wall.checked_sub(stamp)).unwrap_or_default();
    now.monotonic.checked_sub(age).map_or(empty, |arrived| arrived.max(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn arrival_is_between_empty_queue_and_reading() {
        let empty = Instant::now();
        let read = empty + 100 * MS;
        let wall = Duration::from_secs(1_700_000_000);
        let now = Clocks { monotonic: read, wall };
        for (name, stamp, expected) in [
            ("stamped 30 ms ago", Some(wall - 30 * MS), read - 30 * MS),
            ("stamped now", Some(wall), read),
            ("no stamp", None, read),
            ("wall clock set forward by an hour", Some(wall - 3600 * 1000 * MS), empty),
            ("wall clock set back by an hour", Some(wall + 3600 * 1000 * MS), read),
            ("wall clock never set", Some(Duration::ZERO), empty),
        ] {
            assert_eq!(arrival(stamp, now, empty), expected, "{name}");
        }
    }
}
