//! Tests of the crate through its public API: packets in, packets out, simulated time. `docs/bfd.md` lists
//! them by the sentences of RFC 5880 that they check.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod control;
mod detection;
mod harness;
mod lateness;
mod packets;
mod pair;
mod state_machine;
mod table;
mod timers;
mod transmission;

use std::path::Path;

/// Returns the text of the files of a folder.
fn sources(folder: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn documented_tests_exist() {
    let folders = [
        "tests/suite",
        "tests",
        "../net/tests/namespaces",
        "../../tests/fuzz/tests/targets",
        "../../tests/e2e/tests/bfd",
        "../../tests/e2e/tests/bgp_sessions",
    ];
    let sources: String = folders.into_iter().map(sources).collect();
    let documented = include_str!("../../../../docs/bfd.md");
    let rows = documented.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let names = quoted.filter(|name| name.contains('_') && !name.contains('/'));
    let missing: Vec<&str> = names.filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/bfd.md names tests that do not exist: {missing:?}");
}
