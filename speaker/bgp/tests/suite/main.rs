//! The session from outside: bytes in, bytes out, simulated time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod differential;
mod errors;
mod harness;
mod packets;
mod robustness;
mod routes;
mod session;
mod shutdown;
