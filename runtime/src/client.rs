//! The connection to the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

use crate::flags::Common;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum Error {
    /// The kubeconfig cannot be read or used.
    #[error("kubeconfig {}: {why}; give a readable one with --kubeconfig or $KUBECONFIG", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No kubeconfig was given and the process does not run in a pod.
    #[error("not in a cluster ({why}) and no kubeconfig given; use --kubeconfig or $KUBECONFIG")]
    InCluster {
        /// What is missing.
        why: String,
    },
    /// The client cannot be set up, for instance for a bad certificate.
    #[error("API server {url}: {why}")]
    Setup {
        /// Address of the API server.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// A client as the flags say: `--kubeconfig` (or `$KUBECONFIG`), else in-cluster. Nothing is sent yet.
///
/// Its requests are not retried: the callers back off themselves and know what may wait.
///
/// # Errors
/// See [`Error`]; each names what to change.
pub async fn connect(flags: &Common) -> Result<Client, Error> {
    let mut config = match &flags.kubeconfig {
        Some(path) => {
            let wrong = |why: String| Error::Kubeconfig { path: path.clone(), why };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| wrong(chain(&e)))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| wrong(chain(&e)))?
        }
        None => Config::incluster().map_err(|e| Error::InCluster { why: chain(&e) })?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    Client::try_from(config).map_err(|e| Error::Setup { url, why: chain(&e) })
}

/// An error with all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::LogFormat;

    fn flags(kubeconfig: &str) -> Common {
        Common {
            kubeconfig: Some(kubeconfig.into()),
            namespace: "fairlead-system".into(),
            lb_class: None,
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let error = connect(&flags("/nonexistent/kubeconfig")).await.err().unwrap().to_string();
        assert!(error.starts_with("kubeconfig /nonexistent/kubeconfig: "), "{error}");
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
