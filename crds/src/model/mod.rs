//! Plain, validated values: what [`crate::resolve`] makes out of objects, and what decisions read of Services and claims.

pub mod advertisement;
pub mod claim;
pub mod config;
pub mod family;
pub mod labels;
pub mod peer;
pub mod pool;
pub mod range;
pub mod selector;
pub mod service;
