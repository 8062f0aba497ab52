//! A cluster made of network namespaces on one machine: a bridge, nodes with pods, a control plane, an FRR
//! router, a client on the LAN and one behind the router. Packets and sockets are real, and stay inside the
//! lab's namespaces.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use fairlead_lab::{Carrier, Lab};
//! let lab = Lab::builder().nodes(3).start()?;
//! lab.api()?.apply("apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\n…")?;
//! lab.cut("n1", Carrier::Lost)?;
//! # Ok(())
//! # }
//! ```
//!
//! [`addresses`] lists the addresses.

#![allow(missing_docs, reason = "names of test helpers explain themselves")]

pub mod addresses;
pub mod api;
mod api_server;
pub mod binaries;
mod capture;
pub mod cluster;
pub mod demo;
mod dissect;
pub mod endpoints;
pub mod frame;
mod lab;
pub mod netns;
pub mod peers;
pub mod pod;
mod probe;
mod process;
pub mod proxy;
mod proxy_metrics;
mod questions;
pub mod root;
mod route_monitor;
mod router;
pub mod state;
pub mod sys;
mod topology;
mod wait;

pub use addresses::Mac;
pub use api::Api;
pub use api_server::{ApiServer, Outage};
pub use capture::{Capture, Captured};
pub use dissect::BgpRecording;
pub use frame::{Frame, Message};
pub use lab::{Builder, Carrier, Lab, LabNode, Lost, NAMESPACE, pod_name};
pub use probe::{Answer, Client, LATE, Stream, StreamReport, Transport};
pub use process::{Process, Spec};
pub use questions::{Questions, QuestionsReport};
pub use route_monitor::{RouteEvent, RouteMonitor};
pub use router::{Family, Router, RouterSession, Routes};
pub use topology::{LAN_INTERFACE, Network, NodeNetwork, Size};
pub use wait::{ensure, observe_for, wait_for};
