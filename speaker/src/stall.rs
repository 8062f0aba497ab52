//! Test hook of debug builds: SIGUSR2 blocks the threads that have a Tokio runtime for five seconds. A test
//! shows that BFD does not depend on them. Release builds do not contain this module.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Time for which a signal blocks a thread.
const STALL: Duration = Duration::from_secs(5);

/// Blocks the thread of the current runtime at each signal. Returns only if no signal can be received.
pub(crate) async fn on_signal(thread: &'static str) {
    let Ok(mut signals) = signal(SignalKind::user_defined2()) else { return };
    while signals.recv().await.is_some() {
        tracing::warn!(thread, duration = ?STALL, "test hook: blocking the thread");
        std::thread::sleep(STALL);
    }
}
