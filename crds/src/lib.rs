//! The API of Fairlead: kinds, validation, and resolution into plain configuration.

#![forbid(unsafe_code)]

pub mod conditions;
pub mod kinds;
pub mod manifests;
pub mod model;
pub mod names;
pub mod resolve;
pub mod store;
pub mod v1beta1;
