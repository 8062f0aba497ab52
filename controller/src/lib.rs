//! Gives Services external addresses out of `IPAddressPool`s.
//!
//! The crate `fairlead-allocator` decides. This one is the shell: [`run`] watches, lets it decide in one task, and writes.
//! [`leader`] says whether it may.

#![forbid(unsafe_code)]

pub mod api_client;
pub mod events;
pub mod flags;
pub mod leader;
pub mod mesh_secret;
pub mod metrics;
pub mod reconciler;
pub mod run;
pub mod watches;
pub mod write_queue;
