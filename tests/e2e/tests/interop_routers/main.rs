//! BIRD, GoBGP, ExaBGP and FRR as peers of the same speakers: what each of them learns, word for word, and what both
//! sides say when something ends.

#![allow(clippy::unwrap_used)]

mod endings;
mod refusals;
mod setup;
mod tables;
