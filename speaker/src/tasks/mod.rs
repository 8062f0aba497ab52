//! The shells that carry out the plan: they own sockets and timers, and decide nothing.

pub(crate) mod bgp;
pub(crate) mod l2;
pub(crate) mod links;
pub(crate) mod mesh;
pub(crate) mod speaker_object;

use std::time::Instant;

use tokio::time::sleep_until;

/// Waits until then; for ever if there is no such time.
pub(crate) async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
