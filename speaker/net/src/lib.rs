//! The sockets of the speaker: AF_PACKET, ICMPv6, TCP options, netlink.
//!
//! Sockets only: no decision is made here, and nothing above knows a file descriptor. This is the one crate of the
//! speaker with `unsafe`, for socket options and calls that the libraries below do not offer; every block says why it
//! is sound. Linux only.

mod arp;
pub mod links;
mod ndp;
pub mod tcp;

pub use arp::ArpSocket;
pub use ndp::{NdpMessage, NdpSocket};
