//! The sockets of the speaker, and netlink. Linux only.
//!
//! Sockets only: this crate makes no decisions, and no file descriptor leaves it. Each socket type registers
//! with the Tokio runtime, receives with a cancel-safe `recv` and sends without waiting; those of BFD
//! and of echo requests are for threads without Tokio.
//!
//! | file | contents |
//! |---|---|
//! | `arp.rs` | [`ArpSocket`]: ARP requests and replies of one interface in, Ethernet frames out |
//! | `ndp.rs` | [`NdpSocket`]: neighbor solicitations and advertisements of one interface in, advertisements out, groups; [`RouterDiscoverySocket`] |
//! | `default_routes.rs` | [`default_routes::Monitor`]: the gateways of the default routes |
//! | `inquiry.rs` | [`InquirySocket`]: asks hosts on the link; [`neighbors`]: the hosts that the kernel knows |
//! | `udp.rs` | [`DualStackUdpSocket`]: datagrams of the mesh |
//! | `tcp.rs` | [`tcp::connect`], [`tcp::Listener`]: connections with the options of BGP |
//! | `bfd.rs` | [`bfd`]: datagrams of BFD, with TTL and arrival time |
//! | `echo.rs` | [`EchoSocket`]: ICMP echo requests and their replies |
//! | `scheduling.rs` | [`Scheduling`]: priority of a thread |
//! | `links.rs` | [`links::Monitor`]: the interfaces of the node and their addresses |
//! | `packet.rs`, `filter.rs` | AF_PACKET sockets and their BPF programs |
//! | `sys.rs` | system calls, socket options and addresses that no library offers |
//!
//! This is the only crate of the speaker with `unsafe` code. All of it is in `sys.rs` and its modules, and a
//! comment on every block states why it is sound.

#![deny(unsafe_code)]

mod arp;
pub mod bfd;
pub mod default_routes;
mod echo;
mod filter;
mod inquiry;
pub mod links;
mod ndp;
mod packet;
mod scheduling;
#[allow(unsafe_code)]
mod sys;
pub mod tcp;
mod udp;

pub use arp::ArpSocket;
pub use echo::EchoSocket;
pub use inquiry::{InquirySocket, neighbors};
pub use ndp::{NdpMessage, NdpSocket, RouterDiscoverySocket};
pub use scheduling::{Scheduling, shorten_slice};
pub use udp::DualStackUdpSocket;
