//! Gives Services external addresses out of IPAddressPools.

use std::process::ExitCode;

use fairlead_controller::flags::Flags;
use fairlead_controller::run::run;
use fairlead_runtime::{flags, logging};

/// One thread: decisions are made one after the other anyway, and writes are mostly waiting.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags: Flags = flags::parse();
    logging::init(&flags.common);
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
