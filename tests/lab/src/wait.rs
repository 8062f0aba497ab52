//! Waits for a condition, and reports the last observation if the condition is not met.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Time between two observations.
const INTERVAL: Duration = Duration::from_millis(50);

/// Calls `observe` until it returns `Ok`, for at most `limit`. The error at the deadline contains the last
/// `Err` value.
pub fn wait_for<T, E: Display>(
    what: impl Display,
    limit: Duration,
    mut observe: impl FnMut() -> std::result::Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match observe() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(anyhow!("waited {limit:?} for {what}; last seen: {last:#}"));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// Lets `window` pass, because the test then asserts that nothing happened in it: no condition can be waited
/// for. To wait for something that happens, use [`wait_for`].
pub fn observe_for(window: Duration) {
    std::thread::sleep(window);
}

/// Returns `Ok` if `condition` is true, else `seen` as the observation: usually the last line of an observer.
pub fn ensure<S>(condition: bool, seen: S) -> std::result::Result<(), S> {
    if condition { Ok(()) } else { Err(seen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_error_contains_last_observation() {
        let mut n = 0;
        let error = wait_for("three", Duration::from_millis(120), || {
            n += 1;
            Err::<(), _>(format!("{n} of 3"))
        });
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("for three") && text.contains(&format!("{n} of 3")), "{text}");
    }
}
