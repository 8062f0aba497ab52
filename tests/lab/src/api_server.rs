//! The API server in the control plane's namespace: the built-in one, or a real kube-apiserver with etcd.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::addresses::{self, API_PORT, SERVICE_CIDRS};
use crate::binaries;
use crate::netns::{self, Netns};
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// Limit for the first response.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Rejects new connections to the API server in the namespace of the caller.
const REFUSE: &str = "\
table inet outage {
 chain input {
  type filter hook input priority 0;
  tcp dport 6443 tcp flags & (syn | ack) == syn reject with tcp reset
 }
}
";

/// How an API server is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The kernel resets connections and refuses new ones.
    Refuse,
    /// Connections stay open, but the server sends nothing.
    Hang,
}

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    netns: Netns,
    kubeconfig: PathBuf,
    server: Process,
    /// Storage of a real API server; it outlives the server's process.
    etcd: Option<Process>,
    outage: Mutex<Option<Outage>>,
}

impl ApiServer {
    /// Starts the server and waits for its first response.
    pub fn start(netns: &Netns, dir: &Path, logs: &Path) -> Result<Self> {
        let kubeconfig = dir.join("kubeconfig");
        let server = match (binaries::kubernetes("kube-apiserver"), binaries::kubernetes("etcd")) {
            (Some(apiserver), Some(etcd)) => Self::real(netns, dir, logs, kubeconfig, apiserver, etcd)?,
            _ => {
                let spec = Spec::new("apiserver", binaries::find("fairlead-apiserver")?)
                    .arg("--listen")
                    .arg(address().to_string())
                    .arg("--service-cidrs")
                    .arg(SERVICE_CIDRS)
                    .arg("--kubeconfig-out")
                    .arg(&kubeconfig);
                let server = Process::start(spec, netns, logs)?;
                Self { netns: netns.clone(), kubeconfig, server, etcd: None, outage: Mutex::new(None) }
            }
        };
        wait_for("the API server to listen", READY_WITHIN, || {
            if !server.server.is_running() {
                bail!("it ended: {}", server.server.tail(5));
            }
            if !server.kubeconfig.exists() {
                bail!("the API server has not written its kubeconfig");
            }
            server.netns.run(|| TcpStream::connect_timeout(&address(), Duration::from_secs(1)))??;
            Ok(())
        })?;
        Ok(server)
    }

    /// Kubeconfig of an administrator. The address is reachable from inside the lab.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns true for a real kube-apiserver.
    pub fn is_real(&self) -> bool {
        self.etcd.is_some()
    }

    /// Returns the server's process.
    pub fn process(&self) -> &Process {
        &self.server
    }

    /// Makes the server unavailable until [`Self::end_outage`]. Its objects remain.
    pub fn outage(&self, outage: Outage) -> Result<()> {
        let mut current = self.current();
        if current.is_some() {
            bail!("an outage of the API server is already in progress");
        }
        match outage {
            // While it is stopped, the kernel accepts connections into the backlog.
            Outage::Hang => self.server.stop()?,
            Outage::Refuse => {
                self.netns.feed(Command::new("nft").args(["-f", "-"]), REFUSE)?;
                // No new connection can arrive; existing ones end with a reset on both sides.
                let filter = format!("( sport = :{API_PORT} )");
                self.netns.output(Command::new("ss").args(["-K", "-tn", "state", "established", &filter]))?;
            }
        }
        *current = Some(outage);
        Ok(())
    }

    /// Ends an outage.
    pub fn end_outage(&self) -> Result<()> {
        let mut current = self.current();
        match *current {
            None => {}
            Some(Outage::Hang) => self.server.resume()?,
            Some(Outage::Refuse) => {
                self.netns.output(Command::new("nft").args(["delete", "table", "inet", "outage"]))?;
            }
        }
        *current = None;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn real(
        netns: &Netns,
        dir: &Path,
        logs: &Path,
        kubeconfig: PathBuf,
        apiserver: PathBuf,
        etcd: PathBuf,
    ) -> Result<Self> {
        let file = |name: &str| dir.join(name);
        let etcd = Spec::new("etcd", etcd)
            .arg(format!("--data-dir={}", file("etcd").display()))
            .args([
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
            ])
            .args(["--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync"]);
        let etcd = Process::start(etcd, netns, logs)?;
        let key = file("service-account.key");
        netns::output(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))
            .context("kube-apiserver requires a key for service accounts")?;
        let mut random = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(file("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
        let own = addresses::control_plane().v4;
        let spec = Spec::new("apiserver", apiserver)
            .arg("--etcd-servers=http://127.0.0.1:2379")
            .arg(format!("--advertise-address={own}"))
            .arg(format!("--secure-port={API_PORT}"))
            .arg(format!("--cert-dir={}", file("certs").display()))
            .arg(format!("--token-auth-file={}", file("tokens.csv").display()))
            .arg(format!("--service-cluster-ip-range={SERVICE_CIDRS}"))
            .arg("--authorization-mode=RBAC")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            // Without kube-controller-manager, no service account exists that this plugin could require.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg("--allow-privileged=true");
        let server = Process::start(spec, netns, logs)?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": {
                "server": format!("https://{}", address()), "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "admin", "user": { "token": token } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "admin" } }],
        });
        fs::write(&kubeconfig, serde_json::to_string_pretty(&config)?)?;
        Ok(Self { netns: netns.clone(), kubeconfig, server, etcd: Some(etcd), outage: Mutex::new(None) })
    }
}

fn address() -> SocketAddr {
    SocketAddr::new(addresses::control_plane().v4.into(), API_PORT)
}
