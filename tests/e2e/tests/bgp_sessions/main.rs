//! Options of BGP sessions, towards FRR and BIRD: the TTL, graceful restart, drains, shutdown, and
//! announcements that wait for the data path.

#![allow(clippy::unwrap_used)]

mod data_path;
mod drain;
mod restart;
mod setup;
mod shutdown;
mod ttl;
