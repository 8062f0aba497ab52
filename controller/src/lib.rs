//! Allocates external addresses from `IPAddressPool`s to Services.
//!
//! The crate `fairlead-allocator` makes the decisions. This crate is the process around it: `watches` feed
//! `reconciler`, which runs the allocator in one task and writes the results through the `write_queue`.
//! [`leader`] elects the one controller that may write.

#![forbid(unsafe_code)]

mod api_client;
mod cooldowns;
mod departures;
mod events;
pub mod flags;
mod label_report;
pub mod leader;
mod mesh_secret;
pub mod metrics;
mod reconciler;
pub mod run;
mod speaker_reports;
mod timer;
mod watches;
mod write_queue;
