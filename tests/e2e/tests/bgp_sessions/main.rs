//! Options of BGP sessions, towards FRR and BIRD: the TTL, graceful restart, drains, shutdown.

#![allow(clippy::unwrap_used)]

mod drain;
mod restart;
mod setup;
mod shutdown;
mod ttl;
