//! Times, by divan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;

use crate::{all, measured};

/// The environment variable that makes the program a divan benchmark. Its value lists positions in [`all`].
pub(crate) const CASES_VARIABLE: &str = "FAIRLEAD_BENCH_WHICH";

/// Each run is one sample, so that restoring the state is not measured.
#[divan::bench(args = selected(), sample_size = 1, sample_count = 100, max_time = 2)]
fn run(bencher: divan::Bencher<'_, '_>, number: usize) {
    let (_, case, n) = all()[number];
    let scenario = RefCell::new((case.make)(n));
    scenario.borrow_mut().restore();
    measured(&mut **scenario.borrow_mut());
    bencher
        .with_inputs(|| scenario.borrow_mut().restore())
        .bench_local_values(|()| measured(&mut **scenario.borrow_mut()));
}

fn selected() -> Vec<usize> {
    let text = std::env::var(CASES_VARIABLE).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Returns the median time of one run in nanoseconds, by position in [`all`].
pub(crate) fn medians(numbers: &[usize]) -> std::io::Result<BTreeMap<usize, f64>> {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let output = Command::new(std::env::current_exe()?)
        .args(["--bench", "--color", "never"])
        .env(CASES_VARIABLE, numbers.join(" "))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(median).collect())
}

/// Returns the name and the median, in nanoseconds, of a line of divan: `├─ 17   fastest │ slowest │ median │
/// …`.
fn median(line: &str) -> Option<(usize, f64)> {
    let mut columns = line.trim_start_matches(|c: char| !c.is_ascii_digit()).split('│');
    let number = columns.next()?.split_whitespace().next()?.parse().ok()?;
    let (value, unit) = columns.nth(1)?.trim().split_once(' ')?;
    let factor = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some((number, value.parse::<f64>().ok()? * factor))
}
