//! Gives Services external addresses out of `IPAddressPool`s.
//!
//! [`ipam`] knows who holds which address. [`decide`] follows the objects of the cluster and says what the status of
//! each should be. Both are pure. [`run`] is the shell: it watches, lets `decide` decide in one task, and writes. [`lease`]
//! says whether it may.

#![forbid(unsafe_code)]

pub mod decide;
pub mod events;
pub mod flags;
pub mod ipam;
pub mod lease;
pub mod metrics;
pub mod news;
pub mod run;
pub mod secret;
pub mod send;
pub mod task;
pub mod writer;

#[cfg(test)]
mod fixtures;
