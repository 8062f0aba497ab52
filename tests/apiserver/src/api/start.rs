//! Objects that exist in a new cluster.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{Api, Ask, Target};
use crate::kinds::Door;

impl Api {
    /// Creates the namespaces and `default/kubernetes`.
    pub(super) fn populate(&mut self, ask: &Ask) -> anyhow::Result<()> {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            self.seed("namespaces", "", json!({ "metadata": { "name": name } }), ask)?;
        }
        let first = self.addresses.first().map(|ip| ip.to_string()).unwrap_or_default();
        self.seed(
            "services",
            "default",
            json!({
                "metadata": {
                    "name": "kubernetes",
                    "labels": { "component": "apiserver", "provider": "kubernetes" },
                },
                "spec": {
                    "clusterIP": first,
                    "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443 }],
                },
            }),
            ask,
        )
    }

    fn seed(&mut self, plural: &str, namespace: &str, object: Value, ask: &Ask) -> anyhow::Result<()> {
        let resource = self.registry.get("", "v1", plural).cloned();
        let resource = resource.ok_or_else(|| anyhow!("no resource {plural}"))?;
        let target =
            Target { resource, namespace: namespace.to_owned(), name: String::new(), door: Door::Object };
        self.create(&target, object, ask).map_err(|failure| anyhow!("{}", failure.message))?;
        Ok(())
    }
}
