//! A control group with a share of the processors, as the kubelet makes for the container of a speaker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fairlead_lab::Process;

/// The manifest with the request of the speaker.
const MANIFEST: &str = include_str!("../../../../config/speaker/daemonset.yaml");
/// Name prefix of the groups.
const PREFIX: &str = "fairlead-bench-";
/// SCHED_FIFO time of a group per period of 1 s, in microseconds, where the kernel demands one.
const REAL_TIME: &str = "200000";

/// A control group. Dropping it moves its processes back and deletes it.
#[derive(Debug)]
pub(super) struct CpuGroup {
    path: PathBuf,
    parent: PathBuf,
    /// The file and the value that set the share.
    share: String,
}

/// A mounted hierarchy with the cpu controller.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1: `cpu.shares`.
    Shares(PathBuf),
    /// Version 2: `cpu.weight`.
    Weight(PathBuf),
}

impl CpuGroup {
    /// Creates a group for a process, with the share of the speaker's manifest.
    ///
    /// # Errors
    /// If the machine has no cpu controller, or refuses a group.
    pub(super) fn create(process: &Process) -> Result<Self> {
        let request =
            millicores(MANIFEST).context("the manifest of the speaker requests no processor time")?;
        let (parent, file, value) = match hierarchy(&fs::read_to_string("/proc/mounts")?) {
            Some(Hierarchy::Shares(parent)) => (parent, "cpu.shares", shares(request)),
            Some(Hierarchy::Weight(parent)) => {
                // Refused where it is set already by another manager.
                let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
                (parent, "cpu.weight", weight(shares(request)))
            }
            None => bail!("no control groups with the cpu controller"),
        };
        let pid = process.pid().with_context(|| format!("{} does not run", process.name()))?;
        let path = parent.join(format!("{PREFIX}{pid}"));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let group = Self { path, parent, share: format!("{file} {value}") };
        fs::write(group.path.join(file), value.to_string()).context(file)?;
        // Only kernels with CONFIG_RT_GROUP_SCHED have the file, and there a group starts with none.
        let _ = fs::write(group.path.join("cpu.rt_runtime_us"), REAL_TIME);
        fs::write(group.path.join("cgroup.procs"), pid.to_string()).context("cgroup.procs")?;
        Ok(group)
    }

    /// Returns the share as text: `cpu.shares 20`.
    pub(super) fn share(&self) -> &str {
        &self.share
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines() {
            let _ = fs::write(self.parent.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Returns the hierarchy with the cpu controller, from the text of `/proc/mounts`.
fn hierarchy(mounts: &str) -> Option<Hierarchy> {
    let mut unified = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, path, kind, options, ..] = fields[..] else { continue };
        match kind {
            "cgroup" if options.split(',').any(|option| option == "cpu") => {
                return Some(Hierarchy::Shares(path.into()));
            }
            "cgroup2" => unified = Some(Path::new(path)),
            _ => {}
        }
    }
    let unified = unified?;
    let controllers = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    let has_cpu = controllers.split_whitespace().any(|controller| controller == "cpu");
    has_cpu.then(|| Hierarchy::Weight(unified.to_owned()))
}

/// Returns the processor time that a manifest requests, in thousandths of a core.
fn millicores(manifest: &str) -> Option<u64> {
    let (_, request) = manifest.split_once("requests: {cpu: ")?;
    request.split_once("m,")?.0.parse().ok()
}

/// Returns the kubelet's `cpu.shares` for a request.
fn shares(millicores: u64) -> u64 {
    (millicores * 1024 / 1000).max(2)
}

/// Returns the `cpu.weight` that container runtimes derive from `cpu.shares`.
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_follows_from_the_manifest_as_in_the_kubelet() {
        assert!(millicores(MANIFEST).is_some());
        assert_eq!(millicores("resources: {requests: {cpu: 20m, memory: 1Mi}}"), Some(20));
        assert_eq!(millicores("requests: {memory: 1Mi}"), None);
        assert_eq!([1, 20, 1000].map(shares), [2, 20, 1024]);
        assert_eq!([2, 20, 1024].map(weight), [1, 1, 39]);
    }

    #[test]
    fn hierarchy_with_cpu_controller_is_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n";
        assert_eq!(hierarchy(mounts), Some(Hierarchy::Shares("/sys/fs/cgroup/cpu,cpuacct".into())));
        assert_eq!(hierarchy("cgroup2 /nonexistent cgroup2 rw 0 0\n"), None);
    }
}
