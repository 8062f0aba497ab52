//! The program `fairlead-speaker`.

use std::process::ExitCode;

use fairlead_runtime::{client, flags, logging};
use fairlead_speaker::flags::Flags;

/// Runs on one thread, except for the BGP sessions: every step is short, and each thread adds its own cache
/// of freed memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags: Flags = flags::parse();
    logging::init(&flags.common);
    match fairlead_speaker::run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fairlead-speaker: {}", client::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
