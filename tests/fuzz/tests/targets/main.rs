//! One target per message and attribute. See the crate's documentation for how a run works.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bfd;
mod bgp;
mod l2;
mod mesh;
mod resolve;
