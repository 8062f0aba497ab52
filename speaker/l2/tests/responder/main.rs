//! The responder as seen from the network, in simulated time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod announcements;
mod answers;
mod fixture;
mod handover;
mod hostile;
mod interfaces;
mod probing;
mod yielding;
