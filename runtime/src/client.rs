//! The client of the API server.

use std::path::PathBuf;
use std::time::Duration;

use fairlead_crds::text;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::flags::Common;

/// The reason why no client can be created. The message names the remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The kubeconfig cannot be read or used.
    #[error("kubeconfig {}: {why}; set --kubeconfig or $KUBECONFIG to a valid file", path.display())]
    Kubeconfig { path: PathBuf, why: String },
    /// No kubeconfig is given, and the process does not run in a pod.
    #[error("not running in a cluster ({why}) and no kubeconfig given; set --kubeconfig or $KUBECONFIG")]
    InCluster { why: String },
    /// The client cannot be created, for example because of an invalid certificate.
    #[error("cannot create a client for API server {url}: {why}")]
    Setup { url: String, why: String },
}

/// Creates a client as the flags define: from `--kubeconfig` (or `$KUBECONFIG`), else from the in-cluster
/// configuration. Sends nothing.
///
/// The client does not retry requests: each caller backs off by itself.
///
/// # Errors
/// See [`Error`].
pub async fn connect(flags: &Common) -> Result<Client, Error> {
    let mut config = match &flags.kubeconfig {
        Some(path) => {
            let invalid = |why: String| Error::Kubeconfig { path: path.clone(), why };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| invalid(chain(&e)))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| invalid(chain(&e)))?
        }
        None => Config::incluster().map_err(|e| Error::InCluster { why: chain(&e) })?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    Client::try_from(config).map_err(|e| Error::Setup { url, why: chain(&e) })
}

/// Returns the message of an error with those of all its causes, on one line and bounded. Error texts of the
/// API server may quote objects.
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
    text::message(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(kubeconfig: &str) -> Common {
        Common { kubeconfig: Some(kubeconfig.into()), ..Common::default() }
    }

    #[tokio::test]
    async fn error_names_the_missing_kubeconfig() {
        let error = connect(&flags("/nonexistent/kubeconfig")).await.err().unwrap().to_string();
        assert!(error.starts_with("kubeconfig /nonexistent/kubeconfig: "), "{error}");
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
