//! Instructions, by callgrind.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scenario::Ops;
use crate::{all, measured};

/// Tells the program to do one act under callgrind.
pub(crate) const MODE: &str = "--count";

/// One act of a subject that has been through some already: the first after all was made tidies up the memory.
pub(crate) fn act(at: usize) {
    let (_, case, size) = all()[at];
    let mut subject = (case.make)(size);
    let before = match case.ops {
        Ops::One => 20,
        Ops::Batch => 1,
        Ops::EachOfN => 0,
    };
    for _ in 0..before {
        subject.restore();
        subject.act();
    }
    subject.restore();
    measured(&mut *subject);
}

/// Whether valgrind is there.
pub(crate) fn is_possible() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Instructions of one act, by its place in [`all`]. Counts do not depend on what else runs: several at a time.
pub(crate) fn instructions(which: &[usize]) -> BTreeMap<usize, f64> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(&at) = which.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = one(at);
            if let (Some(count), Ok(mut counts)) = (count, counts.lock()) {
                counts.insert(at, count);
            }
        }
    };
    std::thread::scope(|scope| {
        let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
        (0..at_a_time).for_each(|_| drop(scope.spawn(work)));
    });
    counts.into_inner().unwrap_or_default()
}

fn one(at: usize) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=allocation::measured*")
        .arg(std::env::current_exe().ok()?)
        .args([MODE, &at.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.split(':').nth(1)?.trim().parse().ok().filter(|count| *count > 0.0)
}
