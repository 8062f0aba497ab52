//! A real etcd, kube-apiserver and, if it exists, kube-controller-manager from `KUBEBUILDER_ASSETS`, on
//! loopback, with credentials of their own.

mod process;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use rcgen::KeyPair;

use crate::kubeconfig::Access;
use crate::tls::Identity;
use process::{Daemon, Scratch};

/// Limit for the start of etcd and kube-apiserver, and then for kube-controller-manager.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The controllers whose effects tests expect. The node controllers are not among them: without kubelets,
/// they would taint every node and evict its pods.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,endpointslice-controller,\
                           serviceaccount-controller,root-ca-certificate-publisher-controller";

/// A running control plane. Dropping it kills its processes and removes their files.
#[derive(Debug)]
pub struct RealApiServer {
    access: Access,
    // Dropped in this order: a client before its server, the server before its storage, the files last.
    manager: Option<Daemon>,
    _apiserver: Daemon,
    _etcd: Daemon,
    _scratch: Scratch,
}

impl RealApiServer {
    /// Returns the folder with `etcd` and `kube-apiserver` from `KUBEBUILDER_ASSETS`. None if unset or empty.
    pub fn assets() -> Option<PathBuf> {
        std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()).map(PathBuf::from)
    }

    /// Starts them and waits until they work.
    ///
    /// # Errors
    /// If a binary is missing, ends early, or is not ready in time; the message contains the end of its log.
    pub async fn start(assets: &Path) -> anyhow::Result<RealApiServer> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        let [client, peer, secure] = free_ports()?;

        let etcd = Daemon::start(
            &assets.join("etcd"),
            &[
                format!("--data-dir={}", folder.join("etcd").display()),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                "--unsafe-no-fsync".into(),
            ],
            &folder.join("etcd.log"),
        )?;

        let identity = Identity::new(vec!["127.0.0.1".into(), "localhost".into()])?;
        let (cert, key) = (folder.join("server.crt"), folder.join("server.key"));
        fs::write(&cert, &identity.cert_pem)?;
        fs::write(&key, &identity.key_pem)?;
        let (private, public) = (folder.join("service-account.key"), folder.join("service-account.pub"));
        let service_account = KeyPair::generate()?;
        // kube-apiserver reads a private key in PKCS #8 only for signing.
        fs::write(&private, service_account.serialize_pem())?;
        fs::write(&public, service_account.public_key_pem())?;
        let token = random_token();
        let tokens = folder.join("tokens.csv");
        fs::write(&tokens, format!("{token},admin,admin,system:masters\n"))?;

        let apiserver = Daemon::start(
            &assets.join("kube-apiserver"),
            &[
                format!("--etcd-servers=http://127.0.0.1:{client}"),
                "--bind-address=127.0.0.1".into(),
                "--advertise-address=127.0.0.1".into(),
                format!("--secure-port={secure}"),
                format!("--tls-cert-file={}", cert.display()),
                format!("--tls-private-key-file={}", key.display()),
                format!("--cert-dir={}", folder.display()),
                format!("--token-auth-file={}", tokens.display()),
                "--authorization-mode=RBAC".into(),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", public.display()),
                format!("--service-account-signing-key-file={}", private.display()),
                "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".into(),
                // Pods of tests exist before the service accounts that this plugin requires.
                "--disable-admission-plugins=ServiceAccount".into(),
                "--allow-privileged=true".into(),
            ],
            &folder.join("kube-apiserver.log"),
        )?;

        let access = Access {
            url: format!("https://127.0.0.1:{secure}"),
            ca: Some(identity.ca_pem.clone()),
            token: Some(token),
        };
        let mut server =
            RealApiServer { access, manager: None, _apiserver: apiserver, _etcd: etcd, _scratch: scratch };
        server.wait_ready().await?;
        server.start_manager(&assets.join("kube-controller-manager")).await?;
        Ok(server)
    }

    /// Starts kube-controller-manager, if it exists, and waits until a controller works.
    async fn start_manager(&mut self, binary: &Path) -> anyhow::Result<()> {
        if !binary.is_file() {
            return Ok(());
        }
        let folder = self._scratch.path();
        let kubeconfig = folder.join("kubeconfig");
        self.access.write_kubeconfig(&kubeconfig)?;
        let arguments = manager_arguments(&kubeconfig);
        let manager = Daemon::start(binary, &arguments, &folder.join("kube-controller-manager.log"))?;
        let manager = self.manager.insert(manager);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.access.client().await?, "default");
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        while accounts.get_opt("default").await?.is_none() {
            manager.check()?;
            if tokio::time::Instant::now() > deadline {
                bail!("kube-controller-manager does not work in {READY_WITHIN:?}\n{}", manager.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns address and credentials of an administrator.
    pub fn access(&self) -> &Access {
        &self.access
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            self._etcd.check()?;
            self._apiserver.check()?;
            let request = http_get("/readyz")?;
            let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await;
            if let Ok(Ok(text)) = &answer
                && text.trim() == "ok"
                && takes_services(&client).await
            {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("kube-apiserver is not ready in {READY_WITHIN:?}\n{}", self._apiserver.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Returns the arguments of a kube-controller-manager that serves no port.
fn manager_arguments(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--controllers={CONTROLLERS}"),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

/// The server creates the default namespace, and then allocates clusterIPs, shortly after it is ready.
async fn takes_services(client: &kube::Client) -> bool {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let probe = Service {
        metadata: ObjectMeta { name: Some("probe".into()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort { port: 1, ..ServicePort::default() }]),
            ip_family_policy: Some("RequireDualStack".into()),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let pretend = PostParams { dry_run: true, ..PostParams::default() };
    services.create(&pretend, &probe).await.is_ok()
}

fn http_get(path: &str) -> anyhow::Result<axum::http::Request<Vec<u8>>> {
    Ok(axum::http::Request::get(path).body(Vec::new())?)
}

/// Returns free ports, all held until all are known.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?);
    }
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
