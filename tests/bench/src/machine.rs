//! Describes the machine that produced the figures.

use std::fmt;
use std::fs;

/// Properties of the machine that affect the figures.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: usize,
    kernel: String,
    memory: String,
    load: String,
}

impl Machine {
    /// Reads the properties.
    pub(crate) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kb = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(first_number);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel(&read("/proc/sys/kernel/osrelease")),
            memory: kb.map_or_else(|| "?".to_owned(), |kb| format!("{:.0} GB", kb as f64 / 1e6)),
            load: load(),
        }
    }
}

/// Returns the load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, kernel, memory, load } = self;
        let build = if cfg!(debug_assertions) { "debug: not the build that users run" } else { "release" };
        write!(f, "{cores} cores, Linux {kernel}, {memory} memory, load {load}; build: {build}")
    }
}

/// Returns the major and minor version; the rest names the builder.
fn kernel(release: &str) -> String {
    release.trim().split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_version_omits_builder() {
        for (release, shown) in [("6.1.0-31-amd64\n", "6.1"), ("6.18.4", "6.18"), ("7.0-rc1", "7.0")] {
            assert_eq!(kernel(release), shown);
        }
    }
}
