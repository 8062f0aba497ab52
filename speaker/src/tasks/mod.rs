//! The tasks that carry out the plan. They own sockets and timers; decisions are made in the pure crates.

pub(crate) mod bfd;
pub(crate) mod bgp;
mod command_queue;
pub(crate) mod data_path;
pub(crate) mod events;
pub(crate) mod gateways;
mod inquiry;
pub(crate) mod l2;
pub(crate) mod lateness_events;
pub(crate) mod links;
pub(crate) mod mesh;
pub(crate) mod mesh_key;
pub(crate) mod probe;
pub(crate) mod silent_speakers;
pub(crate) mod speaker_object;

use std::time::Instant;

use tokio::time::sleep_until;

/// Sleeps until the deadline; forever if there is none. Cancel safe.
pub(crate) async fn sleep_until_or_forever(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
