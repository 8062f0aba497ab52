//! The parts that the processes of controller and speaker have in common: flags, logging, HTTP endpoints,
//! requests, lists and watches. No decision about addresses or announcements is made here.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod build_info;
pub mod client;
pub mod flags;
pub mod http;
pub mod logging;
pub mod mesh_key;
pub mod pages;
pub mod request;
pub mod signal;
pub mod watch;
