//! Allocates external addresses from IPAddressPools to Services.

use std::process::ExitCode;

use fairlead_controller::flags::Flags;
use fairlead_controller::run::run;
use fairlead_runtime::{flags, logging};

/// One thread suffices: decisions are sequential, and writes mostly wait for the API server.
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
