//! Network namespaces: `ip netns` creates and names them, threads enter them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::sys;
use crate::wait::wait_for;

/// Where `ip netns` keeps its namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// An open network namespace.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    /// Opens the namespace that `ip netns` lists under `name`.
    pub fn open(name: &str) -> Result<Self> {
        let path = Self::path_of(name);
        let file = File::open(&path).with_context(|| format!("network namespace {}", path.display()))?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// Returns its name in `ip netns list`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the inode of the namespace, which equals that of `/proc/PID/ns/net` of every process inside.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Moves the calling thread into this namespace permanently.
    pub fn enter(&self) -> io::Result<()> {
        sys::enter_netns(self.file.as_fd())
    }

    /// Returns the link-local address of an interface. Waits for it: the kernel assigns it a moment after
    /// `ip link set up`, when the interface is operational.
    pub fn link_local(&self, interface: &str) -> Result<Ipv6Addr> {
        let what = format!("a link-local address of {interface}");
        wait_for(what, Duration::from_secs(10), || self.try_link_local(interface))
    }

    fn try_link_local(&self, interface: &str) -> Result<Ipv6Addr> {
        let arguments = ["-6", "-json", "addr", "show", "dev", interface, "scope", "link"];
        let text = self.output(Command::new("ip").args(arguments))?;
        let links: Value = serde_json::from_str(&text)?;
        // Addresses of another scope are empty entries.
        let mut addresses = links[0]["addr_info"].as_array().into_iter().flatten();
        let address = addresses.find_map(|address| address["local"].as_str());
        let address = address.with_context(|| text.clone())?;
        Ok(address.parse()?)
    }

    /// Runs `work` on a thread inside this namespace. Sockets that it opens and processes that it spawns stay
    /// inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(self.name.clone()).spawn_scoped(scope, || {
                self.enter()?;
                Ok::<T, io::Error>(work())
            })?;
            match thread.join() {
                Ok(result) => result.with_context(|| format!("enter network namespace {}", self.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a command inside this namespace to completion. Returns its standard output, or an error with its
    /// standard error.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| output(command))?
    }

    /// Writes `lines` to the standard input of a program inside this namespace.
    pub fn feed(&self, command: &mut Command, lines: &str) -> Result<String> {
        self.run(|| feed(command, lines))?
    }

    /// Writes kernel parameters, such as `("net/ipv4/ip_forward", "1")`. Those under `net/` belong to the
    /// namespace.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                // A path outside `net/` would change the host.
                if !key.starts_with("net/") {
                    bail!("{key} is not a parameter of a network namespace");
                }
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("sysctl {key}={value}"))?;
            }
            Ok(())
        })?
    }

    fn path_of(name: &str) -> PathBuf {
        Path::new(NETNS_DIR).join(name)
    }
}

/// Creates namespaces.
pub fn create(names: &[String]) -> Result<()> {
    let lines: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
    feed(Command::new("ip").args(["-batch", "-"]), &lines).map(drop)
}

/// Deletes namespaces. One that does not exist is not an error.
pub fn delete(names: &[String]) -> Result<()> {
    let lines: String = names.iter().map(|name| format!("netns delete {name}\n")).collect();
    let _ = feed(Command::new("ip").args(["-force", "-batch", "-"]), &lines);
    let left: Vec<_> = names.iter().filter(|name| Netns::path_of(name).exists()).collect();
    if left.is_empty() { Ok(()) } else { bail!("network namespaces that could not be deleted: {left:?}") }
}

/// Returns the names of the namespaces that start with `prefix`.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}

/// Runs a command to completion. Returns its standard output, or an error with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}: {}", done.status, said(&done));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Returns what a program printed. vtysh prints its errors to the standard output.
fn said(done: &Output) -> String {
    let [out, error] =
        [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    [error, out].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Runs a command with `input` as its standard input.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    };
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("{command:?}: {}: {}", done.status, said(&done));
    }
    written?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
