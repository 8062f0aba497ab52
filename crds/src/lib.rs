//! The API of Fairlead.
//!
//! - [`v1beta1`]: the kinds as the API server stores them, from which [`manifests`] generates the CRDs.
//! - [`resolve`]: validates objects of all configuration [`kinds`] and turns them into plain values.
//! - [`model`]: these values, and the parts of Services and claims that decisions need.
//! - [`store`]: the configuration objects of a cluster, kept up to date by watches.
//! - [`objects`] and [`read`]: objects of other kinds, and how objects are decoded that others wrote.
//! - [`text`]: bounds and output of text from outside.
//! - [`names`] and [`conditions`]: the names in the API, and how conditions are built.
//! - [`stopped_speaker`]: the status of a speaker that does not run.

#![forbid(unsafe_code)]

pub mod conditions;
pub mod kinds;
pub mod manifests;
pub mod model;
pub mod names;
pub mod objects;
pub mod read;
pub mod resolve;
pub mod stopped_speaker;
pub mod store;
pub mod text;
pub mod v1beta1;
