//! `fairlead-bench`: prints the figures of `docs/performance.md`.

use anyhow::Result;
use clap::Parser;
use fairlead_bench::Options;
use tracing_subscriber::EnvFilter;

/// Measures the running system from outside, in a cluster made of network namespaces.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("FAIRLEAD_LAB_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    fairlead_lab::root::become_root()?;
    fairlead_bench::run(&flags.options)
}
