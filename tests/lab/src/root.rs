//! Root, taken through sudo when needed.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::sys;

/// Variables that mean the same to the process that sudo starts.
const KEPT: &[&str] =
    &["FAIRLEAD_BIN_DIR", "KUBEBUILDER_ASSETS", "KEEP", "TMPDIR", "FAIRLEAD_LAB_LOG", "NO_COLOR", "TERM"];

/// Returns as root; otherwise replaces this process by itself under sudo.
pub fn become_root() -> Result<()> {
    if sys::is_root() {
        return Ok(());
    }
    let exe = std::env::current_exe()?;
    eprintln!("network namespaces need root: running {} through sudo", exe.display());
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
