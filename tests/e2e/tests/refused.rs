//! A kubeconfig that the API server rejects: reported where an operator looks, and retried indefinitely
//! without harm.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fairlead_apiserver::{Access, ApiServer, Options};
use fairlead_lab::{binaries, ensure, wait_for};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns status line and body of a GET.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn rejected_kubeconfig_is_reported_and_retried() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = Options { token: Some("right".into()), tls: true, ..Options::default() };
    let server = runtime.block_on(ApiServer::start(options)).unwrap();
    let refused = Access { token: Some("wrong".into()), ..server.access().clone() };
    let folder = std::env::temp_dir().join(format!("fairlead-refused-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (kubeconfig, log) = (folder.join("kubeconfig"), folder.join("log"));
    refused.write_kubeconfig(&kubeconfig).unwrap();

    let metrics = free_port();
    let mut controller = Running(
        Command::new(binaries::find("fairlead-controller").unwrap())
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--metrics-addr", &metrics.to_string()])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    let deadline = Duration::from_secs(20);
    wait_for("the log to report that the API server rejects the client", deadline, || {
        let said = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        ensure(said.contains("Unauthorized"), said)
    })
    .unwrap();
    wait_for("/readyz to report what is missing", deadline, || {
        let answer = get(metrics, "/readyz").map_err(|error| error.to_string())?;
        ensure(answer.starts_with("HTTP/1.1 503") && answer.contains("waiting for"), answer)
    })
    .unwrap();
    let healthy = wait_for("/healthz to answer", deadline, || get(metrics, "/healthz")).unwrap();
    assert!(
        healthy.starts_with("HTTP/1.1 200"),
        "/healthz stays ok, because a restart would not help: {healthy}"
    );
    assert!(controller.0.try_wait().unwrap().is_none(), "the process still retries");
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.lines().count() < 40, "retries are not logged each: {said}");
    std::fs::remove_dir_all(&folder).unwrap();
}
