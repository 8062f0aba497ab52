//! Completion scripts and manual pages, from the definition of the command line.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;

/// Prints a completion script.
pub(crate) fn completion(mut command: Command, shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "fairlead", &mut script);
    crate::output::print(&String::from_utf8_lossy(&script), crate::output::Format::Json);
}

/// Writes a manual page for each command into a directory, which is created if it does not exist.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub(crate) fn manuals(command: Command, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}
