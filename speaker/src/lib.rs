//! Announces the addresses of Services from a node, by ARP, NDP and BGP.
//!
//! [`plan`] decides, from plain values, what this node announces and why not the rest. Everything else is shell.

#![forbid(unsafe_code)]

pub mod plan;
