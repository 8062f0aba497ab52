//! Which address each Service and claim gets, and what status each object should have. Pure: no socket, no clock, no
//! Kubernetes client.
//!
//! [`ipam`] knows who holds which address. [`reconcile`] follows the objects of the cluster and says what the status of
//! each should be.

#![forbid(unsafe_code)]

pub mod ipam;
pub mod reconcile;
