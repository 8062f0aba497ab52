//! What the shells of controller and speaker share: flags, logging, health, metrics, requests, watches.
//!
//! Nothing here decides anything about addresses or announcements.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod client;
pub mod flags;
pub mod http;

pub mod logging;
pub mod request;
pub mod signal;
pub mod trimmed;
pub mod watch;
