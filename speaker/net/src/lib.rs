//! The sockets of the speaker: AF_PACKET, ICMPv6, TCP options, netlink.
//!
//! Sockets only: no decision is made here, and nothing above knows a file descriptor. This is the one crate
//! of the speaker with `unsafe`, for the socket options and addresses that the libraries below do not offer;
//! all of it is in the module `sys`, every block with the reason why it is sound. Linux only.

#![deny(unsafe_code)]

mod arp;
pub mod filter;
pub mod links;
mod ndp;
mod packet;
#[allow(unsafe_code)]
mod sys;
pub mod tcp;
mod udp;

pub use arp::ArpSocket;
pub use ndp::{NdpMessage, NdpSocket};
pub use udp::DualStackUdpSocket;
