//! Size of the binaries.

use std::fs;

use anyhow::Result;

use crate::table::{Section, megabytes};
use fairlead_lab::binaries;

/// The programs that are installed.
const PROGRAMS: [&str; 3] = ["fairlead-controller", "fairlead-speaker", "fairlead"];

/// Measures.
///
/// # Errors
/// When one of the daemons is not built.
pub(crate) fn measure() -> Result<Section> {
    let mut section = Section::new("Binaries", ["size"]);
    for name in PROGRAMS {
        match binaries::find(name) {
            Ok(path) => section.row(name, [megabytes(fs::metadata(path)?.len())]),
            // The command-line tool is not needed to run a cluster.
            Err(_) if name == "fairlead" => section.row(name, ["not built".to_owned()]),
            Err(error) => return Err(error),
        }
    }
    Ok(section)
}
