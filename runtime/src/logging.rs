//! Logging to standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::flags::{Common, LogFormat};

/// Initializes logging as the flags define. Must be called once, before the first log event.
pub fn init(flags: &Common) {
    // The flag parser has validated the level: an invalid filter would log only errors.
    let filter = EnvFilter::new(&flags.log_level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match flags.log_format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
