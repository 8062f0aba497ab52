//! The state of a lab outside its process, and its removal.
//!
//! Each lab has a folder `/run/fairlead-lab/<id>` (only root can create one there) and namespaces `<id>-…`. A
//! second process, the *reaper*, holds the read end of a pipe. When the lab's process ends, for whatever
//! reason, the pipe closes and the reaper removes the lab. A lab that must outlive its process sends `keep`
//! first. If both processes die, the next lab finds a folder without an owner and removes that lab.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::netns::{self, Netns};
use crate::sys::{self, Signal};
use crate::wait::wait_for;

/// Folder of the folders of all labs.
const RUN_DIR: &str = "/run/fairlead-lab";

/// The lab's connection to its reaper.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// Starts the reaper of the lab `id`.
    pub fn start(program: &Path, id: &str) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["reap", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C of the terminal must not end the reaper.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let pipe = child.stdin.take();
        fs::write(dir(id).join("reaper"), identity(child.id()).unwrap_or_default())?;
        Ok(Self { child, pipe })
    }

    /// Lets the lab outlive its process.
    pub fn keep(&mut self) -> Result<()> {
        self.say("keep")
    }

    /// Requests that the logs are kept, and returns their folder.
    pub fn keep_logs(&mut self, id: &str) -> Result<PathBuf> {
        self.say("logs")?;
        Ok(kept_logs(id))
    }

    fn say(&mut self, word: &str) -> Result<()> {
        let Some(pipe) = &mut self.pipe else { bail!("the reaper was released") };
        writeln!(pipe, "{word}").context("the reaper has ended")
    }
}

impl Drop for Reaper {
    /// Lets the reaper remove the lab, and waits for it.
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}

/// Main function of the reaper.
pub fn reap(id: &str) -> Result<()> {
    let mut keep_logs = false;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "keep" => {
                fs::write(dir(id).join("kept"), "")?;
                return Ok(());
            }
            "logs" => keep_logs = true,
            _ => {}
        }
    }
    destroy(id, keep_logs)
}

/// Creates the folder of a new lab under a free id: `fl` and four hexadecimal digits.
pub fn claim() -> Result<String> {
    let _lock = lock()?;
    // The process id alone is not enough: logs of an earlier lab of this process may exist under its id.
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let seed = std::process::id().wrapping_add(clock >> 8);
    for attempt in 0..1000 {
        let id = format!("fl{:04x}", seed.wrapping_mul(31).wrapping_add(attempt * 257) & 0xffff);
        match fs::create_dir(dir(&id)) {
            Ok(()) => {
                fs::create_dir(dir(&id).join("logs"))?;
                fs::write(dir(&id).join("owner"), identity(std::process::id()).unwrap_or_default())?;
                return Ok(id);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context("create the lab's folder"),
        }
    }
    bail!("no free lab id in {RUN_DIR}")
}

/// Returns the folder of a lab.
pub fn dir(id: &str) -> PathBuf {
    Path::new(RUN_DIR).join(id)
}

/// Returns the folder of a lab's logs.
pub fn logs(id: &str) -> PathBuf {
    dir(id).join("logs")
}

/// Returns the ids of the labs of this machine: running, kept or abandoned.
pub fn labs() -> Result<Vec<String>> {
    let entries = match fs::read_dir(RUN_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut ids: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    ids.retain(|id| is_id(id));
    ids.sort();
    Ok(ids)
}

/// Removes abandoned labs and returns their ids.
pub fn sweep() -> Result<Vec<String>> {
    let _lock = lock()?;
    let mut swept = Vec::new();
    for id in labs()? {
        if !is_kept(&id) && !is_alive(&dir(&id).join("owner")) && !is_alive(&dir(&id).join("reaper")) {
            destroy(&id, false)?;
            swept.push(id);
        }
    }
    Ok(swept)
}

/// Returns true if the lab was left running on purpose.
pub fn is_kept(id: &str) -> bool {
    dir(id).join("kept").exists()
}

/// Kills every process inside the lab's namespaces, and deletes the namespaces and the lab's folder.
pub fn destroy(id: &str, keep_logs: bool) -> Result<()> {
    if !is_id(id) {
        bail!("{id:?} is not the id of a lab");
    }
    let names = netns::list(&format!("{id}-"))?;
    let inodes: BTreeSet<u64> =
        names.iter().filter_map(|name| Netns::open(name).ok()?.inode().ok()).collect();
    wait_for(format!("the processes of lab {id} to end"), Duration::from_secs(10), || {
        let pids = processes_in(&inodes);
        for pid in &pids {
            let _ = sys::signal(*pid, Signal::Kill);
        }
        if pids.is_empty() { Ok(()) } else { Err(format!("processes {pids:?}")) }
    })?;
    netns::delete(&names)?;
    if keep_logs {
        copy_logs(&logs(id), &kept_logs(id))?;
    }
    match fs::remove_dir_all(dir(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Held while labs are created or removed, so that no incomplete lab is removed.
fn lock() -> Result<File> {
    fs::create_dir_all(RUN_DIR).with_context(|| format!("create {RUN_DIR}"))?;
    let file = File::create(Path::new(RUN_DIR).join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn kept_logs(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("fairlead-lab-{id}-logs"))
}

fn copy_logs(from: &Path, to: &Path) -> Result<()> {
    // Created new, so that nothing is written through a folder or link of another user in a shared /tmp.
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Accepts `fl` and four hexadecimal digits only, because an id becomes part of paths that are deleted.
fn is_id(id: &str) -> bool {
    id.strip_prefix("fl")
        .is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns the processes whose network namespace is one of `inodes`.
fn processes_in(inodes: &BTreeSet<u64>) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let namespace = fs::metadata(entry.path().join("ns/net")).ok()?;
            inodes.contains(&namespace.ino()).then_some(pid)
        })
        .collect()
}

/// Returns `PID START`, with the start time in ticks since boot, which distinguishes a later process with the
/// same id.
fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain any character; fields are counted after the last parenthesis.
    // Field 22 is the start.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    Some(format!("{pid} {}", fields.nth(18)?))
}

fn is_alive(file: &Path) -> bool {
    let Ok(recorded) = fs::read_to_string(file) else { return false };
    let pid = recorded.split(' ').next().and_then(|pid| pid.parse().ok());
    pid.and_then(identity).is_some_and(|now| now == recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_text_is_not_a_lab_id() {
        assert!(is_id("fl03af"));
        for not in ["", "fl", "fl03a", "fl03aff", "fl../x", "xx03af", "fl03a/"] {
            assert!(!is_id(not), "{not:?}");
        }
    }

    #[test]
    fn process_is_identified_by_id_and_start() {
        let me = identity(std::process::id()).unwrap();
        assert_eq!(me.split(' ').count(), 2);
        assert_eq!(identity(std::process::id()).unwrap(), me);
        assert!(identity(u32::MAX).is_none());
    }
}
