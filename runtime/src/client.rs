//! The client of the API server.

use std::path::PathBuf;
use std::time::Duration;

use fairlead_crds::text;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
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
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let (next, is_last) = match error.downcast_ref() {
            // The message of kube contains the debug output of the whole response.
            Some(kube::Error::Api(status)) => (describe(status), true),
            _ => (error.to_string(), false),
        };
        if text.is_empty() {
            text = next;
        } else if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source().filter(|_| !is_last);
    }
    text::message(text).into_owned()
}

/// Describes a rejection by the API server.
fn describe(Status { message, reason, code, .. }: &Status) -> String {
    let message = if message.is_empty() { "rejected" } else { message };
    let reason = if reason.is_empty() { String::new() } else { format!(", {reason}") };
    format!("{message} (HTTP status {code}{reason})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Failure;

    fn flags(kubeconfig: &str) -> Common {
        Common { kubeconfig: Some(kubeconfig.into()), ..Common::default() }
    }

    #[test]
    fn rejection_is_described_without_debug_output() {
        let status = |message: &str, reason: &str| Status::failure(message, reason).with_code(403).boxed();
        let forbidden = kube::Error::Api(status("pods is forbidden", "Forbidden"));
        assert_eq!(chain(&forbidden), "pods is forbidden (HTTP status 403, Forbidden)");
        let failure = Failure::from(kube::Error::Api(status("a\nb", "")));
        assert_eq!(chain(&failure), "a\\nb (HTTP status 403)");
        assert_eq!(failure.to_string(), chain(&failure));
        let unreachable = kube::Error::Service("connection refused".into());
        assert!(chain(&unreachable).ends_with("connection refused"), "{}", chain(&unreachable));
    }

    #[tokio::test]
    async fn error_names_the_missing_kubeconfig() {
        let error = connect(&flags("/nonexistent/kubeconfig")).await.err().unwrap().to_string();
        assert!(error.starts_with("kubeconfig /nonexistent/kubeconfig: "), "{error}");
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
