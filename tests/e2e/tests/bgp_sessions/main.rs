//! Options of BGP sessions, towards FRR and BIRD: the TTL, graceful restart, drains, shutdown, and when a
//! node announces an address.

#![allow(clippy::unwrap_used)]

mod data_path;
mod drain;
mod restart;
mod setup;
mod shutdown;
mod ttl;
