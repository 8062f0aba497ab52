//! Times, by divan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;

use crate::{all, measured};

/// The variable that makes the program a divan benchmark, and says which of [`all`] to measure.
pub(crate) const WHICH: &str = "FAIRLEAD_BENCH_WHICH";

/// One act is one sample: what puts things back is not within it.
#[divan::bench(args = which(), sample_size = 1, sample_count = 100, max_time = 2)]
fn act(bencher: divan::Bencher<'_, '_>, at: usize) {
    let (_, case, size) = all()[at];
    let subject = RefCell::new((case.make)(size));
    subject.borrow_mut().restore();
    measured(&mut **subject.borrow_mut());
    bencher
        .with_inputs(|| subject.borrow_mut().restore())
        .bench_local_values(|()| measured(&mut **subject.borrow_mut()));
}

fn which() -> Vec<usize> {
    let text = std::env::var(WHICH).unwrap_or_default();
    text.split_whitespace().filter_map(|one| one.parse().ok()).collect()
}

/// The median time of one act, in nanoseconds, by its place in [`all`].
pub(crate) fn medians(which: &[usize]) -> std::io::Result<BTreeMap<usize, f64>> {
    let names: Vec<String> = which.iter().map(ToString::to_string).collect();
    let output = Command::new(std::env::current_exe()?)
        .args(["--bench", "--color", "never"])
        .env(WHICH, names.join(" "))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(median).collect())
}

/// Of `├─ 17   1.2 µs │ 3.4 µs │ 1.3 µs │ …` name and median, which comes third.
fn median(line: &str) -> Option<(usize, f64)> {
    let mut columns = line.trim_start_matches(|c: char| !c.is_ascii_digit()).split('│');
    let name = columns.next()?.split_whitespace().next()?.parse().ok()?;
    let (number, unit) = columns.nth(1)?.trim().split_once(' ')?;
    let factor = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some((name, number.parse::<f64>().ok()? * factor))
}
