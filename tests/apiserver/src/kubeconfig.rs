//! How a client gets in: kubeconfig files and clients.

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
    /// Certificate of the authority, PEM.
    pub ca: Option<String>,
    /// Bearer token.
    pub token: Option<String>,
}

impl Access {
    /// The kubeconfig as YAML, everything inline.
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

    /// Writes the kubeconfig, readable by its owner only; the file appears whole or not at all.
    ///
    /// # Errors
    /// Those of writing the file.
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

    /// A client configuration without retries: tests want to see each answer.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, for instance for a bad certificate.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig())?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(config)
    }

    /// A client, without retries.
    ///
    /// # Errors
    /// As [`Access::config`].
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        Ok(kube::Client::try_from(self.config().await?)?)
    }
}
