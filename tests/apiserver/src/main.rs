//! `fairlead-apiserver`: the in-memory Kubernetes API server as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use fairlead_apiserver::{ApiServer, Options};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A small in-memory Kubernetes API server for tests and demos. Its objects are lost when it stops.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Address to listen on; port 0 selects a free port.
    #[arg(long, env = "FAIRLEAD_APISERVER_LISTEN", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Host that the kubeconfig names instead of the listening address.
    #[arg(long, env = "FAIRLEAD_APISERVER_ADVERTISE")]
    advertise: Option<String>,
    /// Write a kubeconfig of an administrator to this file.
    #[arg(long, alias = "write-kubeconfig", env = "FAIRLEAD_APISERVER_KUBECONFIG_OUT")]
    kubeconfig_out: Option<PathBuf>,
    /// Ranges of clusterIPs, the primary family first.
    #[arg(
        long,
        env = "FAIRLEAD_APISERVER_SERVICE_CIDRS",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    service_cidrs: Vec<IpNet>,
    /// Bearer token that requests must carry; without it, every request is permitted.
    #[arg(long, env = "FAIRLEAD_APISERVER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Serve HTTPS with a certificate that is created at the start.
    #[arg(long, env = "FAIRLEAD_APISERVER_TLS")]
    tls: bool,
    /// Number of events per kind that are kept for watches.
    #[arg(long, env = "FAIRLEAD_APISERVER_HISTORY", default_value_t = Options::default().history)]
    history: usize,
    /// Log filter, such as `info` or `fairlead_apiserver=debug`.
    #[arg(long, env = "FAIRLEAD_APISERVER_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&flags.log_level)?)
        .with_writer(std::io::stderr)
        .init();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let server = ApiServer::start(Options {
        listen: flags.listen,
        advertise: flags.advertise,
        service_cidrs: flags.service_cidrs,
        token: flags.token,
        tls: flags.tls,
        history: flags.history,
        ..Options::default()
    })
    .await?;
    if let Some(path) = &flags.kubeconfig_out {
        server.access().write_kubeconfig(path)?;
    }
    println!("fairlead-apiserver ready at {}", server.url());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.shutdown();
    Ok(())
}
