//! The speaker of one node.

use std::process::ExitCode;

use fairlead_runtime::{client, flags, logging};
use fairlead_speaker::flags::Flags;

/// One thread: every step is short, and a second one would mostly have its own share of freed memory.
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
