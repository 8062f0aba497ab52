//! The API of Fairlead: kinds, validation, and resolution into plain configuration.

#![forbid(unsafe_code)]

pub mod config;
pub mod range;
pub mod selector;
pub mod service;
