//! Memory and processor time of a process, read from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use fairlead_lab::Process;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Currently resident (`VmRSS`).
    pub resident: u64,
    /// Peak resident (`VmHWM`).
    pub peak: u64,
}

/// Returns the memory of a process of the lab.
///
/// # Errors
/// If it does not run.
pub(crate) fn memory(process: &Process) -> Result<Memory> {
    let pid = pid(process)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_memory(&status).with_context(|| format!("memory of {}", process.name()))
}

/// Returns the processor time that all threads of a process have used so far.
///
/// # Errors
/// If it does not run.
pub(crate) fn cpu(process: &Process) -> Result<Duration> {
    let pid = pid(process)?;
    // `/proc/PID/stat` counts in ticks of 10 ms; the scheduler's own count of each thread is in nanoseconds.
    // Threads that ended are missing from it, but the daemons keep theirs.
    let mut total = Duration::ZERO;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path().join("schedstat");
        if let Some(time) = read_schedstat(&path) {
            total += time;
        }
    }
    Ok(total)
}

/// Returns the processor time that the threads with this name have used so far.
///
/// # Errors
/// If the process does not run, or has no such thread.
pub(crate) fn thread_cpu(process: &Process, name: &str) -> Result<Duration> {
    let pid = pid(process)?;
    let mut total = None;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            && let Some(time) = read_schedstat(&path.join("schedstat"))
        {
            total = Some(total.unwrap_or(Duration::ZERO) + time);
        }
    }
    total.with_context(|| format!("{} has no thread {name}", process.name()))
}

/// Returns the processor time that the calling thread has used so far.
///
/// # Errors
/// If the kernel does not count it.
pub(crate) fn this_thread_cpu() -> Result<Duration> {
    read_schedstat(Path::new("/proc/thread-self/schedstat")).context("/proc/thread-self/schedstat")
}

fn pid(process: &Process) -> Result<u32> {
    process.pid().with_context(|| format!("{} does not run: {}", process.name(), process.tail(5)))
}

fn read_schedstat(path: &Path) -> Option<Duration> {
    // A thread may end between the listing and the reading.
    parse_schedstat(&fs::read_to_string(path).ok()?)
}

/// Returns the first field, the time on a processor in nanoseconds (Documentation/scheduler/sched-stats).
fn parse_schedstat(text: &str) -> Option<Duration> {
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let (number, unit) = line.trim().split_once(' ')?;
        (unit == "kB").then(|| number.parse::<u64>().ok()).flatten()?.checked_mul(1024)
    };
    Some(Memory { resident: field("VmRSS")?, peak: field("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_parsed_from_process_status() {
        let status = "Name:\tfairlead\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { resident: 1 << 20, peak: 2 << 20 }));
        assert_eq!(parse_memory("Name:\tzombie\nState:\tZ\n"), None);
    }

    #[test]
    fn schedstat_begins_with_nanoseconds() {
        assert_eq!(parse_schedstat("1500000 20 3\n"), Some(Duration::from_micros(1500)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn processor_time_of_this_process_grows() {
        let spin: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(spin > 0);
        let path = format!("/proc/self/task/{}/schedstat", std::process::id());
        assert!(read_schedstat(Path::new(&path)).is_some());
    }
}
