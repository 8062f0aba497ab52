//! The speaker of one node.

use std::process::ExitCode;

use fairlead_runtime::{client, flags, logging};
use fairlead_speaker::flags::Flags;

/// Two threads: a long list that is being read must not delay a keepalive.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
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
