//! BIRD, GoBGP, ExaBGP and FRR as peers of the same speakers: the exact routes that each learns, and the
//! messages of both sides when a session ends.

#![allow(clippy::unwrap_used)]

mod endings;
mod link_local;
mod refusals;
mod scale;
mod setup;
mod tables;
