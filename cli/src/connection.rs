//! The connection to the cluster by the rules of kubectl, and the instance of Fairlead in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use fairlead_crds::model::instance::Instance;
use fairlead_runtime::client::{self, Connection, Error, chain};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The options of every subcommand that reads the cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Cluster {
    /// Kubeconfig file; if unset, the files in $KUBECONFIG, then ~/.kube/config, then the in-cluster
    /// configuration
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; if unset, its current context
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace of Services; if unset, that of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Services of all namespaces
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub all_namespaces: bool,

    /// Namespace of Fairlead
    #[arg(long, global = true, env = "FAIRLEAD_NAMESPACE", value_name = "NAMESPACE")]
    #[arg(default_value = "fairlead-system")]
    pub fairlead_namespace: String,

    /// Value of --lb-class of the controller
    #[arg(long, global = true, env = "FAIRLEAD_LB_CLASS", value_name = "CLASS")]
    pub lb_class: Option<String>,
}

/// A connection, and the namespace of the context.
pub(crate) struct Target {
    pub connection: Connection,
    /// The namespace of Services whose name contains none.
    pub namespace: String,
}

impl Cluster {
    /// Returns the instance of Fairlead.
    pub(crate) fn instance(&self) -> Instance {
        let class = self.lb_class.clone().filter(|class| !class.is_empty());
        Instance { class, namespace: self.fairlead_namespace.clone() }
    }

    /// Creates a client. Sends nothing.
    ///
    /// # Errors
    /// Returns an error if there is no valid configuration.
    pub(crate) async fn connect(&self) -> Result<Target> {
        let config = match self.files()? {
            Some(files) => self.read_files(&files).await?,
            None if self.context.is_some() => {
                bail!("--context needs a kubeconfig: set --kubeconfig or $KUBECONFIG");
            }
            None => Config::incluster().map_err(|error| Error::InCluster { why: chain(&error) })?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Target { connection: client::connect_with(config)?, namespace })
    }

    async fn read_files(&self, files: &[PathBuf]) -> Result<Config> {
        let names = || files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(":");
        let invalid = |why: String| Error::Kubeconfig { path: names().into(), why };
        let mut merged = Kubeconfig::default();
        for file in files {
            let next = Kubeconfig::read_from(file).and_then(|next| merged.clone().merge(next));
            merged = next.map_err(|error| invalid(chain(&error)))?;
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(merged, &options).await;
        Ok(config.map_err(|error| invalid(chain(&error)))?)
    }

    /// Returns the kubeconfig files; `None` if there are none.
    fn files(&self) -> Result<Option<Vec<PathBuf>>> {
        if let Some(file) = &self.kubeconfig {
            return Ok(Some(vec![file.clone()]));
        }
        if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            return existing(std::env::split_paths(&list)).context("$KUBECONFIG").map(Some);
        }
        let default = std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
        Ok(default.filter(|file| file.exists()).map(|file| vec![file]))
    }
}

/// Returns the files of a list that exist: kubectl ignores the others.
fn existing(list: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let named: Vec<PathBuf> = list.filter(|file| !file.as_os_str().is_empty()).collect();
    let files: Vec<PathBuf> = named.iter().filter(|file| file.exists()).cloned().collect();
    if files.is_empty() {
        let names: Vec<String> = named.iter().map(|file| file.display().to_string()).collect();
        bail!("no such file: {}", names.join(", "));
    }
    Ok(files)
}
