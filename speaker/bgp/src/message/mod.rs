//! The wire format (RFC 4271 §4).
pub mod notification;
