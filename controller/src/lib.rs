//! Allocates external addresses from `IPAddressPool`s to Services.
//!
//! The crate `fairlead-allocator` makes the decisions. This crate is the process around it: [`watches`] feed
//! [`reconciler`], which runs the allocator in one task and writes the results through the [`write_queue`].
//! [`leader`] elects the one controller that may write.

#![forbid(unsafe_code)]

pub mod api_client;
pub mod events;
pub mod flags;
pub mod leader;
pub mod mesh_secret;
pub mod metrics;
pub mod reconciler;
pub mod run;
mod timer;
pub mod watches;
pub mod write_queue;
