//! A daemon observed through its log and its HTTP endpoints.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest time for an expected state to be reached.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The running program. It is killed at the end of the test.
pub struct Daemon {
    child: Child,
    metrics: SocketAddr,
    directory: PathBuf,
}

impl Daemon {
    /// Starts a program with these arguments. Nothing listens on the port of its API server, whose URL
    /// contains a user and a password. Returns the daemon and the URL without them.
    pub fn start_without_api_server(program: &str, arguments: &[&str]) -> (Self, String) {
        let server = free_address();
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: a, contexts: [{{name: a, context: {{cluster: a, \
             user: a}}}}], users: [{{name: a, user: {{}}}}], clusters: [{{name: a, cluster: {{server: \
             \"http://user:secret@{server}/?token=secret\"}}}}]}}"
        );
        (Self::start(program, arguments, &kubeconfig), format!("http://{server}"))
    }

    /// Starts a program with these arguments and this kubeconfig.
    pub fn start(program: &str, arguments: &[&str], kubeconfig: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let metrics = free_address();
        let name = PathBuf::from(program).file_name().unwrap().to_owned();
        let directory =
            std::env::temp_dir().join(name).with_extension(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("kubeconfig"), kubeconfig).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .args(["--metrics-addr", &metrics.to_string(), "--kubeconfig"])
            .arg(directory.join("kubeconfig"))
            .stderr(File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, metrics, directory }
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// Returns the lines of the log that contain this text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Returns the HTTP response for a path; empty if the daemon does not respond.
    pub fn get(&self, path: &str) -> String {
        let mut response = String::new();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut exchange = || {
            let mut stream = TcpStream::connect(self.metrics)?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut response)
        };
        let _ = exchange();
        response
    }

    /// Waits until the log and `/readyz` name an API server that is unreachable, and fails if they contain
    /// its password.
    pub fn assert_names_server(&self, url: &str) {
        let outage = format!("the API server {url} is unavailable: ");
        self.wait("/readyz names the server", |daemon| daemon.get("/readyz").contains(&outage));
        let line = "the API server is unavailable; retrying";
        self.wait("the log names the server", |daemon| {
            daemon.log().lines().any(|logged| logged.contains(line) && logged.contains(url))
        });
        let texts = self.log() + &self.get("/readyz");
        assert!(!texts.contains("secret"), "{texts}");
    }

    /// Waits until a condition holds.
    pub fn wait(&self, condition: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !holds(self) {
            assert!(Instant::now() < end, "not within {TIMEOUT:?}: {condition}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns an address of the loopback interface on which nothing listens.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
