//! A handle for either API server: the built-in one or a real one.

use crate::kubeconfig::Access;
use crate::options::Options;
use crate::real::RealApiServer;
use crate::server::ApiServer;

/// A running API server. It stops when dropped.
#[derive(Debug)]
pub enum Cluster {
    /// The server of this crate.
    BuiltIn(ApiServer),
    /// etcd and kube-apiserver.
    Real(Box<RealApiServer>),
}

impl Cluster {
    /// Starts the real kube-apiserver if `KUBEBUILDER_ASSETS` names one, else the built-in server.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start() -> anyhow::Result<Cluster> {
        match RealApiServer::assets() {
            Some(assets) => Ok(Cluster::Real(Box::new(RealApiServer::start(&assets).await?))),
            None => Cluster::built_in().await,
        }
    }

    /// Starts the built-in server with its defaults.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn built_in() -> anyhow::Result<Cluster> {
        Ok(Cluster::BuiltIn(ApiServer::start(Options::default()).await?))
    }

    /// Returns address and credentials of an administrator.
    pub fn access(&self) -> &Access {
        match self {
            Cluster::BuiltIn(server) => server.access(),
            Cluster::Real(server) => server.access(),
        }
    }

    /// Returns the kubeconfig of an administrator, as YAML.
    pub fn kubeconfig(&self) -> String {
        self.access().kubeconfig()
    }

    /// Returns a client of an administrator, without retries.
    ///
    /// # Errors
    /// As [`Access::config`].
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        self.access().client().await
    }

    /// Returns the built-in server, for fault injection.
    pub fn as_built_in(&self) -> Option<&ApiServer> {
        match self {
            Cluster::BuiltIn(server) => Some(server),
            Cluster::Real(_) => None,
        }
    }
}
