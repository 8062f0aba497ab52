//! Instruction counts, by callgrind.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scenario::Operations;
use crate::{all, measured};

/// The argument with which the child process runs a scenario once, under callgrind.
pub(crate) const MODE: &str = "--count";

/// Runs the case at a position in [`all`]. Warm-up runs come first, because the first run after the setup
/// includes work of the memory allocator that later runs do not have.
pub(crate) fn run_once(number: usize) {
    let (_, case, n) = all()[number];
    let mut scenario = (case.make)(n);
    let warm_up_runs = match case.operations {
        Operations::One => 20,
        Operations::Batch => 1,
        Operations::N => 0,
    };
    for _ in 0..warm_up_runs {
        scenario.restore();
        scenario.run();
    }
    scenario.restore();
    measured(&mut *scenario);
}

pub(crate) fn is_valgrind_installed() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Returns the instructions of one run, by position in [`all`]. Cases run in parallel, because counts are
/// independent of other load.
pub(crate) fn count(numbers: &[usize]) -> BTreeMap<usize, f64> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = count_one(number);
            if let (Some(count), Ok(mut counts)) = (count, counts.lock()) {
                counts.insert(number, count);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    counts.into_inner().unwrap_or_default()
}

fn count_one(number: usize) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=allocation::measured*")
        .arg(std::env::current_exe().ok()?)
        .args([MODE, &number.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.split(':').nth(1)?.trim().parse().ok().filter(|count| *count > 0.0)
}
