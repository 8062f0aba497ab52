//! The API of Fairlead: kinds, validation, and resolution into plain configuration.

#![forbid(unsafe_code)]

pub mod api;
pub mod claim;
pub mod config;
pub mod family;
pub mod keys;
pub mod lookup;
pub mod manifests;
pub mod range;
pub mod resolve;
pub mod selector;
pub mod service;
