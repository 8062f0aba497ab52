//! Size of the binaries.

use std::fs;

use anyhow::Result;

use crate::table::{Section, megabytes};
use fairlead_lab::binaries;

/// The programs that an installation contains.
const PROGRAMS: [&str; 3] = ["fairlead-controller", "fairlead-speaker", "fairlead"];

/// Runs the measure.
///
/// # Errors
/// If a daemon is not built.
pub(crate) fn measure() -> Result<Section> {
    let mut section = Section::new("Binaries", ["size"]);
    for name in PROGRAMS {
        match binaries::find(name) {
            Ok(path) => section.row(name, [megabytes(fs::metadata(path)?.len())]),
            // A cluster runs without the command-line tool.
            Err(_) if name == "fairlead" => section.row(name, ["not built".to_owned()]),
            Err(error) => return Err(error),
        }
    }
    Ok(section)
}
