//! A small in-memory Kubernetes API server for tests and the demo.
//!
//! It speaks enough of the API for kube's client and for kubectl: discovery, tables, list and watch, every kind of
//! patch, server-side apply with ownership, custom resources with schemas, and the defaulting and validation that a
//! cluster does for the kinds Fairlead uses. It can also misbehave on demand: see [`Faults`].
//!
//! The way of a request: `http` reads it and knows about tables, discovery and streams; `api` turns it into one
//! operation on the objects (strategies of `kinds`, schemas of `schema`, patches of `patch`); `store` holds the objects
//! and the history that watches read. Only `http`, `server` and `real` know of sockets and time.
//!
//! [`Cluster`] is what most tests want: the built-in server, or a real kube-apiserver where `KUBEBUILDER_ASSETS` names
//! one.

mod api;
mod cluster;
pub(crate) mod failure;
mod faults;
mod http;
mod kinds;
mod kubeconfig;
mod options;
mod patch;
pub mod real;
mod schema;
mod selectors;
mod server;
mod store;
mod tls;

pub use cluster::Cluster;
pub use faults::{Fault, Faults, Outage};
pub use kubeconfig::Access;
pub use options::Options;
pub use server::ApiServer;
