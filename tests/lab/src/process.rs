//! A process of the lab. It runs inside a namespace, writes its log to a file, and can be killed, stopped and
//! restarted.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};

use crate::netns::Netns;
use crate::sys::{self, Signal};
use crate::wait::{ensure, wait_for};

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name in messages and of the log file.
    pub name: String,
    /// Program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment variables in addition to those of the lab.
    pub env: Vec<(String, String)>,
    /// TCP port of `/metrics` and `/readyz`.
    pub http: Option<u16>,
}

impl Spec {
    /// Returns a specification of a process `name` that runs `program`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: Vec::new(), http: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the TCP port of `/metrics` and `/readyz`.
    #[must_use]
    pub fn http(mut self, port: u16) -> Self {
        self.http = Some(port);
        self
    }
}

/// A process inside a namespace. Dropping it does not end it; the end of the lab or a signal does.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    netns: Netns,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts `spec` inside `netns` and appends its output to `<logs>/<name>.log`.
    pub fn start(spec: Spec, netns: &Netns, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", spec.name));
        let process = Self { spec, netns: netns.clone(), log, child: Mutex::new(None) };
        process.spawn()?;
        Ok(process)
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Returns the path of the log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut child = self.child();
        let running = child.as_mut()?;
        matches!(running.try_wait(), Ok(None)).then(|| running.id())
    }

    /// Returns true while it runs.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        sys::signal(pid, signal).with_context(|| format!("signal {}", self.name()))
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.wait(Duration::from_secs(5)).map(drop)
    }

    /// Sends SIGTERM and waits for the end, at most `limit`.
    pub fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait(limit)
    }

    /// Sends SIGSTOP and waits until all threads are stopped. Sockets stay open.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::Stop)?;
        wait_for(format!("{} to be stopped", self.name()), Duration::from_secs(5), || {
            let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
            ensure(stands_still(pid)?, "a thread runs").map_err(Error::msg)
        })
    }

    /// Sends SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// Starts it again after it ended.
    pub fn spawn_again(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} still runs", self.name());
        }
        self.spawn()
    }

    /// Sends SIGTERM, waits for the end, and starts it again.
    pub fn restart(&self) -> Result<()> {
        self.terminate(Duration::from_secs(15))?;
        self.spawn()
    }

    /// Waits for its end.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        wait_for(format!("the end of {}", self.name()), limit, || match self.child().as_mut() {
            None => Err("never started".to_owned()),
            Some(child) => match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err(format!("process {} runs", child.id())),
                Err(error) => Err(error.to_string()),
            },
        })
    }

    /// Returns a counter or a gauge of its `/metrics`; labels are part of the name.
    ///
    /// # Errors
    /// If it does not respond, or does not export the metric.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.http_get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.with_context(|| format!("{} exports no {name}", self.name()))?;
        value.trim().parse().with_context(|| format!("{name} is {value:?}"))
    }

    /// Returns the sum of a counter or a gauge of its `/metrics` over all labels; 0 without any.
    ///
    /// # Errors
    /// If it does not respond.
    pub fn metric_sum(&self, name: &str) -> Result<u64> {
        let text = self.http_get("/metrics")?;
        let of = |line: &str| {
            line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' ')?.1.trim().parse::<u64>().ok()
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// Waits until its `/readyz` reports ready.
    pub fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        wait_for(format!("{} to be ready", self.name()), limit, || {
            let answer = self.readyz()?;
            ensure(answer.starts_with("HTTP/1.1 200"), answer).map_err(Error::msg)
        })
    }

    /// Returns the response of its `/readyz`, with the header.
    pub fn readyz(&self) -> Result<String> {
        self.http_get("/readyz")
    }

    fn http_get(&self, path: &str) -> Result<String> {
        let port = self.spec.http.with_context(|| format!("{} has no HTTP port", self.name()))?;
        let answer = self.netns.run(|| -> io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        answer.with_context(|| format!("{path} of {}", self.name()))
    }

    /// Returns the last lines of its log, for messages.
    pub fn tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn spawn(&self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.spec.program);
        command
            .args(&self.spec.args)
            .envs(self.spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C of the terminal ends the lab, which ends its processes in order.
            .process_group(0);
        // A child inherits the namespace of the thread that spawns it.
        let child = self
            .netns
            .run(|| command.spawn())?
            .with_context(|| format!("start {} ({})", self.name(), self.spec.program.display()))?;
        *self.child() = Some(child);
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if a signal has stopped every thread of a process, according to `/proc/pid/task/tid/stat`
/// (proc(5)).
fn stands_still(pid: u32) -> Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // The state follows the name, which is in parentheses and may contain any character.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}
