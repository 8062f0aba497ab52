//! Plain, validated values: what [`crate::resolve`] makes out of objects, and what decisions read of Services and claims.

pub mod claim;
pub mod config;
pub mod family;
pub mod lookup;
pub mod range;
pub mod selector;
pub mod service;
