//! A small in-memory Kubernetes API server for tests and the demo.
//!
//! It implements enough of the API for kube's client and for kubectl: discovery, tables, list and watch,
//! every kind of patch, server-side apply with field ownership, custom resources with schemas, and the
//! defaulting and validation of the kinds that Fairlead uses. It can inject faults: see [`Faults`].
//!
//! A request passes `http`, which parses it and implements tables, discovery and streams; `api`, which turns
//! it into one operation on the objects (strategies of `kinds`, schemas of `schema`, patches of `patch`); and
//! `store`, which holds the objects and the history for watches. Only `http`, `server` and `real` use sockets
//! and time.
//!
//! Most tests use [`Cluster`]: the built-in server, or a real kube-apiserver if `KUBEBUILDER_ASSETS` names
//! one.

#![allow(missing_docs, reason = "names of test helpers explain themselves")]

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
mod selectors;
mod server;
mod store;
mod tls;

pub use cluster::Cluster;
pub use faults::{Fault, Faults, Outage};
pub use kubeconfig::Access;
pub use options::Options;
pub use server::ApiServer;
