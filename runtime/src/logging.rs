//! Log lines on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::flags::{Common, LogFormat};

/// Starts logging as the flags say. To be called once, before anything is logged.
pub fn init(flags: &Common) {
    // The flag was checked when it was parsed; what the filter cannot read would fall back to errors only.
    let filter = EnvFilter::new(&flags.log_level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match flags.log_format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
