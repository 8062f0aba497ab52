//! The client of the API server.

use std::path::PathBuf;
use std::time::Duration;

use fairlead_crds::text;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapErrLayer;

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

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the API server {server}")]
struct Unreachable {
    server: String,
    source: BoxError,
}

/// A client, and the API server that it sends to.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Connection {
    /// Errors of requests that get no response name the server.
    pub client: Client,
    /// URL of the API server for messages, without credentials.
    pub server: String,
}

/// Creates a client as the flags define: from `--kubeconfig` (or `$KUBECONFIG`), else from the in-cluster
/// configuration. Sends nothing.
///
/// The client does not retry requests: each caller backs off by itself.
///
/// # Errors
/// See [`Error`].
pub async fn connect(flags: &Common) -> Result<Connection, Error> {
    let config = match &flags.kubeconfig {
        Some(path) => {
            let invalid = |why: String| Error::Kubeconfig { path: path.clone(), why };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| invalid(chain(&e)))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| invalid(chain(&e)))?
        }
        None => Config::incluster().map_err(|e| Error::InCluster { why: chain(&e) })?,
    };
    connect_with(config)
}

/// Creates a client of this configuration; see [`connect`].
///
/// # Errors
/// [`Error::Setup`].
pub fn connect_with(mut config: Config) -> Result<Connection, Error> {
    config.connect_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    let server = without_credentials(&config.cluster_url);
    match ClientBuilder::try_from(config) {
        Ok(builder) => {
            let name = server.clone();
            let layer = MapErrLayer::new(move |error| name_server(&name, error));
            Ok(Connection { client: builder.with_layer(&layer).build(), server })
        }
        Err(error) => Err(Error::Setup { url: server, why: chain(&error) }),
    }
}

/// Adds the URL to an error of the connection. Errors of kube, such as failed credentials, stay as they are.
fn name_server(server: &str, source: BoxError) -> BoxError {
    if source.is::<kube::Error>() {
        return source;
    }
    Unreachable { server: server.to_owned(), source }.into()
}

/// Returns a URL without user name, password and query.
fn without_credentials(url: &axum::http::Uri) -> String {
    let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default());
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", url.path().trim_end_matches('/'))
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

    #[test]
    fn server_is_shown_without_credentials() {
        for (url, shown) in [
            ("https://192.0.2.1:6443/", "https://192.0.2.1:6443"),
            ("https://user:secret@api.example.com/cluster?token=secret", "https://api.example.com/cluster"),
            ("https://[2001:db8::1]:6443", "https://[2001:db8::1]:6443"),
        ] {
            assert_eq!(without_credentials(&url.parse().unwrap()), shown);
        }
    }

    #[tokio::test]
    async fn error_names_the_missing_kubeconfig() {
        let error = connect(&flags("/nonexistent/kubeconfig")).await.err().unwrap().to_string();
        assert!(error.starts_with("kubeconfig /nonexistent/kubeconfig: "), "{error}");
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
