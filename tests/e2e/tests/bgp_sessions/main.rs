//! Options of BGP sessions, towards FRR, BIRD, GoBGP and ExaBGP: the TTL, limits, graceful restart, drains,
//! shutdown, unnumbered links, the default gateway, and when a node announces an address.

#![allow(clippy::unwrap_used)]

mod data_path;
mod drain;
mod gateway;
mod limits;
mod matrix;
mod multihop;
mod restart;
mod setup;
mod shutdown;
mod ttl;
mod unnumbered;
