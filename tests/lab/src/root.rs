//! Obtains root through sudo where necessary.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::sys;

/// Environment variables that are passed to the process under sudo.
const KEPT: &[&str] =
    &["FAIRLEAD_BIN_DIR", "KUBEBUILDER_ASSETS", "KEEP", "TMPDIR", "FAIRLEAD_LAB_LOG", "NO_COLOR", "TERM"];

/// Returns if the process is root; otherwise replaces the process by itself under sudo.
pub fn become_root() -> Result<()> {
    if sys::is_root() {
        return Ok(());
    }
    let exe = std::env::current_exe()?;
    eprintln!("network namespaces need root: starting {} through sudo", exe.display());
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in KEPT {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    let error = command.arg(exe).args(std::env::args_os().skip(1)).exec();
    Err(error).context("run sudo")
}
