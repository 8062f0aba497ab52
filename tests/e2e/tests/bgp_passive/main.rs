//! Passive BGPPeers: FRR, BIRD and a scripted router connect to the speakers.

#![allow(clippy::unwrap_used)]

mod collision;
mod continuity;
mod keys;
mod routers;
mod scripted;
mod setup;
