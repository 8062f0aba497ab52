//! Tests of the crate through its public API: bytes in, bytes out, simulated time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod attributes;
mod bfd;
mod capabilities;
mod differential;
mod drain;
mod errors;
mod floods;
mod fsm_table;
mod graceful_restart;
mod harness;
mod order;
mod packets;
mod parameters;
mod passive;
mod received;
mod robustness;
mod routes;
mod session;
mod shutdown;
