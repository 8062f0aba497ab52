//! Kubeconfig files and clients.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

/// Address and credentials of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Certificate of the certificate authority, PEM.
    pub ca: Option<String>,
    /// Bearer token.
    pub token: Option<String>,
}

impl Access {
    /// Returns the kubeconfig as YAML, with inline certificates.
    pub fn kubeconfig(&self) -> String {
        let mut cluster = json!({ "server": self.url });
        if let Some(ca) = &self.ca {
            cluster["certificate-authority-data"] = json!(BASE64.encode(ca));
        }
        let user = match &self.token {
            Some(token) => json!({ "token": token }),
            None => json!({}),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "fairlead", "cluster": cluster }],
            "users": [{ "name": "admin", "user": user }],
            "contexts": [{
                "name": "fairlead",
                "context": { "cluster": "fairlead", "user": "admin", "namespace": "default" },
            }],
            "current-context": "fairlead",
        });
        serde_yaml::to_string(&config).unwrap_or_default()
    }

    /// Writes the kubeconfig atomically, readable by its owner only.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(self.kubeconfig().as_bytes())?;
        std::fs::rename(&partial, path)
    }

    /// Returns a client configuration without retries, so that tests see each response.
    ///
    /// # Errors
    /// If the kubeconfig is unusable, for instance because of an invalid certificate.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig())?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(config)
    }

    /// Returns a client without retries.
    ///
    /// # Errors
    /// As [`Access::config`].
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        Ok(kube::Client::try_from(self.config().await?)?)
    }
}
