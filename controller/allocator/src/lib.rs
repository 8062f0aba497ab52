//! The addresses of Services and IPClaims, and the status that each object should have. Pure: no socket, no
//! clock, no Kubernetes client.
//!
//! [`ipam`] stores which Service holds which address and chooses addresses. [`reconcile`] stores the observed
//! objects and decides on their statuses. [`explain`] describes the decision on one Service.
//! [`silent_speakers`] decides which speakers do not respond.

#![forbid(unsafe_code)]

pub mod explain;
pub mod ipam;
pub mod reconcile;
pub mod silent_speakers;
