//! The addresses of Services and IPClaims, and the status that each object should have. Pure: no socket, no
//! clock, no Kubernetes client.
//!
//! [`ipam`] stores which Service holds which address and chooses addresses. [`reconcile`] stores the observed
//! objects and decides on their statuses. [`explain`] describes the decision on one Service.

#![forbid(unsafe_code)]

pub mod explain;
pub mod ipam;
pub mod reconcile;
