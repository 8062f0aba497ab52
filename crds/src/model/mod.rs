//! Plain, validated values: the results of [`crate::resolve`], and the parts of Services and claims that
//! decisions need.
//!
//! Controller, speaker and command-line tool decide on these values only. The values of a [`config::Config`]
//! are valid, so that no code that receives them validates them again.

pub mod address_list;
pub mod advertisement;
pub mod claim;
pub mod community;
pub mod config;
pub mod delta;
pub mod family;
pub mod instance;
pub mod labels;
pub mod managers;
pub mod peer;
pub mod pool;
pub mod range;
pub mod route_request;
pub mod selector;
pub mod service;
pub mod special_use;
